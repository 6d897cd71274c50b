//! `session open` and `session close`: through the daemon if it uploads to the device, else straight to
//! the cloud.
//!
//! Must hold: a session is never opened twice. After an unknown outcome the cloud is asked which
//! session is active, and what it shows is told. Only the session that was shown to the person ends:
//! if another one is active by then, nothing is done.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::which::{CloseArgs, OpenArgs, Shared, active, none_is_active};
use crate::cloud::audit::ours;
use crate::cloud::rufus::account::Call;
use crate::cloud::rufus::{CallError, Session, SessionInfo};
use crate::cloud::uplink::{Ends, LEFT_MAX};
use crate::commands::account::table::{self, Cell, Column, column, detail};
use crate::commands::account::{Account, Progress, agreed, counted, make, with_wait};
use crate::commands::args::{print, who};
use crate::config::SessionMode;
use crate::config::failure::Failure;
use crate::daemon::logging;
use crate::journal::unsettled;
use crate::model::text::{printable, tail};
use crate::serve::control::{self, Changed, ControlError, ControlRequest, Named, SessionRefusal};

/// Time between two looks for the session that was to be opened.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Said of every failure before the call that changes something.
const UNCHANGED: &str = "Nothing was changed";
/// Said where nobody knows whether it was done.
const DOUBT: &str = "Nobody knows whether it was done. Wait a minute, and look with `passbridge session list` before you \
                     repeat the command";

const CHANGED: [Column; 7] = [
    column("outcome", "OUTCOME"),
    column("token_session", "TOKEN"),
    column("alias", "NAME"),
    detail("session_before"),
    detail("left"),
    detail("on_their_way"),
    detail("by_daemon"),
];

/// Opens a session.
///
/// # Errors
/// Usage (64): nobody agreed that the running session ends. Unavailable (69): another session is active by
/// then. Otherwise as the cloud answers.
pub(super) async fn open(args: &OpenArgs) -> Result<(), Failure> {
    let shared = &args.shared;
    let account = Account::load(&shared.place)?;
    let asking = Progress::new("asking the cloud for the running session");
    let found = async {
        let device = account.any_device(shared.device.as_deref()).await?;
        Ok::<_, Failure>((running(&account, &device).await?, device))
    };
    let (running, device) = asking.over(found).await.map_err(|failure| failure.with(UNCHANGED))?;
    let ends = match &running {
        Running::None => None,
        Running::One(info) => Some(format!("the running session {}", in_words(shared, info))),
        Running::Unknown => Some("a session that is running (this key may not ask which)".to_owned()),
    };
    if let Some(ended) = ends {
        let ends = format!("{ended} ends for ever when another one opens.");
        agreed(args.yes, &ends, &format!("Open \"{}\"?", printable(&args.alias)))?;
    }
    let (alias, ends) = (args.alias.clone(), running.ends());
    let request = ControlRequest::SessionOpen { device: device.clone(), alias, ends: ends.clone(), by: who() };
    let waiting = Progress::new("what waits goes up first, then the session opens");
    let work = async {
        match through_the_daemon(&account, request).await? {
            Some(changed) => Ok((changed, true)),
            None => Ok::<_, Failure>((open_here(&account, &device, &args.alias, &ends).await, false)),
        }
    };
    let (changed, by_daemon) = waiting.over(work).await?;
    tell(&account, shared, &changed, by_daemon)
}

/// Closes a session.
///
/// # Errors
/// Usage (64): nobody agreed, or there is no such session. Unavailable (69): no session is active. Otherwise as the
/// cloud answers.
pub(super) async fn close(args: &CloseArgs) -> Result<(), Failure> {
    let shared = &args.shared;
    let account = Account::load(&shared.place)?;
    let asking = Progress::new("asking the cloud for the session");
    let found = async {
        let device = account.any_device(shared.device.as_deref()).await?;
        let info = match &args.token {
            Some(typed) => account.session(&device, typed).await?,
            None => active(&account, &device).await?.ok_or_else(|| none_is_active(&device))?,
        };
        Ok::<_, Failure>((device, info))
    };
    let (device, info) = asking.over(found).await.map_err(|failure| failure.with(UNCHANGED))?;
    if info.active == Some(false) {
        if shared.form.json || shared.form.csv {
            let (none, flag) = (|| Cell::Number(None), Cell::Flag(None));
            let (outcome, token) = (Some("closed_before").into(), Cell::token(&info.session.token));
            let row = [outcome, token, info.session.alias.as_deref().into(), Cell::Token(None), none(), none(), flag];
            return print(&table::one(shared.form, &CHANGED, &row, &shared.times.shown())?);
        }
        return print(&format!("the session {} is closed already\n", in_words(shared, &info)));
    }
    agreed(args.yes, &format!("the session {} ends for ever.", in_words(shared, &info)), "Close it?")?;
    let token = info.session.token.to_string();
    let request = ControlRequest::SessionClose { device: device.clone(), token, by: who() };
    let waiting = Progress::new("what waits goes up first, then the session closes");
    let work = async {
        match through_the_daemon(&account, request).await? {
            Some(changed) => Ok((changed, true)),
            None => Ok::<_, Failure>((close_here(&account, &device, &info.session.token).await, false)),
        }
    };
    let (changed, by_daemon) = waiting.over(work).await?;
    tell(&account, shared, &changed, by_daemon)
}

/// The session that ends when another one opens.
enum Running {
    None,
    One(SessionInfo),
    /// The key may write and not read.
    Unknown,
}

impl Running {
    /// What may end.
    fn ends(&self) -> Ends {
        match self {
            Self::None => Ends::Nothing,
            Self::One(info) => Ends::Session(info.session.token.clone()),
            Self::Unknown => Ends::Unseen,
        }
    }
}

async fn running(account: &Account, device: &str) -> Result<Running, Failure> {
    match account.client.active_session(device).await {
        Err(CallError::KeyRefused { .. }) => Ok(Running::Unknown),
        _ => Ok(active(account, device).await?.map_or(Running::None, Running::One)),
    }
}

/// A session for people: its name, token, age and size.
fn in_words(shared: &Shared, info: &SessionInfo) -> String {
    let session = &info.session;
    let name = match session.alias.as_deref() {
        Some(alias) => format!("\"{}\"", printable(alias)),
        None => "without a name".to_owned(),
    };
    let since = info.created_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let since = since.map_or(String::new(), |since| format!(", opened {}", shared.times.shown().second(since)));
    let count = session.passings.map_or(String::new(), |count| format!(", {}", counted(count, "passing")));
    format!("{name} (…{}{since}{count})", tail(&session.token))
}

/// What became of the request. `None`: no daemon runs here, or it does not upload to the device.
async fn through_the_daemon(account: &Account, request: ControlRequest) -> Result<Option<Changed>, Failure> {
    let answer: Value = match control::ask(&account.config.data_dir, request).await {
        Err(ControlError::NotRunning(_)) => return Ok(None),
        Err(error @ ControlError::NoAnswer { .. }) => return Err(Failure::from(error).with(DOUBT)),
        answer => answer.map_err(|error| Failure::from(error).with(UNCHANGED))?,
    };
    match control::changed(answer) {
        Some(Changed::Elsewhere) => Ok(None),
        Some(changed) => Ok(Some(changed)),
        None => {
            let other = "the passbridge that runs here answers in the words of another version";
            Err(Failure::unavailable(other).with(DOUBT))
        }
    }
}

async fn open_here(account: &Account, device: &str, alias: &str, ends: &Ends) -> Changed {
    let left = waiting(account, device).await;
    // A person may have thought for long, and another session may be active by now.
    let seen = match account.client.active_session(device).await {
        Ok(Some(other)) if !ends.allows(&other) => return Changed::Other { active: Named::from(&other) },
        Ok(found) => Some(found),
        Err(CallError::KeyRefused { .. }) if *ends == Ends::Unseen => None,
        Err(error) => return Changed::failed(&error),
    };
    let before = seen.as_ref().and_then(Option::as_ref);
    let opened = |session: &Session| Changed::Opened {
        token: session.token.clone(),
        alias: session.alias.clone(),
        before: before.map(Named::from),
        left,
        on_their_way: 0,
    };
    let error = match make(Call::Open, async || account.client.create_session(device, alias).await).await {
        Ok(session) => return opened(&session),
        Err(error) if error.certainly_not_applied() => return Changed::failed(&error),
        Err(error) => error,
    };
    if seen.is_none() {
        return Changed::unknown(&error, None);
    }
    let end = Instant::now() + account.config.upload.settle;
    loop {
        sleep(LOOK_EVERY).await;
        let over = Instant::now() >= end;
        match account.client.active_session(device).await {
            Ok(Some(found))
                if before.is_none_or(|before| before.token != found.token)
                    && found.alias.as_deref().is_none_or(|found| found == alias) =>
            {
                return opened(&found);
            }
            Ok(found) if over => return Changed::unknown(&error, Some(found.as_ref())),
            Err(_) if over => return Changed::unknown(&error, None),
            _ => {}
        }
    }
}

async fn close_here(account: &Account, device: &str, token: &str) -> Changed {
    let closed = Changed::Closed { token: token.into(), left: waiting(account, device).await, on_their_way: 0 };
    let error = match make(Call::Close, async || account.client.close_session(token).await).await {
        Ok(()) => return closed,
        Err(error) => error,
    };
    // A first request whose answer was lost may have closed it.
    let info = account.client.session_info(token).await;
    if matches!(info, Ok(Some(SessionInfo { active: Some(false), .. }))) {
        return closed;
    }
    if error.certainly_not_applied() { Changed::failed(&error) } else { Changed::unknown(&error, None) }
}

/// How many reads and passings of a device wait on this box, which does not run. A log that cannot be
/// read is told, and counts as none.
async fn waiting(account: &Account, device: &str) -> usize {
    let Some(decoders) = account.config.devices().remove(device) else { return 0 };
    let (data_dir, device) = (account.config.data_dir.clone(), device.to_owned());
    let counted = tokio::task::spawn_blocking(move || {
        let Some(index) = ours::index(&data_dir, &device, u64::MAX)? else { return Ok(0) };
        let waiting = index.waiting(&data_dir, &decoders, u64::MAX)?;
        let in_flight = unsettled(&data_dir)?.get(&*device).map_or(0, |unsettled| unsettled.in_flight);
        std::io::Result::Ok(usize::try_from(waiting).unwrap_or(usize::MAX).saturating_add(in_flight))
    });
    match counted.await {
        Ok(Ok(count)) => count,
        Ok(Err(error)) => {
            logging::say(&format!("passbridge: the log cannot be read, so nobody knows what waits here: {error}"));
            0
        }
        Err(_) => 0, // the task was cancelled, so the process is ending
    }
}

/// Writes the result, and gives the exit code.
fn tell(account: &Account, shared: &Shared, changed: &Changed, by_daemon: bool) -> Result<(), Failure> {
    let (outcome, token, alias, before, left, on_their_way) = match changed {
        Changed::Opened { token, alias, before, left, on_their_way } => {
            ("opened", token, alias.as_deref(), before.as_ref(), *left, *on_their_way)
        }
        Changed::Closed { token, left, on_their_way } => ("closed", token, None, None, *left, *on_their_way),
        Changed::Failed { kind, why, retry_after_s } => return Err(refusal(*kind, why, *retry_after_s)),
        Changed::Other { active } => return Err(other(active)),
        Changed::Unknown { why, retry_after_s, asked, active } => {
            return Err(unknown(why, *retry_after_s, *asked, active.as_ref()));
        }
        Changed::Elsewhere => return Err(Failure::unavailable("the daemon does not upload to the device")),
    };
    if shared.form.json || shared.form.csv {
        let count = |count: usize| Cell::Number(u64::try_from(count).ok());
        let row = [
            Some(outcome).into(),
            Cell::token(token),
            alias.into(),
            Cell::Token(before.map(|before| before.token.to_string())),
            count(left),
            count(on_their_way),
            Cell::Flag(Some(by_daemon)),
        ];
        return print(&table::one(shared.form, &CHANGED, &row, &shared.times.shown())?);
    }
    let name = alias.map_or(String::new(), |alias| format!(" \"{}\"", printable(alias)));
    let mut text = format!("the session{name} is {}: {token}\n", if outcome == "opened" { "open" } else { "closed" });
    if let Some(before) = before {
        text += &format!("the session \"{}\" (…{}) ended\n", named(before), tail(&before.token));
    }
    let whither = if outcome == "opened" { "this new session" } else { "the next session" };
    text += &rest(left, on_their_way, by_daemon, whither);
    let creates = account.config.cloud.as_ref().is_some_and(|cloud| cloud.session == SessionMode::Create);
    if outcome == "closed" && creates && by_daemon {
        text += "the box opens another one by itself when the next read waits ([cloud] session = \"create\")\n";
    }
    print(&text)
}

/// What did not go into the session before. `whither`: the session that gets it.
fn rest(left: usize, on_their_way: usize, by_daemon: bool, whither: &str) -> String {
    let when = if by_daemon { "" } else { " when passbridge runs" };
    let reads = match left {
        0 => String::new(),
        1 => format!("1 read waits on this box. It goes into {whither}{when}\n"),
        LEFT_MAX if by_daemon => format!("{LEFT_MAX} reads or more wait on this box. They go into {whither}\n"),
        left => format!("{left} reads wait on this box. They go into {whither}{when}\n"),
    };
    match u64::try_from(on_their_way).unwrap_or(u64::MAX) {
        0 => reads,
        way => format!(
            "{reads}{} on the way: the box asks the cloud for them, and sends those that the session before does not have \
             into {whither}\n",
            match way {
                1 => "1 passing was".to_owned(),
                way => format!("{way} passings were"),
            }
        ),
    }
}

fn named(session: &Named) -> String {
    session.alias.as_deref().map_or_else(|| "without a name".to_owned(), printable)
}

fn refusal(kind: SessionRefusal, why: &str, retry_after_s: Option<u64>) -> Failure {
    let text = with_wait(why, retry_after_s);
    let failure = match kind {
        SessionRefusal::Key => Failure::permission(text),
        SessionRefusal::Absent => Failure::usage(text),
        SessionRefusal::Content => Failure::data(text),
        SessionRefusal::Unavailable => Failure::unavailable(text),
    };
    failure.with(UNCHANGED)
}

/// Another session is active than the one that was shown.
fn other(active: &Named) -> Failure {
    let text = format!(
        "the session \"{}\" (…{}) is active now. It is not the one that was shown to you, so it does not end. Look with \
         `passbridge session list`, and give the command again",
        named(active),
        tail(&active.token)
    );
    Failure::unavailable(text).with(UNCHANGED)
}

fn unknown(why: &str, retry_after_s: Option<u64>, asked: bool, active: Option<&Named>) -> Failure {
    let shown = match (asked, active) {
        (false, _) => String::new(),
        (true, None) => ". The cloud shows no active session since".to_owned(),
        (true, Some(session)) => {
            format!(". The cloud shows \"{}\" (…{}) as active since", named(session), tail(&session.token))
        }
    };
    Failure::unavailable(format!("{}{shown}", with_wait(why, retry_after_s))).with(DOUBT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_tells_what_is_known_and_each_refusal_has_its_code() {
        let session = Named { token: "65A1FF115B".into(), alias: Some("Race".into()) };
        let told = unknown("no answer", Some(7), true, Some(&session));
        assert!(told.to_string().contains("\"Race\" (…FF115B)") && told.exit_code() == 69, "{told}");
        assert!(told.to_string().contains("to wait 7 s") && told.to_string().contains("Wait a minute"), "{told}");
        let told = unknown("no answer", None, false, None).to_string();
        assert!(told.contains("passbridge session list") && !told.contains("shows"), "{told}");
        let told = other(&session);
        assert!(told.to_string().ends_with("Nothing was changed") && told.exit_code() == 69, "{told}");
        let codes = [SessionRefusal::Key, SessionRefusal::Absent, SessionRefusal::Content, SessionRefusal::Unavailable];
        assert_eq!(codes.map(|kind| refusal(kind, "x", None).exit_code()), [77, 64, 65, 69]);
    }

    #[test]
    fn what_did_not_go_into_the_session_before_is_told() {
        let new = "this new session";
        assert_eq!(rest(0, 0, true, new), "");
        assert_eq!(rest(1, 0, true, new), "1 read waits on this box. It goes into this new session\n");
        assert!(rest(7, 0, false, new).ends_with("when passbridge runs\n"));
        let many = rest(LEFT_MAX, 3, true, "the next session");
        assert!(many.contains("5000 reads or more") && many.contains("3 passings were on the way"), "{many}");
        assert!(rest(0, 1, true, new).starts_with("1 passing was on the way"));
    }
}
