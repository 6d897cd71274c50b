//! How stamps and chips of the log are read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{Config, TagCode};
use crate::journal::entry::{Body, Entry};
use crate::model::clock::{self, Step};
use crate::model::source;

/// What the configuration says about reading stamps and chips.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Zone of each decoder's clock; UTC for one that is not here. A source has that of its decoder.
    pub zones: BTreeMap<Box<str>, TimeZone>,
    /// How an EPC becomes a chip code.
    pub tag: TagCode,
    /// Zone in which times are written; `None`: UTC, with a Z.
    pub shown_in: Option<TimeZone>,
    /// A table is for a spreadsheet: see [`super::spreadsheet`].
    pub spreadsheet: bool,
}

impl Reading {
    /// As the configuration says.
    pub fn new(config: &Config) -> Self {
        Self { zones: config.zones().collect(), tag: config.passing.tag, shown_in: None, spreadsheet: false }
    }

    /// How times and tables are written.
    #[must_use]
    pub fn showing(self, shown_in: Option<TimeZone>, spreadsheet: bool) -> Self {
        Self { shown_in, spreadsheet, ..self }
    }

    /// An instant as it is written: with milliseconds, and with its zone.
    pub(super) fn shown(&self, instant: Timestamp) -> String {
        match &self.shown_in {
            None => format!("{instant:.3}"),
            Some(zone) => {
                jiff::ZonedDateTime::new(instant, zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
            }
        }
    }

    pub(super) fn zone(&self, source: &str) -> &TimeZone {
        const UTC: &TimeZone = &TimeZone::UTC;
        self.zones.get(source::decoder(source)).unwrap_or(UTC)
    }
}

/// When a frame was: a read's time as it would be uploaded, of others the time of receipt.
pub(super) fn instant_of(entry: &Entry, reading: &Reading, steps: &[(u64, Step)]) -> Timestamp {
    let Body::Read(read) = &entry.body else { return entry.time };
    let received = clock::corrected(steps, entry.seq, entry.time);
    clock::resolve(&read.stamp, reading.zone(&entry.subject), received, read.replay).utc
}
