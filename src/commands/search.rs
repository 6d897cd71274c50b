//! `passbridge search`: the reads of a chip or of a bib, and what became of each.

use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::cloud::passing::Bibs;
use crate::commands::args::{self, Paths, TimesIn, load_keyless, load_right, print, running_box};
use crate::config::failure::Failure;
use crate::daemon::logging;
use crate::export::found::words::{details, header, line};
use crate::export::found::{LIMIT_MAX, SearchAnswer, SearchQuery, Sought};
use crate::export::search::Finder;
use crate::export::{ExportError, Reading};
use crate::model::source;
use crate::serve::control::{self, ControlError, ControlRequest};

/// `search`
#[derive(Clone, Debug, Args)]
pub(crate) struct SearchArgs {
    /// The code of a chip, as the decoder sends it or as it is uploaded, or a bib of the bib file. Upper
    /// and lower case are equal.
    #[arg(value_name = "CHIP_OR_BIB")]
    what: String,
    #[command(flatten)]
    place: Paths,
    /// From this time on: 10:00, 2026-03-06, 2026-03-06T10:00 (in the zone of this box, or of
    /// --timezone) or 2026-03-06T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only this decoder, by its configured name, with all its locations; or only NAME/LOCATION.
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,
    /// Show at most so many reads, the ones kept last.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=LIMIT_MAX as u64))]
    limit: u64,
    #[command(flatten)]
    times: TimesIn,
    /// As JSON, the same as /api/search; times in UTC.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Usage (64): no text, or a time that is none. Unavailable (69): there is no journal, or the daemon
/// gives no answer. I/O (74): the log cannot be read. Permission (77).
pub(crate) async fn run(args: SearchArgs) -> Result<(), Failure> {
    let what = args.what.trim();
    if what.is_empty() {
        return Err(Failure::usage("search what? Give the code of a chip, or a bib"));
    }
    let zone = args.times.zone();
    let (from, to) = args::span(args.from.as_deref(), args.to.as_deref(), &zone, Timestamp::now())?;
    let decoder = args.decoder.as_deref().map(Into::into);
    let query = SearchQuery { what: Sought::ChipOrBib(what.into()), decoder, from, to, limit: args.limit as usize };
    let answer = find(&args.place, &query).await?;
    if args.json {
        let text = serde_json::to_string(&answer).map_err(|error| Failure::io(error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    let shown = args.times.shown();
    let mut text = header(what, &answer);
    for read in &answer.reads {
        text += &format!("{}\n    {}\n", line(read, &shown), details(read, &shown));
    }
    if answer.more {
        text += &format!(
            "And more, which were kept before: --limit shows up to {LIMIT_MAX} reads, --from and --to a part of the time.\n"
        );
    }
    print(&text)?;
    tell_decoder(&args.place, &query, &answer);
    Ok(())
}

/// Says so if nothing was found of a decoder that the configuration does not have.
pub(crate) fn tell_decoder(place: &Paths, query: &SearchQuery, answer: &SearchAnswer) {
    let (Some(name), true, Ok(config)) = (&query.decoder, answer.reads.is_empty(), load_keyless(place)) else { return };
    let mut names: Vec<String> = config.routes().map(|route| route.source.into()).collect();
    names.extend(config.left_out.iter().map(|decoder| decoder.name.clone()));
    if !names.iter().any(|known| **known == **name || *source::decoder(known) == **name) {
        logging::say(&format!("passbridge: the configuration has no decoder {name}; it has: {}", names.join(", ")));
    }
}

/// Asks the daemon for reads. If none runs, reads the log.
///
/// # Errors
/// Like [`run`].
pub(crate) async fn find(place: &Paths, query: &SearchQuery) -> Result<SearchAnswer, Failure> {
    match control::ask(&running_box(place), ControlRequest::Search { query: query.clone() }).await {
        Ok(answer) => serde_json::from_value(answer).map_err(|_| {
            Failure::unavailable("the passbridge that runs is of another version: restart it, or use its own program")
        }),
        Err(ControlError::NotRunning(_)) => without_daemon(place, query),
        Err(error) => Err(error.into()),
    }
}

fn without_daemon(place: &Paths, query: &SearchQuery) -> Result<SearchAnswer, Failure> {
    let config = load_right(place, true)?;
    let bibs = config.passing.bibs.as_deref().map_or_else(|| Ok(Bibs::default()), Bibs::read_file);
    let bibs = bibs.unwrap_or_else(|why| {
        let file = config.passing.bibs.as_deref().unwrap_or_else(|| "".as_ref());
        logging::say(&format!("passbridge: bib file {}: {why}. No bib is known", file.display()));
        Bibs::default()
    });
    let bibs = watch::channel(Arc::new(bibs)).1;
    let finder = Finder::new(&config.data_dir, Reading::new(&config), config.passing.zeros, bibs).keeping();
    let read = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::permission(format!("this user may not read the log in {}: use sudo", config.data_dir.display()))
        }
        _ => Failure::io(format!("the log could not be read: {error}")),
    };
    let mut answer = finder.search(query, u64::MAX).map_err(|error| match error {
        ExportError::NoJournal(_) => Failure::unavailable(error.to_string()),
        ExportError::Read(error) | ExportError::Write(error) => read(&error),
    })?;
    answer.through = finder.last_entry().map_err(|error| read(&error))?;
    Ok(answer)
}
