//! Questions to the journal: which reads wait for upload, how far each upload has come, and which
//! positions of a decoder's memory are stored.

use std::path::Path;

use jiff::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use super::Journal;
use super::entry::Body;
use super::hold::Skipped;
use super::state::{DeviceFold, ReadVerdict, Waiting};
use super::upload::{DeviceState, Pending, SessionAudit, UploadEvent, UploadItem};
use super::waiting::Since;
use crate::model::chip::{Seq, StoredRanges};
use crate::model::source;
use crate::status::{Board, ReadCounts};

impl Journal {
    /// The data directory of the journal.
    pub fn dir(&self) -> &Path {
        &self.shared.config.dir
    }

    /// First sequence number that this process gives.
    pub fn first(&self) -> Seq {
        Seq(self.first)
    }

    /// Whether reads without a date wait for the box's clock: they arrived while the box did not
    /// know the date, and no step of its clock that sets the date was recorded since.
    pub fn waits_for_clock(&self) -> bool {
        let core = self.shared.lock();
        core.serving && core.state.unset_through > 0
    }

    /// Waits until the queue serves (it may be opening or rebuilding).
    pub async fn serving(&self) {
        let mut serving = self.shared.serving.subscribe();
        // `shared` owns the sender, so this cannot fail.
        let _ = serving.wait_for(|serving| *serving).await;
    }

    /// State of a device's upload. Valid only after [`Journal::serving`].
    pub fn device(&self, device: &str) -> DeviceState {
        DeviceState { first: self.first, ..self.shared.lock().state.device(device) }
    }

    /// Sessions in which a device's passings were numbered (the newest 32), with their last audits,
    /// the newest last, and the alias of each session if the cloud sent one. Valid only after
    /// [`Journal::serving`].
    pub fn audits(&self, device: &str) -> Vec<(SessionAudit, Option<Box<str>>)> {
        let core = self.shared.lock();
        let Some(fold) = core.state.devices.get(device) else { return Vec::new() };
        let alias = |token: &str| fold.sessions.iter().find(|session| *session.0 == *token)?.1.clone();
        fold.audits.iter().map(|audit| (audit.clone(), alias(&audit.token))).collect()
    }

    /// The last number that would survive a power cut.
    pub fn durable(&self) -> Seq {
        Seq(self.shared.lock().durable)
    }

    /// The next passings of a device: at most `limit` passings of the given decoders. Empty while
    /// the queue does not serve, and while the box is on hold. The receive times are corrected by the steps of the box's clock
    /// that were recorded since.
    pub fn pending(&self, device: &str, decoders: &[Box<str>], limit: usize) -> Pending {
        loop {
            let turns = self.shared.lock().state.turns;
            let span = self.span(device, decoders, limit);
            // A hold that began or ended meanwhile decides about what was read.
            if self.shared.lock().state.turns == turns {
                return span;
            }
        }
    }

    fn span(&self, device: &str, decoders: &[Box<str>], limit: usize) -> Pending {
        let (mut after, skips, since, mut span) = {
            let core = self.shared.lock();
            if !core.serving {
                return Pending::default();
            }
            if core.state.hold.is_some() {
                return Pending { through: Seq(core.state.followed), ..Pending::default() };
            }
            // The first read of a decoder that is still unknown may arrive while this function
            // runs. Its sequence number is above `followed`.
            let followed = core.state.followed;
            let cursor = |decoder: &str| core.state.decoders.get(decoder).map_or(followed, |fold| fold.cursor);
            let cursors: Vec<u64> = decoders.iter().map(|decoder| cursor(decoder)).collect();
            let skipped = |decoder: &str| core.state.decoders.get(decoder).map(|fold| fold.skipped.clone());
            let skipped = decoders.iter().map(|decoder| skipped(decoder).unwrap_or_default());
            let seen = core.nothing_before.get(device).copied().unwrap_or(0);
            let from = cursors.iter().copied().min().unwrap_or(followed).min(followed);
            let skips: Vec<(u64, Skipped)> = cursors.into_iter().zip(skipped).collect();
            let returned = core.state.devices.get(device).map(DeviceFold::waiting_again);
            let returned = returned.into_iter().flatten().take(limit).cloned().collect();
            let span = Pending { returned, ..Pending::default() };
            (from.max(seen), skips, Since::now(&core, self.first), span)
        };
        span.through = Seq(after);
        let mine = |waiting: &Waiting| {
            let at = decoders.iter().position(|decoder| **decoder == *waiting.read.decoder)?;
            let ((cursor, skipped), seq) = (&skips[at], waiting.read.seq.0);
            (seq > *cursor && !skipped.has(seq)).then_some(())
        };
        loop {
            let (reads, through) = self.reads_after(after);
            if reads.is_empty() {
                span.through = Seq(through.max(after));
                break;
            }
            for waiting in reads {
                if span.is_full(limit) {
                    return span;
                }
                let mine = mine(&waiting).is_some();
                if waiting.verdict == ReadVerdict::Waits && mine {
                    // This read waits for its decoder's stored reads. All reads behind it wait too,
                    // so that the order stays.
                    return span;
                }
                after = waiting.read.seq.0;
                span.through = Seq(after);
                if mine {
                    span.add(waiting, &since);
                }
            }
        }
        if span.is_empty() {
            self.shared.lock().nothing_before.insert(device.into(), span.through.0);
        }
        span
    }

    /// Some reads after `after`, in order, that may still wait for upload. If the list is empty, no
    /// read up to the returned number waits.
    pub(super) fn reads_after(&self, after: u64) -> (Vec<Waiting>, u64) {
        loop {
            let (in_blocks, given_up, spans) = {
                let core = self.shared.lock();
                if !core.serving {
                    // The spans may already be gone, so their content is unknown.
                    return (Vec::new(), after);
                }
                (core.in_blocks, core.given_up, self.shared.spans())
            };
            if after < in_blocks {
                for span in spans {
                    match aside(|| span.reads_after(after)) {
                        Ok(mut reads) => {
                            reads.retain(|waiting| waiting.read.seq.0 <= in_blocks);
                            if !reads.is_empty() {
                                return (reads, in_blocks);
                            }
                        }
                        Err(broken) => {
                            let mut core = self.shared.lock();
                            core.distrust.get_or_insert_with(|| broken.to_string());
                            self.shared.turn.notify_all();
                            return (Vec::new(), after);
                        }
                    }
                }
            }
            let core = self.shared.lock();
            if !core.serving || core.in_blocks != in_blocks || core.given_up != given_up {
                // A checkpoint ended meanwhile (reads moved from memory to blocks), or the queue is
                // another one.
                continue;
            }
            let from = after.max(in_blocks);
            let flushing = core.flushing.iter().filter(|waiting| waiting.read.seq.0 > from);
            let at = core.state.tail.partition_point(|waiting| waiting.read.seq.0 <= from);
            let reads: Vec<Waiting> = flushing.chain(core.state.tail.range(at..)).take(512).cloned().collect();
            return (reads, core.state.followed);
        }
    }

    /// Counts the reads that no batch covers, the passings in flight and the released passings.
    /// Also returns when the oldest read that no batch covers was received.
    pub fn backlog(&self) -> (u64, Option<Timestamp>) {
        let (decoders, waiting) = {
            let core = self.shared.lock();
            let open = core.state.devices.values().map(|device| {
                device.waiting_again().count() as u64
                    + device.in_flight.as_ref().map_or(0, |flight| flight.open.len() as u64)
            });
            let waiting = core.state.waiting + open.sum::<u64>();
            let accepted: u64 = core.riding().values().map(|(accepted, _)| accepted).sum();
            (core.state.decoders.keys().cloned().collect::<Vec<_>>(), waiting.saturating_sub(accepted))
        };
        let oldest = self.pending("", &decoders, 1).reads.first().map(|read| read.received);
        (waiting, oldest)
    }

    /// The oldest read whose passing is in flight or released, and never was in the cloud.
    pub(crate) fn oldest_open(&self) -> Option<Seq> {
        self.shared.lock().state.devices.values().filter_map(DeviceFold::oldest_open).min()
    }

    /// Decoders with reads that no batch covers.
    pub fn decoders_waiting(&self) -> Vec<Box<str>> {
        let core = self.shared.lock();
        let waiting = core.state.decoders.iter().filter(|(_, fold)| fold.last > fold.cursor);
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Duplicates since the process started. They are kept and not uploaded.
    pub fn duplicates(&self) -> u64 {
        self.shared.lock().state.duplicates.0
    }

    /// All reads by what became of them; `None` while the state does not follow the log yet.
    pub fn reads(&self) -> Option<ReadCounts> {
        let core = self.shared.lock();
        core.serving.then(|| core.reads())
    }

    /// Shows on the board what became of the reads, and how many passings of each device were sent.
    /// All of it is from one moment, so that no device has sent more than the cloud has. Returns
    /// false, and shows nothing, while the state does not follow the log yet.
    pub fn show_sent(&self, board: &Board) -> bool {
        let (reads, devices) = {
            let core = self.shared.lock();
            if !core.serving {
                return false;
            }
            let riding = core.riding();
            let devices = core.state.devices.iter().map(|(device, fold)| {
                let (accepted, duplicates) = riding.get(&**device).copied().unwrap_or_default();
                (device.clone(), fold.sent + accepted, fold.duplicates + duplicates)
            });
            (core.reads(), devices.collect::<Vec<_>>())
        };
        board.show_sent(reads, &devices);
        true
    }

    /// Passings in flight that the cloud has accepted, although the line that says so is not durable
    /// yet: device, first and last number.
    pub(crate) fn accepted_soon(&self) -> Vec<(Box<str>, u64, u64)> {
        let core = self.shared.lock();
        let accepted = core.riders.iter().filter_map(|(_, _, body, _)| match body {
            Body::Upload(UploadEvent::Accepted { device, first, last, .. }) => Some((device.clone(), *first, *last)),
            _ => None,
        });
        accepted.collect()
    }

    /// Reads from `from` on that are no passings, because they repeat a read or are within the dead
    /// time. Only those that no checkpoint covers; a batch tells the others.
    pub(crate) fn no_passings(&self, from: Seq) -> Vec<Seq> {
        let core = self.shared.lock();
        if !core.serving {
            return Vec::new();
        }
        let at = core.state.tail.partition_point(|waiting| waiting.read.seq < from);
        let is_none = |waiting: &&Waiting| matches!(waiting.verdict, ReadVerdict::Dead | ReadVerdict::Duplicate);
        core.state.tail.range(at..).filter(is_none).map(|waiting| waiting.read.seq).collect()
    }

    /// How many passings of each device have a number in its last session, with that session: those
    /// in the cloud, and those on their way. A device whose count is not known is left out.
    pub fn numbered_in_session(&self) -> Vec<(Box<str>, Box<str>, u64)> {
        let core = self.shared.lock();
        let last = |fold: &DeviceFold| {
            let (token, ..) = fold.sessions.last()?;
            let (_, count) = fold.numbered_in.iter().find(|(known, _)| known == token)?;
            Some((token.clone(), *count))
        };
        let devices = core.state.devices.iter().filter(|_| core.serving);
        let known = devices.filter_map(|(device, fold)| Some((device.clone(), last(fold)?)));
        known.map(|(device, (token, count))| (device, token, count)).collect()
    }

    /// Number of passings that are set aside, over all devices.
    pub fn dead_letters(&self) -> u64 {
        self.shared.lock().state.devices.values().map(DeviceFold::dead_letter_count).sum()
    }

    /// Devices with passings that are numbered or released and not settled, each with the number of
    /// those passings.
    pub fn devices_waiting(&self) -> Vec<(Box<str>, usize)> {
        let core = self.shared.lock();
        let riding = core.riding();
        let open = core.state.unsettled().into_iter().map(|(device, unsettled)| {
            let accepted = riding.get(&*device).map_or(0, |(accepted, _)| *accepted as usize);
            (device, unsettled.count().saturating_sub(accepted))
        });
        open.filter(|(_, count)| *count > 0).collect()
    }

    /// Passings of a device that were released, or are to be sent again, and were not numbered since. Valid only after
    /// [`Journal::serving`].
    pub fn released(&self, device: &str) -> Vec<UploadItem> {
        let core = self.shared.lock();
        core.state.devices.get(device).map(|fold| fold.waiting_again().cloned().collect()).unwrap_or_default()
    }

    /// Number of passings of all devices that were set aside because the cloud failed at them. They
    /// are tried again automatically.
    pub fn failing(&self) -> usize {
        self.shared.lock().state.devices.values().map(|fold| fold.failing.len()).sum()
    }

    /// Changes whenever an entry was kept or recorded. The value is the last durable number.
    pub fn changed(&self) -> watch::Receiver<Seq> {
        self.shared.changed.subscribe()
    }

    /// Which positions of a decoder's memory are stored, over all its sources. Waits until the
    /// queue serves.
    pub async fn stored_ranges(&self, decoder: &str) -> StoredRanges {
        self.serving().await;
        let core = self.shared.lock();
        let mut held = StoredRanges::default();
        for (_, fold) in source::of(&core.state.decoders, decoder) {
            held.merge(&fold.held);
        }
        held
    }
}

/// Does what may wait for the disk. Other tasks of the runtime go on meanwhile, on another thread: a
/// card that does not answer must not keep the links from reading.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(), // a test's runtime has one thread
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_disk_that_does_not_answer_holds_up_only_the_task_that_asks_it() {
        let (answer, waits) = mpsc::channel();
        let (asks, asked) = tokio::sync::oneshot::channel();
        let asking = tokio::spawn(async move {
            aside(|| {
                asks.send(()).unwrap();
                waits.recv_timeout(Duration::from_secs(30))
            })
        });
        // A link, on the one thread that the runtime has.
        let other = tokio::spawn(async move {
            asked.await.unwrap();
            answer.send("at last").unwrap();
        });
        other.await.unwrap();
        assert_eq!(asking.await.unwrap(), Ok("at last"));
    }
}
