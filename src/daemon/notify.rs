//! Tells people who have no screen how the box is: a program, a webhook, a LED. And watches the
//! mats that must not be silent.
//!
//! Must hold:
//! * **The state that is told is the judge's.** Once a second it is looked at, and everybody who is
//!   told gets the same [`StateNews`].
//! * **Nothing waits for it.** Each way of telling has a task of its own, which takes the newest
//!   news when it has time. StateNews that it missed are gone. What fails is a problem and never an
//!   error of the box.
//! * **No read leaves the box this way**, and neither a chip, nor the key, nor a token. The address
//!   of the webhook is a secret of which only the host is shown.
//!
//! Rejected: one queue of messages for all ways, because a program that hangs would then hold up
//! the LED, and a queue needs a bound where "the newest" needs none.

mod expected;
mod led;
mod news;
mod program;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::expected::Watchlist;
use self::news::StateNews;
use super::service;
use crate::config::failure::Failure;
use crate::config::{ExpectConfig, Webhook};
use crate::status::Board;

/// The state of the box, for those who tell it to others. `None`: it was not looked at yet.
pub(super) type Told = watch::Sender<Option<StateNews>>;

/// Once a second: looks at the state of the box, so that the state is up to date although nobody
/// asks for it. It reports each change to systemd, to the log, and to whoever subscribed to `told`.
pub(super) async fn watch_state(board: Board, told: Told, stop: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let news = StateNews::of(board.look(), board.now());
        service::status(&format!("{}. {}", news.state.shown(), news.sentence));
        if before.replace(news.state) != Some(news.state) {
            // Each problem behind it is logged separately.
            tracing::info!(state = news.state.word(), "{}", news.sentence);
        }
        told.send_replace(Some(news));
    }
    Ok(())
}

/// Once a second: raises a problem for each mat that is silent when it must not be.
pub(super) async fn watch_mats(
    expect: Vec<ExpectConfig>,
    board: Board,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let mut watchlist = Watchlist::new(expect);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        watchlist.look(&board, &TimeZone::system());
    }
    Ok(())
}

/// Runs `program` at each change of the state.
pub(super) async fn run_program(
    program: PathBuf,
    board: Board,
    told: watch::Receiver<Option<StateNews>>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    program::tell(&program, &board, told, stop).await;
    Ok(())
}

/// Posts to the webhook when the state has been bad for a minute, and when that is over.
pub(super) async fn post(
    webhook: Webhook,
    board: Board,
    told: watch::Receiver<Option<StateNews>>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    webhook::tell(&webhook, &board, told, &stop).await;
    Ok(())
}

/// Shows the state on a LED of the machine whose files are below `root` (`/`).
pub(super) async fn show(
    root: PathBuf,
    led: String,
    board: Board,
    told: watch::Receiver<Option<StateNews>>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    led::tell(&root, &led, &board, told, stop).await;
    Ok(())
}
