//! `passbridge passings`: what the cloud holds, and what this box knows of it.
//!
//! Must hold: it streams. A piece of the list is written before the next one is asked for, so memory
//! does not grow with the list. If the rest cannot be had, what was written stays, and the command
//! ends with a sentence and an exit code of its own: a short list never looks like a whole one.

pub(crate) mod joined;
mod write;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use crate::cloud::list::{ListError, Listing};
use crate::cloud::rufus::{CallError, Scope, SessionInfo};
use crate::commands::account::table::Form;
use crate::commands::account::{Account, Progress, failure};
use crate::commands::args::{Paths, TimesIn};
use crate::config::failure::Failure;
use crate::model::text;
use crate::model::typed;
use joined::Joined;
use write::Sheet;

/// Without --to, passings with stamps up to this long after now are listed: the clock of a decoder
/// may be ahead, or in another zone.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// `passings`
#[derive(Clone, Debug, Args)]
pub(crate) struct PassingsArgs {
    #[command(flatten)]
    place: Paths,
    /// The device, by its id or the end of it; without it the one of the configuration.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// The session, by its token or the end of it. Without it the active one, else the newest one.
    #[arg(long, value_name = "TOKEN")]
    session: Option<String>,
    /// Only numbers from this one on.
    #[arg(long, value_name = "N")]
    first: Option<u64>,
    /// Only numbers up to this one.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Instead of a session: all passings of the device with stamps from this time on, such as
    /// 10:00, 2026-03-06, 2026-03-06T10:00 (in the zone of this box, or of --timezone) or
    /// 2026-03-06T10:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["session", "first", "last"])]
    from: Option<String>,
    /// With --from: before this time. Without it up to now, and a day more, because the clock of a
    /// decoder may be ahead.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    #[command(flatten)]
    form: Form,
}

/// Runs the command.
///
/// # Errors
/// Usage (64): there is no such session or device. Data (65): passings without a number are not in
/// the list. Unavailable (69): the cloud does not answer, or shows only a part. I/O (74): the log of
/// this box cannot be read, so it is not known which passings are of it. Permission (77): the key.
pub(crate) async fn run(args: PassingsArgs) -> Result<(), Failure> {
    if let (Some(first), Some(last)) = (args.first, args.last)
        && last < first
    {
        return Err(Failure::usage(format!("--last {last} is before --first {first}")));
    }
    let times = args.between()?;
    let account = Account::load(&args.place)?;
    let device = account.any_device(args.device.as_deref()).await?;
    let progress = Progress::new("asking the cloud for passings");
    progress.over(list(&args, &account, &device, times, &progress)).await
}

impl PassingsArgs {
    /// The times that are asked for: the first one, and the one before which they end, in
    /// milliseconds since 1970.
    fn between(&self) -> Result<Option<(i64, i64)>, Failure> {
        let now = Timestamp::now();
        let zone = self.times.zone();
        let instant = |flag: &str, text: &String| {
            let read = typed::moment(text, &zone, now);
            read.map_err(|must| Failure::usage(format!("{flag} {text}: must be {must}")))
        };
        let Some(from) = &self.from else { return Ok(None) };
        let from = instant("--from", from)?;
        let to = match &self.to {
            Some(to) => {
                let must = |must| Failure::usage(format!("--to {to}: must be {must}"));
                typed::end_moment(to, Some(from), &zone, now).map_err(must)?
            }
            None => now.saturating_add(AHEAD).map_err(|error| Failure::usage(error.to_string()))?,
        };
        if to <= from {
            return Err(Failure::usage("--to must be later than --from"));
        }
        Ok(Some((from.as_millisecond(), to.as_millisecond())))
    }

    /// The session whose passings are listed.
    async fn session(&self, account: &Account, device: &str) -> Result<SessionInfo, Failure> {
        if let Some(typed) = &self.session {
            return account.session(device, typed).await;
        }
        if let Some(session) = account.client.active_session(device).await.map_err(failure)? {
            return Ok(SessionInfo { session, active: Some(true), created_ms: None, first_ms: None, last_ms: None });
        }
        let sessions = account.client.sessions(device).await.map_err(failure)?.all;
        let newest = sessions.into_iter().max_by_key(|info| info.created_ms);
        newest.ok_or_else(|| {
            Failure::unavailable(format!("device …{} has no session in the cloud yet", text::tail(device)))
        })
    }
}

async fn list(
    args: &PassingsArgs,
    account: &Account,
    device: &str,
    times: Option<(i64, i64)>,
    progress: &Progress,
) -> Result<(), Failure> {
    let (scope, session) = match times {
        Some((from, to)) => (Scope::Times { device: device.into(), from, to: to - 1 }, None),
        None => {
            let info = args.session(account, device).await?;
            let token = info.session.token.clone();
            (Scope::Numbers { token, first: args.first.unwrap_or(0), last: args.last }, Some(info.session))
        }
    };
    let token = session.as_ref().map(|session| &*session.token);
    let mut joined = Joined::all(&account.config.data_dir, device);
    let mut sheet = Sheet::new(args.form, args.times.shown(), session.as_ref());
    let mut pieces = Listing::new(&account.client, scope);
    loop {
        let rows = match pieces.next().await {
            Ok(Some(rows)) => rows,
            Ok(None) => break,
            Err(error) => return Err(cut_short(sheet.count, error)),
        };
        let sides = joined.look(&rows, token).await;
        progress.beside(|| rows.iter().zip(&sides).try_for_each(|(row, side)| sheet.row(row, side)))?;
        progress.say(format!("{} passings so far", sheet.count));
    }
    progress.beside(|| sheet.finish())?;
    if let Some(trouble) = joined.trouble() {
        return Err(trouble);
    }
    match pieces.unplaced {
        0 => Ok(()),
        count => Err(Failure::data(format!(
            "the cloud also has {count} passings whose number or time cannot be read; they are not in the list"
        ))),
    }
}

/// The failure after so many passings. What was written stays.
fn cut_short(written: u64, error: ListError) -> Failure {
    match error {
        ListError::Cloud(CallError::SessionGone { .. }) if written == 0 => Failure::usage(
            "the cloud has no such session any more; `passbridge session list` shows those of the device",
        ),
        ListError::Cloud(error @ CallError::BadRequest { .. }) if written == 0 => {
            Failure::data(format!("{error}; ask for less with --first and --last, or with --from and --to"))
        }
        ListError::Cloud(error) if written == 0 => failure(error),
        error => Failure::unavailable(format!("the list is cut short after {written} passings: {error}")),
    }
}
