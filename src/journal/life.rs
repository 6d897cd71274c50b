//! What others ask about the threads of the journal: the watchdog whether they get on, and the daemon
//! whether people have to be told of a slow disk. What counts as getting on is in `pulse`.

use super::Journal;
use super::pulse::DISK_SLOW;
use crate::status::ProblemCode;

/// What the watchdog saw at its last look.
#[derive(Default)]
pub(crate) struct SeenPulses {
    writer: Option<u64>,
    follower: Option<u64>,
}

impl Journal {
    /// Whether both threads got on since the last look, or wait for a disk that may still answer.
    /// This call does not wait.
    pub(crate) fn gets_on(&self, seen: &mut SeenPulses) -> bool {
        let (writer, follower) = (&self.shared.writer, &self.shared.follower);
        let alive = [writer.is_alive(&mut seen.writer), follower.is_alive(&mut seen.follower)];
        // For the next look. If the channel is full, the writer has enough to do.
        self.shared.wake_writer(Vec::new());
        self.is_alive() && alive == [true, true]
    }

    /// Tells people when the writer waits for the disk for long. The writer tells when that is over.
    pub(crate) fn tell_slow_disk(&self) {
        let writer = &self.shared.writer;
        let turns = writer.turns();
        let Some(waits) = writer.waits_for_disk().filter(|waits| *waits >= DISK_SLOW) else { return };
        let board = &self.shared.board;
        let message = format!(
            "the disk of {} has not answered for {} s: it is very slow, or it is failing. Reads wait in memory; look at it and \
             at its cable",
            self.shared.config.dir.display(),
            waits.as_secs()
        );
        writer.tells();
        board.not_ready("disk", Some(message.clone()));
        board.raise(ProblemCode::DiskFailed, "", message);
        // It may have answered just now. If it refused something, the next try tells that anew.
        if writer.turns() != turns {
            writer.take_told();
            self.shared.disk_recovered();
        }
    }
}
