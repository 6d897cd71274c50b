//! Reports to systemd: ready, stopping, one line of status, and life signs while the process really
//! works.
//!
//! Without systemd (no `NOTIFY_SOCKET`) nothing here has an effect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Looks in each watchdog time. So systemd ends a process that hangs after at most one and a quarter of
/// that time, and a process whose machine is busy for a moment has three more looks.
const LOOKS: u32 = 4;

/// Reports that the process runs, so that systemd counts the unit as started. That says nothing
/// about the journal: a data directory that cannot be used yet is a state of the box, which
/// [`status`] and `/readyz` report.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that the process ends on purpose.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Sends one line for `systemctl status`. The same line is not sent twice in a row.
pub(crate) fn status(line: &str) {
    static TOLD: Mutex<String> = Mutex::new(String::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if *told != line {
        line.clone_into(&mut told);
        tell(&[NotifyState::Status(line)]);
    }
}

/// Sends states to systemd. Without systemd nothing is sent, and that is no error. With systemd, a
/// state that cannot be sent is worth a warning, because systemd would wait for "ready" or for a
/// life sign, and end a process that works.
fn tell(states: &[NotifyState<'_>]) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if let Err(error) = sd_notify::notify(states)
        && !WARNED.swap(true, Ordering::Relaxed)
    {
        let socket = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
        tracing::warn!(
            socket,
            %error,
            "systemd could not be told how this service is: it may call the service failed and restart it"
        );
    }
}

/// Sends life signs to systemd, [`LOOKS`] in each watchdog time, until `stop` and only while `alive` is
/// true. If `alive` becomes false and stays false, systemd ends the process and starts it again.
/// Returns at once if no watchdog is set.
///
/// `alive` must judge the work and not this task: that the runtime can still run a timer proves
/// little. It is asked at each look, and answers for the time since the look before.
pub(crate) async fn watchdog(alive: impl FnMut() -> bool, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else { return };
    let sign = || tell(&[NotifyState::Watchdog]);
    ping(limit / LOOKS, alive, stop, sign).await;
}

async fn ping(every: Duration, mut alive: impl FnMut() -> bool, stop: CancellationToken, mut sign: impl FnMut()) {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let well = alive();
        if well {
            sign();
        } else if !silent {
            tracing::error!("the process does not get on; systemd gets no more life signs and will start it again");
        }
        silent = !well;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn systemd_gets_life_signs_only_while_the_work_goes_on() {
        let (works, signs, stop) = (Cell::new(true), Cell::new(0), CancellationToken::new());
        let pinging = ping(Duration::from_secs(15), || works.get(), stop.clone(), || signs.set(signs.get() + 1));
        let story = async {
            tokio::time::sleep(Duration::from_secs(31)).await;
            assert_eq!(signs.get(), 3);
            works.set(false);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(signs.get(), 3);
            works.set(true);
            tokio::time::sleep(Duration::from_secs(15)).await;
            assert_eq!(signs.get(), 4);
            stop.cancel();
        };
        tokio::join!(pinging, story);
    }
}
