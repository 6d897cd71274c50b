//! How stamps and chips of the log are interpreted.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{Config, TagCode};
use crate::journal::entry::{Body, Entry};
use crate::model::clock::{self, Step, Zones};

/// What the configuration says about the interpretation of stamps and chips.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Zone of each decoder's clock.
    pub zones: Zones,
    /// How an EPC becomes a chip code.
    pub tag: TagCode,
    /// Zone in which times are written; `None`: UTC, with a Z.
    pub shown_in: Option<TimeZone>,
    /// A table is for a spreadsheet: see [`super::spreadsheet`].
    pub spreadsheet: bool,
}

impl Reading {
    /// Takes the values from the configuration.
    pub fn new(config: &Config) -> Self {
        Self { zones: config.zones(), tag: config.passing.tag, shown_in: None, spreadsheet: false }
    }

    /// How times and tables are written.
    #[must_use]
    pub fn showing(self, shown_in: Option<TimeZone>, spreadsheet: bool) -> Self {
        Self { shown_in, spreadsheet, ..self }
    }

    /// An instant as it is written: with milliseconds, and with its zone.
    pub(crate) fn shown(&self, instant: Timestamp) -> String {
        match &self.shown_in {
            None => format!("{instant:.3}"),
            Some(zone) => {
                jiff::ZonedDateTime::new(instant, zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
            }
        }
    }
}

/// The time of a frame: a read's time as it would be uploaded, and the receive time of other
/// frames.
pub(super) fn instant_of(entry: &Entry, reading: &Reading, steps: &[(u64, Step)]) -> Timestamp {
    instant_in(entry, reading.zones.of(&entry.subject), steps)
}

/// The same for a read whose stamp is understood in this zone.
pub(super) fn instant_in(entry: &Entry, zone: &TimeZone, steps: &[(u64, Step)]) -> Timestamp {
    let Body::Read(read) = &entry.body else { return entry.time };
    let received = clock::corrected(steps, entry.seq, entry.time);
    clock::resolve_read(read, zone, received).utc
}
