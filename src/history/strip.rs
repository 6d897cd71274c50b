//! What was on and off: spans of one mat, of this box, or of the internet.
//!
//! Must hold:
//! * A time in no span is not known. A span is made only of what the log says.
//! * The spans of a strip do not overlap.
//! * Bounded: [`SPANS`] spans each of the earlier processes and of the present one. The oldest go first.

use std::collections::VecDeque;

/// Spans that are remembered of one strip.
const SPANS: usize = 256;

/// A part of a strip. `why`: it was off, and this is the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub from: i64,
    pub to: i64,
    pub why: Option<&'static str>,
}

/// One strip. The times of the present process are of a clock without steps, those of earlier ones are
/// of the clock of the box.
#[derive(Clone, Debug)]
pub(super) struct Strip {
    pub name: String,
    past: VecDeque<Span>,
    present: VecDeque<Span>,
    /// Since when it is as it is now, and why it is off. `None`: nobody knows.
    now: Option<(i64, Option<&'static str>)>,
    /// The present process wrote something about it.
    mentioned: bool,
}

impl Strip {
    pub(super) fn new(name: String) -> Self {
        Self { name, past: VecDeque::new(), present: VecDeque::new(), now: None, mentioned: false }
    }

    /// It is on, or off for this reason, from this time on.
    pub(super) fn turns(&mut self, at: i64, why: Option<&'static str>) {
        if self.now.is_some_and(|(_, before)| before == why) {
            return;
        }
        let at = self.ends(at);
        self.now = Some((at, why));
    }

    /// Nobody knows from this time on. Returns the time, or the begin of the span if that is later.
    pub(super) fn ends(&mut self, at: i64) -> i64 {
        let Some((from, why)) = self.now.take() else { return at };
        if at > from {
            push(&mut self.present, Span { from, to: at, why });
        }
        at.max(from)
    }

    /// The log has something about it.
    pub(super) fn is_mentioned(&mut self) {
        self.mentioned = true;
    }

    /// The present process is over: its times are those of a clock that is `moved_ms` behind that of
    /// the box. What it wrote nothing about is not known: it may have been in no configuration then.
    pub(super) fn closes(&mut self, moved_ms: i64, always: bool) {
        let known = std::mem::take(&mut self.mentioned) || always;
        for Span { from, to, why } in std::mem::take(&mut self.present) {
            if known {
                self.has_been(Span { from: from + moved_ms, to: to + moved_ms, why });
            }
        }
    }

    /// Adds a span of an earlier process, or between two of them.
    pub(super) fn has_been(&mut self, span: Span) {
        let before = self.past.back().map_or(i64::MIN, |last| last.to);
        let from = span.from.max(before);
        if span.to > from {
            push(&mut self.past, Span { from, ..span });
        }
    }

    /// All spans by the clock of the box, the oldest first. `began`: the begin of the present process, by
    /// that clock. What an earlier process wrote about a later time is left out, because its clock was
    /// ahead. `until`: the end of what is known now.
    pub(super) fn spans(&self, moved_ms: i64, began: i64, until: i64) -> Vec<Span> {
        let past = self.past.iter().filter(|span| span.from < began);
        let past = past.map(|span| Span { to: span.to.min(began), ..*span });
        let now = self.now.map(|(from, why)| Span { from, to: (until - moved_ms).max(from), why });
        let present = self.present.iter().copied().chain(now);
        let present = present.map(|Span { from, to, why }| Span { from: from + moved_ms, to: to + moved_ms, why });
        past.chain(present).filter(|span| span.to > span.from).collect()
    }
}

fn push(spans: &mut VecDeque<Span>, span: Span) {
    if let Some(last) = spans.back_mut()
        && last.to == span.from
        && last.why == span.why
    {
        last.to = span.to;
        return;
    }
    if spans.len() >= SPANS {
        spans.pop_front();
    }
    spans.push_back(span);
}

/// Whether it was on all the time between two instants.
pub(super) fn was_on(spans: &[Span], from: i64, to: i64) -> bool {
    let mut known = from;
    for span in spans.iter().filter(|span| span.to > from && span.from < to) {
        if span.why.is_some() || span.from > known {
            return false;
        }
        known = known.max(span.to);
    }
    known >= to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_one_another_and_a_time_that_nobody_knows_is_in_none() {
        let mut strip = Strip::new("mat".to_owned());
        strip.turns(0, None);
        strip.turns(10, None);
        strip.turns(20, Some("no link"));
        strip.turns(15, None); // the clock of an entry may be a moment behind
        strip.ends(30);
        let spans = |strip: &Strip| {
            let all = strip.spans(100, 0, 1_000).into_iter();
            all.map(|span| (span.from, span.to, span.why)).collect::<Vec<_>>()
        };
        assert_eq!(spans(&strip), [(100, 130, None)], "the end of the time without a link came before its begin");
        assert!(!was_on(&strip.spans(100, 0, 1_000), 90, 110) && was_on(&strip.spans(100, 0, 1_000), 100, 130));
        strip.closes(0, true);
        strip.turns(50, Some("no link"));
        assert_eq!(strip.spans(0, 50, 60).last(), Some(&Span { from: 50, to: 60, why: Some("no link") }));
        assert!(!was_on(&strip.spans(0, 50, 60), 25, 55));
        strip.ends(60);
        strip.closes(0, false);
        assert_eq!(strip.spans(0, 70, 80).len(), 1, "a process that wrote nothing about it does not know");
    }

    #[test]
    fn a_link_that_comes_and_goes_all_day_takes_bounded_memory() {
        let mut strip = Strip::new("mat".to_owned());
        for at in 0..10_000 {
            strip.turns(at, (at % 2 == 0).then_some("no link"));
        }
        assert_eq!(strip.spans(0, 0, 10_000).len(), SPANS + 1);
    }
}
