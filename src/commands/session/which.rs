//! Which device and which session a command is about.

use clap::Args;

use crate::cloud::rufus::SessionInfo;
use crate::commands::account::table::Form;
use crate::commands::account::{Account, failure, name};
use crate::commands::args::{Paths, TimesIn};
use crate::config::failure::Failure;
use crate::model::text::tail;

#[derive(Debug, Args)]
pub(crate) struct Shared {
    #[command(flatten)]
    pub(super) place: Paths,
    /// The device: its identity, or at least its last six characters. Without it the device of the
    /// configuration.
    #[arg(long, value_name = "ID")]
    pub(super) device: Option<String>,
    #[command(flatten)]
    pub(super) times: TimesIn,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// Name of the new session.
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub(super) alias: String,
    /// Do not ask whether the running session may end.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) shared: Shared,
}

#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// Token of the session, or at least its last six characters.
    #[arg(value_name = "TOKEN", value_parser = name)]
    pub(super) token: Option<String>,
    /// Do not ask whether the session may end.
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) shared: Shared,
}

/// The failure of a command that needs an active session.
pub(super) fn none_is_active(device: &str) -> Failure {
    Failure::unavailable(format!("device …{} has no active session", tail(device)))
}

/// The active session of a device, with all that the cloud tells about it.
pub(super) async fn active(account: &Account, device: &str) -> Result<Option<SessionInfo>, Failure> {
    let Some(session) = account.client.active_session(device).await.map_err(failure)? else { return Ok(None) };
    let told = account.client.session_info(&session.token).await.map_err(failure)?;
    let bare = SessionInfo { session, active: Some(true), created_ms: None, first_ms: None, last_ms: None };
    Ok(Some(SessionInfo { active: Some(true), ..told.unwrap_or(bare) }))
}
