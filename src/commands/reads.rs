//! `passbridge reads`: the newest reads, and with --follow those that come, a line each.
//!
//! Must hold: a read is shown only after it is durable. A daemon that is started anew ends nothing: the
//! command says so, goes on after the last entry that it was told, and misses none. Entries that the
//! log does not have any more are told as such.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::args::{Paths, TimesIn, print, running_box};
use crate::commands::search::{find, tell_decoder};
use crate::config::failure::Failure;
use crate::daemon::logging;
use crate::export::found::words::line;
use crate::export::found::{FoundRead, LIMIT_MAX, SearchQuery, Sought};
use crate::model::shown::ShownIn;
use crate::serve::control::ControlError;
use crate::serve::control::follow::{FollowStream, FollowedLine, follow};

/// Time between two tries to reach the daemon.
const RETRY: Duration = Duration::from_millis(500);

/// `reads`
#[derive(Clone, Debug, Args)]
pub(crate) struct ReadsArgs {
    #[command(flatten)]
    place: Paths,
    /// Show the reads that come, too, as they are kept. Ctrl-C ends it.
    #[arg(long)]
    follow: bool,
    /// Only this chip, by its code as the decoder sends it or as it is uploaded.
    #[arg(long, value_name = "CODE", conflicts_with = "bib")]
    chip: Option<String>,
    /// Only the chips with this bib in the bib file.
    #[arg(long, value_name = "BIB")]
    bib: Option<String>,
    /// Only this decoder, by its configured name, with all its locations; or only NAME/LOCATION.
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,
    /// Begin with at most so many reads, the ones kept last.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=LIMIT_MAX as u64))]
    limit: u64,
    #[command(flatten)]
    times: TimesIn,
    /// A JSON object for each read; times in UTC.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Ctrl-C ends it with 130.
///
/// # Errors
/// Unavailable (69): there is no journal, or the daemon gives no answer. I/O (74): the log cannot be
/// read. Permission (77).
pub(crate) async fn run(args: ReadsArgs) -> Result<(), Failure> {
    let what = match (&args.chip, &args.bib) {
        (Some(chip), _) => Sought::Chip(chip.trim().into()),
        (None, Some(bib)) => Sought::Bib(bib.trim().into()),
        (None, None) => Sought::Any,
    };
    let decoder = args.decoder.as_deref().map(Into::into);
    let query = SearchQuery { what, decoder, limit: args.limit as usize, ..SearchQuery::default() };
    let lines = Lines { shown: args.times.shown(), json: args.json };
    // Ctrl-C is caught from the start, so that it always means the same.
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|error| Failure::io(format!("signals cannot be caught: {error}")))?;
    let work = async {
        let answer = find(&args.place, &query).await?;
        for read in answer.reads.iter().rev() {
            lines.read(read)?;
        }
        tell_decoder(&args.place, &query, &answer);
        match args.follow {
            true => goes_on(&args.place, &query, answer.through, &lines).await,
            false => Ok(()),
        }
    };
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err(Failure::interrupted("ended by Ctrl-C").already_told()),
    }
}

/// How the lines are written.
struct Lines {
    shown: ShownIn,
    json: bool,
}

impl Lines {
    fn read(&self, read: &FoundRead) -> Result<(), Failure> {
        match self.json {
            true => self.json(read),
            false => print(&format!("{}\n", line(read, &self.shown))),
        }
    }

    fn gap(&self, first: u64, last: u64) -> Result<(), Failure> {
        match self.json {
            true => self.json(&json!({ "gap": { "first": first, "last": last } })),
            false => print(&format!(
                "(entries {first} to {last} are not in the log any more: what was read then is not shown)\n"
            )),
        }
    }

    fn json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::io(error.to_string()))?;
        print(&format!("{text}\n"))
    }
}

/// Shows the reads after entry `after` as they are kept, until somebody ends the command.
async fn goes_on(place: &Paths, query: &SearchQuery, mut after: u64, lines: &Lines) -> Result<(), Failure> {
    let data_dir = running_box(place);
    // Whether it was said that nobody answers, and whether somebody ever did.
    let (mut is_told, mut answered) = (false, false);
    loop {
        match follow(&data_dir, after, &query.what, query.decoder.as_deref()).await {
            Ok(mut stream) => {
                if stream.durable < after {
                    logging::say(&format!(
                        "passbridge: the journal ends with entry {}, and entry {after} was shown already: it is another \
                         journal. What comes after its last entry is shown",
                        stream.durable
                    ));
                    after = stream.durable;
                    continue;
                }
                if is_told {
                    logging::say(&format!("passbridge: it runs, and the reads after entry {after} follow"));
                }
                (is_told, answered) = (false, true);
                take(&mut stream, &mut after, lines).await?;
            }
            Err(error @ ControlError::Forbidden(_)) => return Err(error.into()),
            Err(error @ ControlError::NoAnswer { .. }) if !answered => return Err(error.into()),
            Err(_) => {}
        }
        if !is_told {
            logging::say(
                "passbridge: it does not run now. The reads go on when it runs again; Ctrl-C ends this command",
            );
            is_told = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Shows what the daemon tells, until it ends.
async fn take(stream: &mut FollowStream, after: &mut u64, lines: &Lines) -> Result<(), Failure> {
    while let Some(told) = stream.next().await {
        match told {
            FollowedLine::Read(read) => {
                lines.read(&read)?;
                *after = read.seq;
            }
            FollowedLine::Gap { first, last } => {
                lines.gap(first, last)?;
                *after = last;
            }
            FollowedLine::At(entry) => *after = entry.max(*after),
        }
    }
    Ok(())
}
