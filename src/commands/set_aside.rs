//! `set-aside`: the passings that the cloud refused or fails at, and what becomes of them.

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use crate::commands::account::agreed;
use crate::commands::account::table::{self, Cell, Column, Form, column, detail};
use crate::commands::args::{Paths, TimesIn, print, running_box, who};
use crate::config::failure::Failure;
use crate::serve::control::{self, ControlRequest};

/// `set-aside`
#[derive(Debug, Subcommand)]
pub(crate) enum SetAsideCommand {
    /// List them, with what the cloud answered.
    List(ListArgs),
    /// Send them again, under new numbers.
    Release(ChooseArgs),
    /// Never send them. They stay in the log of this box.
    Drop(DropArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    place: Paths,
    /// Only those of this device.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["ids", "all"]))]
pub(crate) struct ChooseArgs {
    #[command(flatten)]
    place: Paths,
    /// Their ids, as the list shows them.
    #[arg(value_name = "ID", conflicts_with = "all")]
    ids: Vec<u64>,
    /// All of them, or all of a device.
    #[arg(long)]
    all: bool,
    /// Only those of this device.
    #[arg(long, value_name = "ID", requires = "all")]
    device: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    choose: ChooseArgs,
    /// Ask nothing.
    #[arg(long)]
    yes: bool,
}

const COLUMNS: [Column; 13] = [
    column("id", "ID"),
    column("time", "TIME"),
    column("bib", "BIB"),
    column("chip", "CHIP"),
    column("decoder", "DECODER"),
    column("status", "HTTP"),
    column("why", "THE CLOUD'S ANSWER"),
    column("device", "DEVICE"),
    detail("token_tail"),
    detail("num_passing"),
    column("since", "SET ASIDE"),
    detail("tried_again"),
    detail("unknown"),
];

/// Runs the command.
///
/// # Errors
/// Usage (64): no such passing. Unavailable (69): no daemon runs.
pub(crate) async fn run(command: SetAsideCommand) -> Result<(), Failure> {
    match command {
        SetAsideCommand::List(args) => list(args).await,
        SetAsideCommand::Release(args) => release(args).await,
        SetAsideCommand::Drop(DropArgs { choose, yes }) => drop_them(choose, yes).await,
    }
}

/// What the daemon knows of them.
async fn known(place: &Paths, device: Option<&str>) -> Result<Vec<Value>, Failure> {
    let answer = control::ask(&running_box(place), ControlRequest::SetAside).await?;
    let all = answer.get("set_aside").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_meant = |one: &Value| device.is_none_or(|device| text(one, "device").as_deref() == Some(device));
    Ok(all.into_iter().filter(is_meant).collect())
}

fn text(one: &Value, name: &str) -> Option<String> {
    one.get(name).and_then(Value::as_str).map(str::to_owned)
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let rows: Vec<Vec<Cell>> = known(&args.place, args.device.as_deref()).await?.iter().map(row).collect();
    let shown = table::list(args.form, &COLUMNS, &rows, &args.times.shown(), "no passing is set aside")?;
    print(&shown)
}

fn row(one: &Value) -> Vec<Cell> {
    let number = |name: &str| Cell::Number(one.get(name).and_then(Value::as_u64));
    let flag = |name: &str| Cell::Flag(one.get(name).and_then(Value::as_bool));
    let time = |name: &str| {
        let instant = text(one, name).and_then(|time| time.parse::<Timestamp>().ok());
        Cell::Time(instant.map(|instant| instant.as_millisecond()))
    };
    vec![
        number("id"),
        time("time"),
        Cell::Text(text(one, "bib")),
        Cell::Text(text(one, "chip")),
        Cell::Text(text(one, "decoder")),
        number("status"),
        Cell::Text(text(one, "why")),
        Cell::Token(text(one, "device")),
        Cell::Text(text(one, "token_tail")),
        number("num_passing"),
        time("since"),
        flag("tried_again"),
        flag("unknown"),
    ]
}

/// The ids that are meant.
async fn chosen(args: &ChooseArgs) -> Result<Vec<u64>, Failure> {
    if !args.all {
        return Ok(args.ids.clone());
    }
    let all = known(&args.place, args.device.as_deref()).await?;
    Ok(all.iter().filter_map(|one| one.get("id")?.as_u64()).collect())
}

async fn release(args: ChooseArgs) -> Result<(), Failure> {
    let ids = chosen(&args).await?;
    let answer = control::ask(&running_box(&args.place), ControlRequest::SetAsideRelease { ids, by: who() }).await?;
    tell(&args, &answer, |count| match count {
        0 => "no passing is set aside\n".to_owned(),
        1 => "1 passing is sent again, after what waits\n".to_owned(),
        count => format!("{count} passings are sent again, after what waits\n"),
    })
}

async fn drop_them(args: ChooseArgs, yes: bool) -> Result<(), Failure> {
    let ids = chosen(&args).await?;
    if !ids.is_empty() {
        let what = if ids.len() == 1 { "1 passing".to_owned() } else { format!("{} passings", ids.len()) };
        let ends =
            format!("{what} will never be sent to the cloud, and the log keeps the reads. Nobody can take that back.");
        agreed(yes, &ends, "Drop?")?;
    }
    let answer = control::ask(&running_box(&args.place), ControlRequest::SetAsideDrop { ids, by: who() }).await?;
    tell(&args, &answer, |count| match count {
        0 => "no passing is set aside\n".to_owned(),
        1 => "1 passing is never sent. `passbridge export` shows its read with the reason\n".to_owned(),
        count => format!("{count} passings are never sent. `passbridge export` shows their reads with the reason\n"),
    })
}

fn tell(args: &ChooseArgs, answer: &Value, words: impl Fn(u64) -> String) -> Result<(), Failure> {
    if args.json {
        return print(&format!("{answer}\n"));
    }
    print(&words(answer.get("count").and_then(Value::as_u64).unwrap_or(0)))
}
