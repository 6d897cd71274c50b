//! When a mat must give reads: what `[[expect]]` contains after it was checked.

use std::fmt;
use std::time::Duration;

use jiff::civil::{DateTime, Time};

/// One `[[expect]]`: a mat that must give reads within a window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectConfig {
    /// The name of a decoder, or of one of its locations ([`crate::model::source`]).
    pub source: String,
    /// When reads are expected, in the zone of the box.
    pub window: TimeWindow,
    /// The longest time without a live read.
    pub quiet: Duration,
}

/// A window of time by the clock on the wall. Its end does not belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWindow {
    /// Each day. If the end is before the begin, it is on the next day.
    Daily {
        /// The begin.
        from: Time,
        /// The end.
        to: Time,
    },
    /// Once.
    Once {
        /// The begin.
        from: DateTime,
        /// The end.
        to: DateTime,
    },
}

impl TimeWindow {
    /// Whether this moment is in the window.
    pub fn contains(&self, now: DateTime) -> bool {
        match *self {
            Self::Daily { from, to } if from < to => (from..to).contains(&now.time()),
            Self::Daily { from, to } => now.time() >= from || now.time() < to,
            Self::Once { from, to } => (from..to).contains(&now),
        }
    }
}

impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |second: i8| if second == 0 { "%H:%M" } else { "%H:%M:%S" };
        match self {
            Self::Daily { from, to } => {
                write!(f, "from {} to {}", from.strftime(seconds(from.second())), to.strftime(seconds(to.second())))
            }
            Self::Once { from, to } => {
                let form = |at: &DateTime| at.strftime(&format!("%Y-%m-%d {}", seconds(at.second()))).to_string();
                write!(f, "from {} to {}", form(from), form(to))
            }
        }
    }
}
