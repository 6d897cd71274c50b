//! What the pages need of the box, and how something is done.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::action::PageAction;
use crate::export::Reading;
use crate::serve::ops::Ops;
use crate::serve::web::door::{Door, How, OutcomeLine, Visitor};
use crate::serve::web::shell::Shell;

/// Most things that are done at the same time.
const AT_ONCE: usize = 8;
/// Most downloads at the same time.
pub(super) const DOWNLOADS: usize = 2;
/// How long the browser waits for the outcome before the page says that it is not over.
const QUICK: Duration = Duration::from_secs(3);

/// What the pages need of the box.
#[derive(Clone)]
pub(crate) struct Doing(pub(super) Arc<Hands>);

pub(super) struct Hands {
    pub(super) door: Door,
    /// The commands. They get the journal when it is open.
    pub(super) ops: watch::Receiver<Ops>,
    pub(super) reading: Reading,
    running: Mutex<BTreeSet<String>>,
    places: Arc<Semaphore>,
    pub(super) downloads: Arc<Semaphore>,
    number: AtomicU64,
    stop: CancellationToken,
}

impl Doing {
    /// The pages of a box.
    pub(crate) fn new(door: Door, ops: watch::Receiver<Ops>, reading: Reading, stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let downloads = Arc::new(Semaphore::new(DOWNLOADS));
        let (running, number) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Hands { door, ops, reading, running, places, downloads, number, stop }))
    }

    /// The commands as they are now.
    pub(super) fn ops(&self) -> Ops {
        self.0.ops.borrow().clone()
    }

    /// The head of a page that this visitor sees.
    pub(super) fn shell<'a>(&'a self, visitor: &'a Visitor, here: &'a str) -> Shell<'a> {
        let csrf = visitor.login().map(|login| &*login.csrf);
        Shell { name: self.0.door.name(), here, csrf }
    }
}

/// A panic, which is a fault of the program.
const FAULT: &str = "passbridge failed while doing it; it may be half done. `journalctl -u passbridge` shows why";

/// One thing that is being done, until it ends.
struct RunningAction(Doing, String);

impl Drop for RunningAction {
    fn drop(&mut self) {
        self.0.0.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Doing {
    /// Does it, and keeps the outcome for the login. A browser waits for [`QUICK`] at most.
    pub(super) async fn carry_out(&self, action: PageAction, ops: Ops, visitor: &Visitor) -> Result<String, String> {
        let (words, page, now) = (action.words(), action.page(), ops.now());
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        let (login, by, stop) = (visitor.login().cloned(), visitor.peer.origin(), self.0.stop.clone());
        let line = {
            let (login, words) = (login.clone(), words.clone());
            move |at, how, text: &str| {
                let text = format!("{words}: {text}");
                let line = OutcomeLine { page, at, how, text };
                login.iter().for_each(|login| login.show(number, line.clone()));
            }
        };
        let begun = self.begin(&words);
        let (place, running) = match begun {
            Ok(begun) => begun,
            Err(why) => {
                line(now, How::Failed, why);
                return Err(why.to_owned());
            }
        };
        line(now, How::Running, "it is being done. This page shows the outcome by itself");
        let patience = if login.is_some() { QUICK } else { Duration::MAX };
        let doing = tokio::spawn(async move {
            let noted = action.notes_itself();
            let run = AssertUnwindSafe(action.run(&ops, &by)).catch_unwind();
            let outcome = match stop.run_until_cancelled(run).await {
                Some(Ok(outcome)) => outcome,
                Some(Err(_)) => Err(FAULT.to_owned()),
                None => Err("passbridge stopped meanwhile, so the outcome is not known".to_owned()),
            };
            let (how, text) = match &outcome {
                Ok(done) => (How::Done, done),
                Err(why) => (How::Failed, why),
            };
            line(ops.now(), how, text);
            drop(running);
            if !noted {
                // It waits while the disk is full. The place bounds how many wait.
                ops.note_action(&words, &by, text).await;
            }
            drop(place);
            outcome
        });
        match timeout(patience, doing).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(FAULT.to_owned()),
            Err(_) => Ok("it is being done".to_owned()),
        }
    }

    fn begin(&self, words: &str) -> Result<(OwnedSemaphorePermit, RunningAction), &'static str> {
        let place = Arc::clone(&self.0.places).try_acquire_owned();
        let place = place.map_err(|_| "not begun, because many other things are being done. Wait a moment")?;
        let is_new = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).insert(words.to_owned());
        match is_new {
            true => Ok((place, RunningAction(self.clone(), words.to_owned()))),
            false => Err("not begun again, because it is being done already"),
        }
    }
}
