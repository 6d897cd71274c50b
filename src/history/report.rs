//! The report: what happened on this box in a span of time, for the organiser of the race.
//!
//! What must hold:
//! * It is made of the log alone, beside a running daemon or without one.
//! * An entry belongs to the span by its receive time, corrected by the steps of the clock that were
//!   recorded later. The first and the last read of a decoder are told by the time of the read itself.
//! * What is not known is said to be so, in `not_known`.
//! * Bounded: every list has a limit, and says how many more there are. Chips are counted exactly up to
//!   `data::CHIPS_MAX`.
//!
//! The log is walked through twice: first for the steps of the clock and the corrections, which are later in
//! the log than what they are about, and then for everything else.

mod data;
mod day;
mod making;
mod shown;
mod sketch;

pub(crate) use self::data::{DayReport, ReportQuery, span_of_day};
pub(crate) use self::making::{ReportError, make};

pub(crate) use self::shown::{ReportPage, text};

/// The style of the page of the report.
pub(crate) const STYLE: &str = include_str!("../serve/web/assets/report.css");
