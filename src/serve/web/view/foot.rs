//! The last line: the day, the zone, what the counts count, and the program.

use super::PageTimes;
use crate::model::text::printable;
use crate::status::Snapshot;

/// The foot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct FootView {
    /// The day and the zone.
    pub day: String,
    /// What the counts count.
    pub counts: String,
    /// The program and the machine.
    pub program: String,
}

impl FootView {
    pub(in crate::serve::web) fn of(status: &Snapshot, times: &PageTimes) -> Self {
        let ahead = times.zone.ahead_of_utc(times.now);
        let (hours, minutes) = (ahead.unsigned_abs() / 3600, ahead.unsigned_abs() % 3600 / 60);
        let by = if minutes == 0 { format!("{hours} h") } else { format!("{hours} h {minutes:02} min") };
        let utc = match ahead {
            0 => "that is UTC".to_owned(),
            1.. => format!("UTC is {by} less"),
            _ => format!("UTC is {by} more"),
        };
        let started = jiff::Timestamp::from_millisecond(times.started_ms).unwrap_or(times.now);
        let started = times.time(started);
        let place = times.zone.place().unwrap_or("UTC");
        Self {
            day: format!("{}, {place}; {utc}.", times.zone.day(times.now)),
            counts: format!(
                "The mats are counted since passbridge started at {started}, everything else since the journal of \
                 this box was begun."
            ),
            program: format!("passbridge {}", printable(&status.version)),
        }
    }
}
