//! What a sink still owes ([`super::sink`]), in order, and its cursors.

use std::collections::BTreeMap;
use std::io;

use super::Journal;
use super::entry::{Body, Entry};
use super::reader::{News, Reader};
use super::upload::{RUFUS, Settled};
use crate::model::chip::Seq;

/// The journal as one sink sees it: what it owes, in order.
pub struct SinkReader {
    journal: Journal,
    sink: Box<str>,
    /// The cursors when it began to read.
    began: BTreeMap<Box<str>, u64>,
    reader: Reader,
}

impl Journal {
    /// What a sink owes, from its cursors on. Waits until the state follows the log. `None`: the
    /// sink is not registered, or it is the uplink, which has a queue of its own.
    pub async fn sink(&self, name: &str) -> Option<SinkReader> {
        self.serving().await;
        let (began, from) = {
            let core = self.shared.lock();
            let sink = self.shared.sinks.find(name).filter(|sink| sink.name() != RUFUS)?;
            let sources = core.state.decoders.keys();
            let began = sources.map(|source| (source.clone(), sink.settled(&core.state, source))).collect();
            (began, sink.needs(&core.state).unwrap_or(core.state.followed + 1))
        };
        Some(SinkReader { journal: self.clone(), sink: name.into(), began, reader: self.reader(Seq(from)) })
    }
}

impl SinkReader {
    /// The next news, like [`Reader::next`]. Not all of the entries are owed
    /// ([`SinkReader::owes`]).
    ///
    /// # Errors
    /// Like [`Reader::next`].
    pub async fn next(&mut self) -> io::Result<Option<News>> {
        self.reader.next().await
    }

    /// Whether the sink owes this entry: it is a read or a marker, and was not settled when the sink
    /// began to read. A read that is held back says so, and comes again when it is released.
    pub fn owes(&self, entry: &Entry) -> bool {
        matches!(entry.body, Body::Read(_) | Body::Marker(_))
            && self.began.get(&*entry.subject).is_none_or(|settled| entry.seq > *settled)
    }

    /// Like [`SinkReader::settle`], for all sources: all that the sink owes, up to this entry, is
    /// settled. After a [`News::Gap`], too: what is gone is owed no more, and must not hold the log.
    pub fn settle_all(&self, through: Seq) {
        let sources: Vec<Box<str>> = self.journal.shared.lock().state.decoders.keys().cloned().collect();
        for source in sources {
            self.settle(&source, through);
        }
    }

    /// Moves the cursor of a source: all that is owed of it, up to this entry, is settled. That
    /// becomes durable with the next group. If the power fails before, the sink gets these entries
    /// again. Nothing is recorded if nothing of the source was owed.
    pub fn settle(&self, source: &str, through: Seq) {
        let is_owed = {
            let core = self.journal.shared.lock();
            let settled = self.journal.shared.sinks.find(&self.sink).map(|sink| sink.settled(&core.state, source));
            let newest = core.state.decoders.get(source).map_or(0, |fold| fold.newest());
            settled.is_some_and(|settled| through.0 > settled && newest > settled)
        };
        if is_owed {
            self.journal.settle_later(source, Settled { sink: self.sink.clone(), through });
        }
    }
}
