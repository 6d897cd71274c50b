//! Tasks that run once a second: they watch the backlog, reads and passings that nobody uploads,
//! steps of the clock, and whether the threads of the journal are alive.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::notes::{NOTES, Note};
use crate::config::failure::Failure;
use crate::journal::Journal;
use crate::journal::control::Loss;
use crate::journal::let_go::Told;
use crate::model::source;
use crate::serve::ops::{show_counts, show_seen};
use crate::status::{Board, ProblemCode};

/// What the configuration uploads.
pub(super) struct Known {
    /// The names of the sources.
    pub(super) decoders: Vec<Box<str>>,
    pub(super) devices: Vec<String>,
}

impl Known {
    /// Whether reads of this decoder will not be uploaded. Without `[cloud]` no read is uploaded,
    /// and that is intended.
    fn lacks_decoder(&self, name: &str) -> bool {
        !self.decoders.is_empty() && !self.decoders.iter().any(|known| **known == *name)
    }

    fn lacks_device(&self, device: &str) -> bool {
        !self.devices.is_empty() && !self.devices.iter().any(|known| known == device)
    }
}

/// Does once a second what no other task does. It shows the backlog on the board, looks for reads
/// and passings that nobody uploads and for steps of the clock, and checks whether the threads of
/// the journal are alive.
pub(super) async fn chores(
    journal: Journal,
    board: Board,
    stop: CancellationToken,
    notes: mpsc::Sender<Note>,
    known: Known,
    mut clock: clock::Watch,
) -> Result<(), Failure> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown_reads = Standing::new(ProblemCode::ReadsWithoutDecoder);
    let mut shown_passings = Standing::new(ProblemCode::PassingsWithoutDevice);
    let mut held_back = Standing::new(ProblemCode::ReadsHeldBack);
    // Steps that were not accepted for writing yet: at most one a second, while the disk is full.
    let mut steps = VecDeque::new();
    let mut restored = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if !journal.is_alive() {
            return Err(Failure::io("a thread of the journal ended; see the log above"));
        }
        journal.tell_slow_disk();
        show_counts(&journal, &board);
        restored = restored || restore_losses(&journal, &board);
        for decoder in journal.decoders_waiting().iter().filter(|decoder| known.lacks_decoder(decoder)) {
            let name = source::decoder(decoder);
            let (whose, what) = match source::location(decoder) {
                Some(location) => {
                    (format!("location `{location}` of decoder `{name}`"), "[decoder.locations] of it has no such name")
                }
                None => (format!("decoder `{name}`"), "the configuration has no decoder of that name that is uploaded"),
            };
            let message = format!(
                "reads of {whose} wait, and {what}: they stay on the box until it has one again; export shows them"
            );
            shown_reads.raise(&board, decoder, message);
        }
        shown_reads.settle(&board);
        for (device, count) in journal.devices_waiting().into_iter().filter(|(device, _)| known.lacks_device(device)) {
            let message = format!(
                "{count} passings of device {device} are not confirmed, and the configuration has no decoder of that device: \
                 they stay on the box until it has one again; export shows them. If the device_id was corrected, they follow \
                 with: passbridge resend --from-device {device} --to-device DEVICE"
            );
            shown_passings.raise(&board, &device, message);
        }
        shown_passings.settle(&board);
        tell_held_back(&journal, &board, &mut held_back);
        if let Some(step) = clock.look(&board, &journal)
            && steps.len() < NOTES
        {
            steps.push_back(step);
        }
        while let Some(step) = steps.pop_front() {
            if notes.try_send(Note::Step(step)).is_err() {
                steps.push_front(step);
                break;
            }
        }
    }
    Ok(())
}

/// Shows the losses again that an earlier process found and nobody acknowledged. `false`: the journal does not know them
/// yet.
fn restore_losses(journal: &Journal, board: &Board) -> bool {
    let Some(losses) = journal.shown_losses() else { return false };
    show_seen(journal, board);
    for Loss { code, about, message } in losses {
        if let Some(code) = ProblemCode::of_word(&code) {
            board.restore(code, &about, &message);
        }
    }
    true
}

/// A problem that is shown for each thing about which the last look found it.
struct Standing {
    code: ProblemCode,
    /// What the problem was about at the last look, and what it is about at this one.
    before: BTreeSet<String>,
    now: BTreeSet<String>,
}

impl Standing {
    fn new(code: ProblemCode) -> Self {
        Self { code, before: BTreeSet::new(), now: BTreeSet::new() }
    }

    fn raise(&mut self, board: &Board, about: &str, message: String) {
        board.raise(self.code, about, message);
        self.now.insert(about.to_owned());
    }

    /// Ends the look, and clears the problem for everything that this look did not find any more.
    fn settle(&mut self, board: &Board) {
        let now = std::mem::take(&mut self.now);
        for about in self.before.difference(&now) {
            board.clear(self.code, about);
        }
        self.before = now;
    }
}

/// Raises the problem for reads that are held back, one for each decoder.
fn tell_held_back(journal: &Journal, board: &Board, shown: &mut Standing) {
    for Told { decoder, count, first, last } in journal.held_back() {
        let (reads, are) = if count == 1 { ("read", "is") } else { ("reads", "are") };
        let message = format!(
            "{count} {reads} of `{decoder}` {are} held back, stamped {first} to {last}: the decoder was cleared, and gave \
             them from its memory although they were made before, so they may be of another race. They are kept and not \
             uploaded. Look at them (`passbridge export --format csv --decoder {decoder}`); if they belong to this \
             race, upload them with `passbridge resend --held-back --decoder {decoder}`"
        );
        shown.raise(board, &decoder, message);
    }
    shown.settle(board);
}
