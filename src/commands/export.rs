//! `passbridge export`.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;

use crate::commands::args::{self, Paths, TimesIn, load_right, stdout};
use crate::commands::progress::Progress;
use crate::config::failure::Failure;
use crate::config::{Config, did_you_mean};
use crate::export::{self, ExportError, HowFar};
use crate::serve::control;

/// `export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: Paths,
    /// How the file is written. The times in jsonl and csv are in UTC, or with --timezone in that
    /// zone with their offset.
    #[arg(long, value_enum)]
    format: export::Format,
    /// From this time on: 10:00, 2026-03-06, 2026-03-06T10:00 (in the zone of this box, or of
    /// --timezone) or 2026-03-06T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    /// With --format csv: a table that a spreadsheet leaves as it is. Chips and times are text, and
    /// nothing is a formula.
    #[arg(long)]
    spreadsheet: bool,
    /// Only this decoder, by its configured name, with all its locations; or only NAME/LOCATION.
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,
}

/// Fails on a name that is neither in the configuration nor in the log, because an export without a
/// line looks like a race without reads.
pub(crate) fn is_known(
    name: &str,
    config: &Config,
    reading: &export::Reading,
    query: &export::Query,
) -> Result<(), Failure> {
    let mut names: Vec<String> = config.routes().map(|route| route.source.into()).collect();
    names.extend(config.left_out.iter().map(|decoder| decoder.name.clone()));
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    // A decoder that was removed from the configuration still has its reads here.
    let all = export::Query { from: None, to: None, told: None, ..query.clone() };
    let found = export::export(&config.data_dir, reading, export::Format::Jsonl, &all, &mut std::io::sink());
    if !matches!(&found, Ok(summary) if summary.frames == 0) {
        // The name is in the log, or the export itself reports what is wrong.
        return Ok(());
    }
    let meant = did_you_mean(name, names.iter().map(String::as_str));
    Err(Failure::usage(match names.is_empty() {
        true => format!("--decoder {name}: neither the configuration nor this box's reads have a decoder of that name"),
        false => format!("--decoder {name}: there is no such decoder; it must be one of {}{meant}", names.join(", ")),
    }))
}

/// Runs the command.
pub(crate) async fn run(args: ExportArgs) -> Result<(), Failure> {
    if args.spreadsheet && args.format != export::Format::Csv {
        return Err(Failure::usage("--spreadsheet is for --format csv"));
    }
    let config = load_right(&args.place, true)?;
    // Beside a running daemon the last lines of the log may not be on the disk yet. They are not
    // exported before they are.
    let durable = control::durable(&config.data_dir).await?;
    let reading = export::Reading::new(&config);
    let (from, to) = args::span(args.from.as_deref(), args.to.as_deref(), &args.times.zone(), Timestamp::now())?;
    let progress = Progress::new("exporting");
    let bar = progress.clone();
    let told = HowFar(Arc::new(move |done, parts| bar.done(done, parts)));
    let query = export::Query { from, to, decoder: args.decoder, durable, told: Some(told) };
    if let Some(name) = &query.decoder {
        is_known(name, &config, &reading, &query)?;
    }
    let reading = reading.showing(args.times.timezone, args.spreadsheet);
    let mut out = BufWriter::new(stdout());
    let work = || export::export(&config.data_dir, &reading, args.format, &query, &mut out);
    let summary = progress.during_rows(work).map_err(|error| match error {
        ExportError::NoJournal(_) => Failure::unavailable(error.to_string()),
        ExportError::Read(_) => Failure::io(error.to_string()),
        ExportError::Write(error) => Failure::output(&error),
    })?;
    out.flush().map_err(|error| Failure::output(&error))?;
    if summary.damaged > 0 {
        // The reads that are whole were written all the same.
        return Err(Failure::data(format!("{} damaged lines of the log are not in the export", summary.damaged)));
    }
    Ok(())
}
