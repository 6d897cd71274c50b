//! What the journal can be asked: what waits for upload, how far each upload is, and what is held of a decoder's memory.

use std::path::Path;

use jiff::Timestamp;
use tokio::sync::watch;

use super::Journal;
use super::state::{DeviceFold, ReadVerdict, Waiting};
use super::upload::{DeviceState, Pending, SessionAudit, UploadItem};
use crate::model::chip::{Seq, StoredRanges};
use crate::model::{clock, source};

/// Most passings and marks that one look at the pending reads covers: bounds a batch line.
const SPAN_MARKS: usize = 4096;

impl Journal {
    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.config.dir
    }

    /// First entry of this process.
    pub fn first(&self) -> Seq {
        Seq(self.first)
    }

    /// There are reads without a date that were received while the box did not know its own, and nothing was recorded
    /// since that tells it.
    pub fn waits_for_clock(&self) -> bool {
        let core = self.shared.lock();
        core.serving && core.state.unset_through > 0
    }

    /// Waits until the queue serves (it may be opening or rebuilding).
    pub async fn serving(&self) {
        let mut serving = self.shared.serving.subscribe();
        let _ = serving.wait_for(|serving| *serving).await; // the sender lives in `shared`
    }

    /// State of a device's upload. Meaningful after [`Journal::serving`].
    pub fn device(&self, device: &str) -> DeviceState {
        DeviceState { first: self.first, ..self.shared.lock().state.device(device) }
    }

    /// Sessions that a device's passings were numbered in (the newest 32), with their last audits, the newest last; and
    /// the alias of each, if the cloud told one. Meaningful after [`Journal::serving`].
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

    /// The next span for a device: at most `limit` passings of the given decoders. Empty while the queue does not serve.
    /// The times of receipt are corrected by what was learnt since.
    pub fn pending(&self, device: &str, decoders: &[Box<str>], limit: usize) -> Pending {
        let (mut after, cursors, steps, mut span) = {
            let core = self.shared.lock();
            if !core.serving {
                return Pending::default();
            }
            // A decoder that was not heard of yet may be before this look is over: its first read comes after this entry.
            let followed = core.state.followed;
            let cursor = |decoder: &str| core.state.decoders.get(decoder).map_or(followed, |fold| fold.cursor);
            let cursors: Vec<u64> = decoders.iter().map(|decoder| cursor(decoder)).collect();
            let seen = core.nothing_before.get(device).copied().unwrap_or(0);
            let from = cursors.iter().copied().min().unwrap_or(followed).min(followed);
            let returned = core.state.devices.get(device).map(|fold| &fold.returned);
            let returned = returned.into_iter().flatten().take(limit).cloned().collect();
            (from.max(seen), cursors, core.state.steps.clone(), Pending { returned, ..Pending::default() })
        };
        span.through = Seq(after);
        let mine = |waiting: &Waiting| {
            let at = decoders.iter().position(|decoder| *decoder == waiting.read.decoder)?;
            (waiting.read.seq.0 > cursors[at]).then_some(())
        };
        loop {
            let (reads, through) = self.reads_after(after);
            if reads.is_empty() {
                span.through = Seq(through.max(after));
                break;
            }
            for mut waiting in reads {
                if span.passings() >= limit || span.dead.len() + span.duplicates.len() >= SPAN_MARKS {
                    return span;
                }
                if waiting.verdict == ReadVerdict::Waits && mine(&waiting).is_some() {
                    return span; // for what its decoder had stored, and all behind it for the order's sake
                }
                after = waiting.read.seq.0;
                span.through = Seq(after);
                if mine(&waiting).is_none() {
                    continue;
                }
                // A step of an earlier process tells nothing of how the clock stands in this one.
                let own = steps.partition_point(|(_, step)| step.from < self.first);
                let steps = if waiting.read.seq.0 < self.first { &steps[..] } else { &steps[own..] };
                waiting.read.received = clock::corrected(steps, waiting.read.seq.0, waiting.read.received);
                match waiting.verdict {
                    ReadVerdict::Passing => span.reads.push(waiting.read),
                    ReadVerdict::Dead => span.dead.push(waiting.read.seq),
                    ReadVerdict::Duplicate => span.duplicates.push(waiting.read.seq),
                    ReadVerdict::Waits => {} // looked at above
                }
            }
        }
        if span.is_empty() {
            self.shared.lock().nothing_before.insert(device.into(), span.through.0);
        }
        span
    }

    /// Some reads after `after`, in order, that may still wait; none: there is none up to the number returned.
    pub(super) fn reads_after(&self, after: u64) -> (Vec<Waiting>, u64) {
        loop {
            let (in_blocks, given_up, spans) = {
                let core = self.shared.lock();
                if !core.serving {
                    return (Vec::new(), after); // the spans may be gone already: nothing can be said of what is in them
                }
                (core.in_blocks, core.given_up, self.shared.spans())
            };
            if after < in_blocks {
                for span in spans {
                    match span.reads_after(after) {
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
                continue; // a checkpoint came to its end meanwhile (what was in memory is in blocks now), or it is another queue
            }
            let from = after.max(in_blocks);
            let flushing = core.flushing.iter().filter(|waiting| waiting.read.seq.0 > from);
            let at = core.state.tail.partition_point(|waiting| waiting.read.seq.0 <= from);
            let reads: Vec<Waiting> = flushing.chain(core.state.tail.range(at..)).take(512).cloned().collect();
            return (reads, core.state.followed);
        }
    }

    /// Reads that no batch covers, passings in flight and released ones; and when the oldest of them was received.
    pub fn backlog(&self) -> (u64, Option<Timestamp>) {
        let (decoders, waiting) = {
            let core = self.shared.lock();
            let open = core.state.devices.values().map(|device| {
                device.returned.len() as u64 + device.in_flight.as_ref().map_or(0, |flight| flight.open.len() as u64)
            });
            (core.state.decoders.keys().cloned().collect::<Vec<_>>(), core.state.waiting + open.sum::<u64>())
        };
        let oldest = self.pending("", &decoders, 1).reads.first().map(|read| read.received);
        (waiting, oldest)
    }

    /// Decoders with reads that no batch covers.
    pub fn decoders_waiting(&self) -> Vec<Box<str>> {
        let core = self.shared.lock();
        let waiting = core.state.decoders.iter().filter(|(_, fold)| fold.last > fold.cursor);
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Reads that repeated one kept before, since the start of the process: kept, and not sent.
    pub fn duplicates(&self) -> u64 {
        self.shared.lock().state.duplicates.0
    }

    /// Passings set aside, ever, over all devices.
    pub fn dead_letters(&self) -> u64 {
        self.shared.lock().state.devices.values().map(DeviceFold::dead_letter_count).sum()
    }

    /// Devices with passings that are numbered or released and not settled, and how many.
    pub fn devices_waiting(&self) -> Vec<(Box<str>, usize)> {
        let unsettled = self.shared.lock().state.unsettled().into_iter();
        unsettled.map(|(device, unsettled)| (device, unsettled.count())).collect()
    }

    /// Passings of a device that were released and not numbered since. Meaningful after [`Journal::serving`].
    pub fn released(&self, device: &str) -> Vec<UploadItem> {
        let core = self.shared.lock();
        core.state.devices.get(device).map(|fold| fold.returned.clone()).unwrap_or_default()
    }

    /// Passings of all devices that were set aside because the cloud failed at them, and are tried again by themselves.
    pub fn failing(&self) -> usize {
        self.shared.lock().state.devices.values().map(|fold| fold.failing.len()).sum()
    }

    /// Changes whenever something was kept or recorded; the value is the durable head.
    pub fn changed(&self) -> watch::Receiver<Seq> {
        self.shared.changed.subscribe()
    }

    /// Which places of a decoder's memory are held, in whatever source. Waits until the queue serves.
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
