//! Shows the state on a LED of the kernel (`[notify] led`). docs/timer/notify.md has the table of the
//! patterns for the people who look at it.
//!
//! Must hold:
//! * Three patterns and no more: a volunteer has to tell them apart without a table. A LED that is
//!   off says nothing.
//! * The kernel blinks by itself (trigger `timer`), so that the blinking costs nothing.
//! * At a stop the LED is as it was before. When the process dies otherwise, the line
//!   `ExecStopPost=` of the unit's drop-in switches it off, and systemd ends a process that hangs
//!   after 30 s. The kernel itself has no pattern that ends without a life sign.
//! * A LED that cannot be used is a problem and nothing else. It is tried again every second, so
//!   that a LED that comes back, or rights that are given later, need no restart.
//!
//! Rejected: blinking by writing the brightness, which would need ten wake-ups a second, and a busy
//! box would stutter. A short flash as a life sign for "in order", which nobody would miss.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::news::StateNews;
use crate::status::{Board, BoxState, ProblemCode};

/// How long the kernel may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The LED is a problem from this failed try on: after the trigger was set, udev needs a moment to
/// give rights to the files of the trigger.
const FAILS: u32 = 3;
/// Most names that a message lists.
const NAMES: usize = 12;

/// What is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    /// On without a break: everything is in order.
    Steady,
    /// A second on, a second off: every read is safe, and the cloud does not get it.
    Slow,
    /// Five times a second: somebody has to act now.
    Fast,
}

impl Pattern {
    fn of(state: BoxState) -> Self {
        match state {
            BoxState::Reading | BoxState::Ready => Self::Steady,
            BoxState::NotUploading | BoxState::Hold => Self::Slow,
            BoxState::CannotKeep | BoxState::NotReading | BoxState::TimeWrong => Self::Fast,
        }
    }

    /// For how many milliseconds it is on and off in turn. `None`: it does not blink.
    fn delay(self) -> Option<&'static str> {
        match self {
            Self::Steady => None,
            Self::Slow => Some("1000"),
            Self::Fast => Some("100"),
        }
    }
}

/// A LED, and how it was before.
#[derive(Clone)]
struct Led {
    folder: PathBuf,
    /// The trigger and the brightness before the first change.
    before: Option<(String, String)>,
}

impl Led {
    fn read(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(self.folder.join(file)).map(|text| text.trim().to_owned())
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // Not fs::write, which would make a file that is not there.
        use std::io::Write;
        std::fs::OpenOptions::new().write(true).open(self.folder.join(file))?.write_all(format!("{text}\n").as_bytes())
    }

    /// The trigger that is set, which the kernel shows in brackets among all of them.
    fn trigger(&self) -> io::Result<String> {
        let all = self.read("trigger")?;
        let set = all.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        Ok(set.unwrap_or("none").to_owned())
    }

    fn show(&mut self, pattern: Pattern) -> io::Result<()> {
        let trigger = self.trigger()?;
        if self.before.is_none() {
            self.before = Some((trigger.clone(), self.read("brightness")?));
        }
        match pattern.delay() {
            None => {
                if trigger != "none" {
                    self.write("trigger", "none")?;
                }
                self.write("brightness", &self.read("max_brightness")?)
            }
            Some(delay) => {
                // Setting the trigger again would make its files anew, without the rights that they have.
                if trigger != "timer" {
                    self.write("trigger", "timer")?;
                }
                self.write("delay_on", delay)?;
                self.write("delay_off", delay)
            }
        }
    }

    /// Makes the LED as it was. If it was as passbridge leaves it when it is killed, it is off.
    fn restore(&self) -> io::Result<()> {
        let Some((trigger, brightness)) = &self.before else { return Ok(()) };
        match trigger.as_str() {
            "timer" => self.write("trigger", "none").and_then(|()| self.write("brightness", "0")),
            "none" => self.write("trigger", "none").and_then(|()| self.write("brightness", brightness)),
            other => self.write("trigger", other),
        }
    }
}

/// Shows each state that comes on the LED `name` of the machine below `root`, until `stop`.
pub(super) async fn tell(
    root: &Path,
    name: &str,
    board: &Board,
    mut told: watch::Receiver<Option<StateNews>>,
    stop: CancellationToken,
) {
    let folder = root.join("sys/class/leds");
    let mut led = Led { folder: folder.join(name), before: None };
    let (mut shown, mut failed) = (None, 0_u32);
    let busy = Arc::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = told.changed() => if changed.is_err() { break },
        }
        let Some(state) = told.borrow_and_update().as_ref().map(|news| news.state) else { continue };
        let pattern = Pattern::of(state);
        if shown == Some(pattern) {
            continue;
        }
        let mut trying = led.clone();
        let (back, done) = in_time(&busy, move || {
            let done = trying.show(pattern);
            (trying, done)
        })
        .await
        .unwrap_or_else(|error| (led.clone(), Err(error)));
        led = back;
        match done {
            Ok(()) => {
                (shown, failed) = (Some(pattern), 0);
                board.clear(ProblemCode::LedFailed, "");
            }
            Err(error) => {
                (shown, failed) = (None, failed.saturating_add(1));
                if failed == FAILS {
                    let folder = folder.clone();
                    let there = in_time(&busy, move || names(&folder)).await.unwrap_or_default();
                    board.raise(ProblemCode::LedFailed, "", message(name, &error, &there));
                }
            }
        }
    }
    if let Ok(Err(error)) = in_time(&busy, move || led.restore()).await {
        tracing::debug!(%error, "the LED {name} could not be made as it was before");
    }
}

/// Does something with files of the kernel. A driver that hangs costs one thread and holds up nobody:
/// nothing more is asked of it until it answers.
async fn in_time<T: Send + 'static>(busy: &Arc<Mutex<()>>, act: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let hangs = || io::Error::new(io::ErrorKind::TimedOut, "its driver does not answer");
    let turn = Arc::clone(busy).try_lock_owned().map_err(|_| hangs())?;
    let acting = tokio::task::spawn_blocking(move || {
        let done = act();
        drop(turn);
        done
    });
    match timeout(PATIENCE, acting).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) | Err(_) => Err(hangs()),
    }
}

/// The names of the LEDs of this machine.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().take(NAMES);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn message(name: &str, error: &io::Error, there: &[String]) -> String {
    let what = match error.kind() {
        io::ErrorKind::NotFound if !there.iter().any(|known| known == name) => match there {
            [] => "this box has no LED that a program can use".to_owned(),
            names => format!("this box has no LED of that name. It has {}", names.join(", ")),
        },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "passbridge has no right to change it: it needs the rule of udev and the drop-in of the unit, which are in \
             docs/timer/notify.md"
                .to_owned()
        }
        io::ErrorKind::InvalidInput => {
            "the kernel of this box cannot make it blink (it has no trigger `timer`)".to_owned()
        }
        _ => format!("it cannot be changed: {error}"),
    };
    format!("the LED `{name}` does not show the state: {what}")
}

#[cfg(test)]
mod tests;
