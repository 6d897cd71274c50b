//! `passbridge export`.

use std::io::{BufWriter, Write};

use clap::Args;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::commands::args::{Place, load_right, stdout};
use crate::config::failure::Failure;
use crate::export::{self, ExportError};
use crate::serve::control;

/// `export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// How the file is written.
    #[arg(long, value_enum)]
    format: export::Format,
    /// From this time on, such as 2026-03-06T10:00:00Z; without a zone it is UTC.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<Timestamp>,
    /// Only this decoder, by its configured name, with all its locations; or only NAME/LOCATION.
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let must =
        || "must be a time such as 2026-03-06T10:00:00Z, 2026-03-06T11:00:00+01:00 or 2026-03-06 (UTC)".to_owned();
    text.parse::<Timestamp>().or_else(|_| {
        let naive: DateTime = text.parse().map_err(|_| must())?;
        TimeZone::UTC.to_timestamp(naive).map_err(|_| must())
    })
}

/// Runs the command.
pub(crate) async fn run(args: ExportArgs) -> Result<(), Failure> {
    let config = load_right(&args.place, true)?;
    // Beside a running daemon the last lines of the log may not be on the disk yet, and are not told before they are.
    let durable = control::durable(&config.data_dir).await?;
    let reading = export::Reading::new(&config);
    let query = export::Query { from: args.from, to: args.to, decoder: args.decoder, durable };
    let mut out = BufWriter::new(stdout());
    let summary =
        export::export(&config.data_dir, &reading, args.format, &query, &mut out).map_err(|error| match error {
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
