//! `session`: the sessions of a device in the cloud. It lists and shows them, and opens and closes
//! them (`change`).

mod change;
mod which;

use clap::{Args, Subcommand};

use self::which::{CloseArgs, OpenArgs, Shared, active, none_is_active};
use crate::cloud::rufus::SessionInfo;
use crate::commands::account::table::{self, Cell, Column, column, detail};
use crate::commands::account::{Account, Progress, failure, name};
use crate::commands::args::print;
use crate::config::failure::Failure;
use crate::model::text::tail;

const COLUMNS: [Column; 8] = [
    column("token_session", "TOKEN"),
    column("alias", "NAME"),
    column("active", "ACTIVE"),
    column("creation_date", "OPENED"),
    column("passings", "PASSINGS"),
    detail("first"),
    detail("last"),
    detail("deviceid"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List the sessions of a device, the newest first.
    List(SessionsArgs),
    /// Show one session, with its whole token, which other programs need. Without TOKEN: the active one.
    Show(SessionArgs),
    /// Show the active session. Exit code 69 if there is none.
    Active(SessionsArgs),
    /// Open a session. The running session of the device ends for ever. What waits on this box goes
    /// into the running one first.
    Open(OpenArgs),
    /// Close a session for ever. Without TOKEN: the active one. What waits on this box goes into it
    /// first.
    Close(CloseArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Args)]
pub(crate) struct SessionArgs {
    /// Token of the session, or at least its last six characters.
    #[arg(value_name = "TOKEN", value_parser = name)]
    token: Option<String>,
    #[command(flatten)]
    shared: Shared,
}

/// Runs the command.
///
/// # Errors
/// As [`failure`] says. Usage (64): the session is not there. Unavailable (69): no session is active.
pub(crate) async fn run(what: SessionCommand) -> Result<(), Failure> {
    match what {
        SessionCommand::List(args) => list(&args.shared).await,
        SessionCommand::Show(SessionArgs { token, shared }) => show(&shared, token.as_deref()).await,
        SessionCommand::Active(args) => show(&args.shared, None).await,
        SessionCommand::Open(args) => change::open(&args).await,
        SessionCommand::Close(args) => change::close(&args).await,
    }
}

async fn list(shared: &Shared) -> Result<(), Failure> {
    let account = Account::load(&shared.place)?;
    let asking = Progress::new("asking the cloud for the sessions of the device");
    let found = async {
        let device = account.any_device(shared.device.as_deref()).await?;
        let listed = account.client.sessions(&device).await.map_err(failure)?;
        Ok::<_, Failure>((device, listed))
    };
    let (device, mut listed) = asking.over(found).await?;
    // Without a date the order of the cloud stays.
    listed.all.sort_by_key(|info| std::cmp::Reverse(info.created_ms));
    let rows: Vec<_> = listed.all.iter().map(|info| row(&device, info)).collect();
    let empty = format!("device …{} has no session", tail(&device));
    print(&table::list(shared.form, &COLUMNS, &rows, &shared.times.shown(), &empty)?)?;
    match listed.cut {
        true => Err(Failure::unavailable(format!("the cloud has more sessions; the list ends after {}", rows.len()))),
        false => Ok(()),
    }
}

async fn show(shared: &Shared, typed: Option<&str>) -> Result<(), Failure> {
    let account = Account::load(&shared.place)?;
    let asking = Progress::new("asking the cloud for the session");
    let found = async {
        let device = account.any_device(shared.device.as_deref()).await?;
        let info = match typed {
            Some(typed) => account.session(&device, typed).await?,
            None => active(&account, &device).await?.ok_or_else(|| none_is_active(&device))?,
        };
        Ok::<_, Failure>((device, info))
    };
    let (device, info) = asking.over(found).await?;
    print(&table::one(shared.form, &COLUMNS, &row(&device, &info), &shared.times.shown())?)
}

/// The cells of [`COLUMNS`].
fn row(device: &str, info: &SessionInfo) -> Vec<Cell> {
    vec![
        Cell::token(&info.session.token),
        info.session.alias.as_deref().into(),
        Cell::Flag(info.active),
        Cell::Time(info.created_ms),
        Cell::Number(info.session.passings),
        Cell::Time(info.first_ms),
        Cell::Time(info.last_ms),
        Cell::token(device),
    ]
}
