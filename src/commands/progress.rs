//! The line on a terminal that says what takes longer than a second.
//!
//! Must hold: it is on standard error, on a terminal only, and gone when the work is done. It is never
//! between the rows of a result: while these go to a terminal too, whoever writes them shows no line,
//! or writes [`Progress::beside`] it.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that takes longer than this gets the line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Time between two pictures of the line.
const TICK: Duration = Duration::from_millis(120);

/// The line. Clones share it.
#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A line that is not shown yet.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_message(what.into());
        Self(bar)
    }

    /// Changes what the line says.
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// Shows that so many parts of the whole are done, as a bar.
    pub(crate) fn done(&self, parts: u64, whole: u64) {
        if self.0.length() != Some(whole) {
            self.0.set_length(whole);
            // The template is a constant; if it were wrong, the line would have no bar.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{bar:30}] {percent} %") {
                self.0.set_style(style.progress_chars("━━·"));
            }
        }
        self.0.set_position(parts);
    }

    /// Writes something else, with the line out of the way.
    pub(crate) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Waits for the work, and shows the line while it takes longer than a second.
    pub(crate) async fn over<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
            return done;
        }
        show(&self.0);
        let done = work.await;
        self.0.finish_and_clear();
        done
    }

    /// Does work that keeps this thread, and shows the line while it takes longer than a second.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let (end, ended) = mpsc::channel::<()>();
        let bar = self.0.clone();
        let watch = thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                show(&bar);
            }
        });
        let done = work();
        drop(end);
        // It shows a line at most, and nobody waits for it longer than that takes.
        let _ = watch.join();
        self.0.finish_and_clear();
        done
    }

    /// Like [`Progress::during`], for work that writes rows to standard output. There is no line if
    /// these go to a terminal.
    pub(crate) fn during_rows<T>(&self, work: impl FnOnce() -> T) -> T {
        if io::stdout().is_terminal() { work() } else { self.during(work) }
    }
}

fn show(bar: &ProgressBar) {
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.enable_steady_tick(TICK);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_keeps_the_thread_has_its_result_and_does_not_wait_for_the_line() {
        let progress = Progress::new("counting");
        assert_eq!(progress.during(|| 7), 7);
        assert!(progress.0.is_finished());
    }

    #[test]
    fn parts_of_a_whole_are_a_bar() {
        let progress = Progress::new("exporting");
        progress.done(3, 12);
        assert_eq!((progress.0.position(), progress.0.length()), (3, Some(12)));
        progress.done(12, 12);
        assert_eq!(progress.0.position(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_waited_for_has_its_result() {
        assert_eq!(Progress::new("asking").over(async { 7 }).await, 7);
    }
}
