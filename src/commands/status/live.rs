//! `passbridge status --watch`: the box on the whole screen of a terminal, once a second.
//!
//! Must hold:
//! * **A box that does not answer is said at once**, with the time of the last news. What is shown
//!   below is from that time, and says so. The command asks on, and shows the box as soon as it
//!   answers.
//! * **The terminal is given back as it was**, also after a signal and after a panic.
//! * It only asks. It changes nothing, and it needs no right that `status` does not need.
//!
//! What is drawn is in `screen`, which does no I/O.

mod screen;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::screen::{LiveNews, LiveView};
use crate::config::Config;
use crate::config::failure::Failure;
use crate::model::shown::ShownIn;
use crate::serve::control::{self, ControlError, ControlRequest};
use crate::status::{RecentRead, Snapshot};

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// A box that needs longer than this for an answer is said to give none.
const PATIENCE: Duration = Duration::from_secs(2);
/// Reads that are asked for: more than any screen has lines for them.
const READS: usize = 100;
/// Keys that wait to be looked at.
const KEYS: usize = 16;

/// Who is asked.
pub(super) enum AskedBox {
    /// The daemon of this data directory.
    DataDir(PathBuf),
    /// The daemon of this configuration, through its socket or its page.
    Configured(Box<Config>),
}

impl AskedBox {
    /// The status as the daemon sent it.
    ///
    /// # Errors
    /// Like [`control::ask`].
    pub(super) async fn status(&self) -> Result<Value, ControlError> {
        match self {
            Self::DataDir(dir) => control::ask(dir, ControlRequest::Status).await,
            Self::Configured(config) => control::status(config).await,
        }
    }

    fn data_dir(&self) -> &PathBuf {
        match self {
            Self::DataDir(dir) => dir,
            Self::Configured(config) => &config.data_dir,
        }
    }

    /// The newest reads. A daemon of an older version does not know the question, and the page is
    /// not asked for them: then there are none.
    async fn reads(&self) -> Vec<RecentRead> {
        let asked = control::ask(self.data_dir(), ControlRequest::Reads { limit: READS }).await;
        let reads = asked.ok().and_then(|mut answer| serde_json::from_value(answer.get_mut("reads")?.take()).ok());
        reads.unwrap_or_default()
    }

    /// What the box says now, or why it says nothing.
    async fn news(&self) -> Result<LiveNews, String> {
        let asking = async {
            let status = self.status().await.map_err(|error| match error {
                ControlError::NotRunning(_) => error.to_string(),
                ControlError::Forbidden(_)
                | ControlError::NoAnswer { .. }
                | ControlError::NotDone(_)
                | ControlError::Refused { .. } => {
                    format!("It may still be reading: {error}")
                }
            })?;
            let status = serde_json::from_value::<Snapshot>(status).ok().filter(|status| !status.sentence.is_empty());
            let status = status.ok_or("the passbridge that runs is of another version: restart it")?;
            Ok(LiveNews { status, reads: self.reads().await, at: Timestamp::now() })
        };
        let none = || Err(format!("It may still be reading: no answer within {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| none())
    }
}

/// Shows the box until `q`, Ctrl-C or a signal ends it.
///
/// # Errors
/// Usage (64): standard output or input is no terminal, or one that cannot be drawn on. I/O (74): the
/// terminal fails.
pub(super) async fn run(source: AskedBox, times: ShownIn) -> Result<(), Failure> {
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    if dumb || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let why = if dumb { "this terminal (TERM=dumb) cannot be drawn on" } else { "this is no terminal" };
        return Err(Failure::usage(format!(
            "status --watch draws on the whole screen of a terminal, and {why}. In a script: `passbridge status --state`, or \
             --json"
        )));
    }
    let colour = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    // It restores the terminal after a panic, too.
    let mut terminal = ratatui::try_init().map_err(|error| fails(&error))?;
    let result = show(&mut terminal, source, LiveView::new(times, colour)).await;
    let restored = ratatui::try_restore();
    result?;
    restored.map_err(|error| fails(&error))
}

fn fails(error: &io::Error) -> Failure {
    Failure::io(format!("the terminal cannot be drawn on: {error}"))
}

async fn show(terminal: &mut ratatui::DefaultTerminal, source: AskedBox, mut view: LiveView) -> Result<(), Failure> {
    let mut keys = keys();
    let mut news = ask_on(source);
    let caught = |kind| signal(kind).map_err(|error| Failure::io(format!("signals cannot be caught: {error}")));
    let mut signals =
        (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?, caught(SignalKind::hangup())?);
    loop {
        terminal.draw(|frame| view.draw(frame)).map_err(|error| fails(&error))?;
        tokio::select! {
            Some(news) = news.recv() => view.take(news),
            key = keys.recv() => match key {
                Some(Ok(event)) if ends(&event) => return Ok(()),
                Some(Ok(_)) => {} // a new size is drawn at once
                Some(Err(error)) => return Err(fails(&error)),
                None => return Ok(()),
            },
            _ = signals.0.recv() => return Ok(()),
            _ = signals.1.recv() => return Ok(()),
            _ = signals.2.recv() => return Ok(()),
        }
    }
}

/// Asks once a second from now on, until nobody takes the news.
fn ask_on(source: AskedBox) -> mpsc::Receiver<Result<LiveNews, String>> {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if send.send(source.news().await).await.is_err() {
                return;
            }
        }
    });
    receive
}

/// What is typed. The thread waits for the next key when the command ends, and the process does not
/// wait for it.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (send, receive) = mpsc::channel(KEYS);
    thread::spawn(move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if send.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    receive
}

/// Whether a key ends the command: `q`, Escape, Ctrl-C or Ctrl-D.
fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && match key.code {
            KeyCode::Char('c' | 'd') => control,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
            _ => false,
        }
}
