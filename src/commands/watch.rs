//! `passbridge watch`: the passings of a device as the cloud gets them.
//!
//! Must hold:
//! * **Said as it is known.** The time from the read to the cloud is told from the moment at which
//!   this box received the read, if it did, by the clock of this box. Otherwise it is told from the
//!   stamp of the passing, by two clocks, and marked. It includes the time until the next look
//!   at the cloud.
//! * **It goes on.** A cloud that does not answer is asked again, more and more rarely. Only a refusal
//!   that another try does not change ends the command, and a first question without an answer. That
//!   the device or the session is gone, which was there before, is believed when it is repeated.

mod delays;
mod write;

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::cloud::list::ListError;
use crate::cloud::list::follow::{Followed, Follower};
use crate::cloud::rufus::{CallError, Client, FullPassing, OutcomeDoubt};
use crate::commands::account::table::Form;
use crate::commands::account::{Account, Progress, failure};
use crate::commands::args::{Paths, TimesIn};
use crate::commands::passings::joined::Joined;
use crate::config;
use crate::config::failure::Failure;
use crate::daemon::logging;
use crate::model::retry::Retry;
use crate::model::typed;
use delays::Delays;
use write::{Arrival, Screen};

/// The active session is asked for once in so many quiet polls, in case the cloud does not go to a
/// newer one by itself.
const LOOK_EVERY: u32 = 5;
/// Longest wait between two tries while the cloud does not answer.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// So often in a row the cloud must say that the device or the session is gone, before that is believed.
const GONE: u32 = 5;
/// How often the times of the last minute are told.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// `watch`
#[derive(Clone, Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    place: Paths,
    /// The device, by its id or the end of it; without it the one of the configuration.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Begin with the passings of the active session with stamps from this time on; without it, begin
    /// now.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Time between two looks at the cloud. Each time that is shown includes it.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// End after so many passings.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = config::time)]
    time: Option<Duration>,
    #[command(flatten)]
    times: TimesIn,
    #[command(flatten)]
    form: Form,
}

fn interval(text: &str) -> Result<Duration, String> {
    config::duration(text, &(Duration::from_millis(100)..=Duration::from_secs(3600)))
}

/// Runs the command. Ctrl-C ends it like `--for`.
///
/// # Errors
/// Usage (64): there is no such device. Unavailable (69): the first question has no answer,
/// or the last one had none when the command ended, or the device or its session is gone meanwhile.
/// Permission (77): the key.
pub(crate) async fn run(args: WatchArgs) -> Result<(), Failure> {
    let from = args.from.as_ref().map(|text| {
        let read = typed::moment(text, &args.times.zone(), Timestamp::now());
        read.map_err(|must| Failure::usage(format!("--from {text}: must be {must}")))
    });
    let from = from.transpose()?;
    let account = Account::load(&args.place)?;
    let device = account.any_device(args.device.as_deref()).await?;
    let data_dir = &account.config.data_dir;
    let joined = match from {
        Some(_) => Joined::all(data_dir, &device),
        None => Joined::from_now_on(data_dir, &device),
    };
    let screen = Screen::new(args.form, args.times.shown(), args.interval);
    // Until the first answer.
    let silent = CallError::Unknown { why: OutcomeDoubt::Timeout, retry_after: None };
    let unanswered = Some(ListError::Cloud(silent));
    let mut watching =
        Watching { joined, screen, delays: Delays::default(), token: None, seen: 0, count: args.count, unanswered };
    let until = async {
        match args.time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        followed = watching.follow(&args, &account.client, &device, from) => followed?,
        stopped = stopped() => stopped?,
        () = until => {}
    }
    watching.screen.summary(watching.seen, watching.delays.all())?;
    if let Some(trouble) = watching.joined.trouble() {
        return Err(trouble);
    }
    // Whoever counts on the end must know that the cloud may have more.
    watching.unanswered.map_or(Ok(()), |error| Err(refused(error)))
}

/// Waits until somebody ends the command.
async fn stopped() -> Result<(), Failure> {
    let caught = |kind| signal(kind).map_err(|error| Failure::io(format!("signals cannot be caught: {error}")));
    let (mut interrupt, mut terminate) = (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

struct Watching {
    joined: Joined,
    screen: Screen,
    delays: Delays,
    /// Session of the passings that follow.
    token: Option<Box<str>>,
    seen: u64,
    /// Passings after which the command ends.
    count: Option<u64>,
    /// Why the cloud did not answer the last question, if it did not.
    unanswered: Option<ListError>,
}

impl Watching {
    /// Shows what comes, until enough was seen.
    async fn follow(
        &mut self,
        args: &WatchArgs,
        client: &Client,
        device: &str,
        from: Option<Timestamp>,
    ) -> Result<(), Failure> {
        let begun = Follower::begin(client, device, from.map(Timestamp::as_millisecond), args.interval * LOOK_EVERY);
        let begun = Progress::new("asking the cloud for the active session").over(begun).await;
        let (mut follower, news) = begun.map_err(refused)?;
        self.unanswered = None;
        self.show(news).await?;
        let mut retry = Retry::new(args.interval, RETRY_MAX.max(args.interval));
        let mut rng = fastrand::Rng::new();
        let mut told = Instant::now();
        let mut gone = 0;
        while !self.is_enough() {
            let wait = match follower.poll().await {
                Ok(news) => {
                    if self.unanswered.take().is_some() {
                        logging::say("passbridge: the cloud answers again");
                    }
                    retry.reset();
                    gone = 0;
                    self.show(news).await?;
                    args.interval
                }
                Err(error) => {
                    gone = if is_gone(&error) { gone + 1 } else { 0 };
                    if gone == GONE {
                        return Err(Failure::unavailable(format!("{error}. The cloud says so {GONE} times in a row")));
                    }
                    let again = if gone > 0 { Some(None) } else { transient(&error) };
                    let asked = again.ok_or(error.clone()).map_err(refused)?;
                    let said = self.unanswered.replace(error.clone());
                    if said.is_none_or(|said| said.to_string() != error.to_string()) {
                        logging::say(&format!("passbridge: {error}; it is asked again"));
                    }
                    retry.next(&mut rng, asked)
                }
            };
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                self.screen.minute(self.delays.last_minute())?;
            }
            if !self.is_enough() {
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.count.is_some_and(|count| self.seen >= count)
    }

    async fn show(&mut self, news: Vec<Followed>) -> Result<(), Failure> {
        for news in news {
            match news {
                Followed::ByNumber(why) => logging::say(&format!("passbridge: {why}; it is asked by number instead")),
                Followed::NoSession => self.screen.no_session()?,
                Followed::Session { token, alias } => {
                    self.screen.session(&token, alias.as_deref())?;
                    self.token = Some(token);
                }
                Followed::Passings(rows) => self.passings(&rows).await?,
            }
        }
        Ok(())
    }

    async fn passings(&mut self, rows: &[FullPassing]) -> Result<(), Failure> {
        let now = Timestamp::now();
        let sides = self.joined.look(rows, self.token.as_deref()).await;
        for (row, side) in rows.iter().zip(&sides) {
            if self.is_enough() {
                break;
            }
            self.seen += 1;
            let arrival = Arrival::new(row, side, self.token.as_deref(), now);
            if let Some(delay) = arrival.since_read() {
                self.delays.add(delay);
            }
            self.screen.passing(&arrival)?;
        }
        self.screen.flush()
    }
}

/// Whether another try may succeed, and how long the cloud asks to wait. `None`: it may not.
fn transient(error: &ListError) -> Option<Option<Duration>> {
    match error {
        ListError::Cloud(
            error @ (CallError::NotSent(_) | CallError::Unknown { .. } | CallError::Portal | CallError::TooMany { .. }),
        ) => Some(error.retry_after()),
        _ => None,
    }
}

/// The cloud does not know the device or the session. Both were there when the command began.
fn is_gone(error: &ListError) -> bool {
    matches!(error, ListError::Cloud(CallError::DeviceUnknown { .. } | CallError::SessionGone { .. }))
}

fn refused(error: ListError) -> Failure {
    match error {
        ListError::Cloud(error) => failure(error),
        error => Failure::unavailable(error.to_string()),
    }
}
