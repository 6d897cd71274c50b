//! The clocks: that of the box, and each decoder's against it.

use super::PageTimes;
use super::facts::has;
use crate::model::text::printable;
use crate::status::words::offset_in_words;
use crate::status::{ClockBy, DecoderStatus, Mark, ProblemCode, Snapshot};

/// What sets the clock of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve::web) enum BoxClock {
    /// The time service of the system has set it from the network.
    FromNetwork,
    /// Nothing is known: it may be a clock chip, another time service, or nobody.
    NotKnown,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct ClockLine {
    /// How it stands.
    pub mark: Mark,
    /// Whose clock, and whether it agrees.
    pub what: String,
    /// By how much, and how that is known.
    pub how: String,
}

/// All clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::serve::web) struct ClocksView {
    /// How they stand together.
    pub mark: Mark,
    /// The same as a sentence.
    pub summary: String,
    /// A line each.
    pub lines: Vec<ClockLine>,
}

impl ClocksView {
    pub(in crate::serve::web) fn of(status: &Snapshot, times: &PageTimes, source: BoxClock) -> Self {
        let mut lines = vec![of_box(status, times, source)];
        let mut widest = 0;
        for decoder in &status.decoders {
            widest = widest.max(decoder.clock_offset_ms.unwrap_or(0).unsigned_abs());
            lines.push(of_decoder(status, decoder));
        }
        let of = |mark| lines.iter().filter(|line| line.mark == mark).count();
        let (wrong, off, unknown) = (of(Mark::No), of(Mark::Warn), of(Mark::Wait));
        let (mark, summary) = match (wrong, off, unknown) {
            (1, ..) => (Mark::No, "One clock is wrong".to_owned()),
            (2.., ..) => (Mark::No, format!("{wrong} clocks are wrong")),
            (0, 1, _) => (Mark::Warn, "One clock is a little off".to_owned()),
            (0, 2.., _) => (Mark::Warn, format!("{off} clocks are a little off")),
            (0, 0, 0) => (Mark::Yes, format!("All clocks agree, within {}.{:02} s", widest / 1000, widest % 1000 / 10)),
            (0, 0, unknown) if unknown == lines.len() => (Mark::Wait, "No clock is compared yet".to_owned()),
            (0, 0, 1) => (Mark::Wait, "One clock is not known, the others agree".to_owned()),
            (0, 0, unknown) => (Mark::Wait, format!("{unknown} clocks are not known, the others agree")),
        };
        Self { mark, summary, lines }
    }
}

fn of_box(status: &Snapshot, times: &PageTimes, source: BoxClock) -> ClockLine {
    let zone = times.zone.place().unwrap_or("UTC");
    let line = |mark, what: &str, how: String| ClockLine { mark, what: what.to_owned(), how };
    if has(status, ProblemCode::BoxClockUnset, "") {
        return line(Mark::No, "This box: nobody has set its clock", "compare it with your phone".to_owned());
    }
    let stepped = status.problems.iter().find(|problem| problem.code == ProblemCode::BoxClockStepped.word());
    if let Some(stepped) = stepped {
        return line(Mark::Warn, "This box: its clock was set", format!("at {}", times.time(stepped.since)));
    }
    match source {
        BoxClock::FromNetwork => line(Mark::Yes, "This box: set from the network", zone.to_owned()),
        BoxClock::NotKnown => {
            line(Mark::Wait, "This box: not known what sets it", format!("compare it with your phone · {zone}"))
        }
    }
}

fn of_decoder(status: &Snapshot, decoder: &DecoderStatus) -> ClockLine {
    let name = printable(&decoder.name);
    let Some(offset) = decoder.clock_offset_ms else {
        let how = "it has not told its clock, and no live read was compared";
        return ClockLine { mark: Mark::Wait, what: format!("{name} is not known"), how: how.to_owned() };
    };
    let words = offset_in_words(offset);
    let how = match decoder.clock_by {
        Some(ClockBy::Answer) => "it told its clock",
        _ => "by the stamps of its live reads",
    };
    let said = |mark, what: String| ClockLine { mark, what, how: how.to_owned() };
    let told = |code| has(status, code, &decoder.name);
    if told(ProblemCode::DecoderClockOff) {
        return said(Mark::No, format!("{name} is {words}"));
    }
    if told(ProblemCode::DecoderClockNear) {
        return said(Mark::Warn, format!("{name} is {words}"));
    }
    match decoder.times_right {
        true => ClockLine { mark: Mark::Yes, what: format!("{name} agrees"), how: format!("{words}, {how}") },
        false => ClockLine { mark: Mark::Wait, what: format!("{name}: {words}"), how: format!("{how}; not sure yet") },
    }
}
