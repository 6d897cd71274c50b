//! What the plots of the page show: reads, uploads, what waits and how long it takes, over the last minutes and hours.
//!
//! Must hold: what was not measured is `None` and never zero.

use jiff::Timestamp;
use serde::Serialize;

/// One period of a plot, such as 60 cells of 10 s.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PlotSeries {
    /// The end of the last cell, by the clock of the box.
    pub until: Timestamp,
    /// Length of a cell, in seconds.
    pub step_s: u32,
    /// The cells, the oldest first.
    pub cells: Vec<PlotCell>,
    /// What was on: a strip for each mat, for this box and for the internet, in this order.
    pub strips: Vec<PlotStrip>,
    /// Moments at which the clock of the box stepped.
    pub clock_steps: Vec<Timestamp>,
}

/// One cell. `None`: it was not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct PlotCell {
    /// Reads that became durable.
    pub reads: Option<u32>,
    /// Passings that the cloud accepted for the first time.
    pub uploads: Option<u32>,
    /// Reads that waited at the end of the cell.
    pub waiting: Option<u64>,
    /// Median from receipt until the cloud had it, in milliseconds, of the passings accepted in this cell.
    pub delay_median_ms: Option<u32>,
    /// The slowest of them.
    pub delay_worst_ms: Option<u32>,
}

/// What was on and off.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PlotStrip {
    /// The name of a decoder, `this box`, or `internet`.
    pub name: String,
    /// The spans, the oldest first, without overlap. A time in no span is not known.
    pub spans: Vec<PlotSpan>,
}

/// A part of a strip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PlotSpan {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Whether it was on.
    pub on: bool,
    /// Why it was off, in a word or two, such as `restart`, `no internet`, `no link`.
    pub why: Option<String>,
}
