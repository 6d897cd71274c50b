//! `room`: what may go from the card although its retention is not over, and its removal.

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::commands::account::agreed;
use crate::commands::account::table::{self, Cell, Column, Form, column};
use crate::commands::args::{Paths, TimesIn, print, running_box, who};
use crate::config::failure::Failure;
use crate::model::chip::Seq;
use crate::serve::control::{self, ControlRequest};

/// `room`
#[derive(Debug, Args)]
pub(crate) struct RoomArgs {
    #[command(flatten)]
    place: Paths,
    /// Remove the oldest files of the log now, up to entry --through.
    #[arg(long, requires = "through")]
    free: bool,
    /// The last entry that may go, as the list shows it.
    #[arg(long, value_name = "N", requires = "free")]
    through: Option<u64>,
    /// Ask nothing.
    #[arg(long, requires = "free")]
    yes: bool,
    #[command(flatten)]
    times: TimesIn,
    #[command(flatten)]
    form: Form,
}

const COLUMNS: [Column; 6] = [
    column("first", "FROM ENTRY"),
    column("last", "THROUGH"),
    column("reads", "READS"),
    column("from", "FIRST READ"),
    column("to", "LAST READ"),
    column("bytes", "BYTES"),
];

/// Runs the command.
///
/// # Errors
/// Usage (64): nobody agreed. Unavailable (69): no daemon runs.
pub(crate) async fn run(args: RoomArgs) -> Result<(), Failure> {
    let data_dir = running_box(&args.place);
    let answer = control::ask(&data_dir, ControlRequest::Room).await?;
    let segments = answer.get("segments").and_then(Value::as_array).cloned().unwrap_or_default();
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
    let Some(through) = args.through else {
        let time = |value: &Value, name: &str| {
            let instant = value.get(name).and_then(|time| time.as_str()?.parse::<Timestamp>().ok());
            Cell::Time(instant.map(|instant| instant.as_millisecond()))
        };
        let cell = |value: &Value, name: &str| Cell::Number(number(value, name));
        let row = |one: &Value| {
            let (from, to) = (time(one, "from"), time(one, "to"));
            vec![cell(one, "first"), cell(one, "last"), cell(one, "reads"), from, to, cell(one, "bytes")]
        };
        let rows: Vec<Vec<Cell>> = segments.iter().map(row).collect();
        let mut shown = table::list(args.form, &COLUMNS, &rows, &args.times.shown(), "nothing may go now")?;
        if !args.form.json && !args.form.csv {
            let then = answer.get("then").and_then(Value::as_str).unwrap_or_default();
            shown += &format!("After these, nothing may go: {then}.\n");
        }
        return print(&shown);
    };
    let goes = segments.iter().filter(|one| number(one, "last").is_some_and(|last| last <= through));
    let (mut files, mut reads, mut bytes) = (0u64, 0u64, 0u64);
    for one in goes {
        files += 1;
        reads += number(one, "reads").unwrap_or(0);
        bytes += number(one, "bytes").unwrap_or(0);
    }
    if files == 0 {
        return Err(Failure::usage(format!(
            "nothing that ends with entry {through} or before may go: see `passbridge room`"
        )));
    }
    let ends = format!(
        "{files} files of the log with {reads} reads ({:.1} MB) go from this box for ever. All of these reads are settled; \
         the backup and the export have them no more. Copy them first: passbridge export",
        megabytes(bytes)
    );
    agreed(args.yes, &ends, "Remove them?")?;
    let answer = control::ask(&data_dir, ControlRequest::MakeRoom { through: Seq(through), by: who() }).await?;
    if args.form.json {
        return print(&format!("{answer}\n"));
    }
    let (files, bytes) = (number(&answer, "segments").unwrap_or(0), number(&answer, "bytes").unwrap_or(0));
    print(&format!("{files} files with {:.1} MB were removed\n", megabytes(bytes)))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
