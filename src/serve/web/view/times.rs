//! Times and ages on the page.

use jiff::Timestamp;

use crate::model::shown::ShownIn;
use crate::status::words::age;

/// The wall clock at the start of the process, as it follows from now. The difference changes only
/// when the wall clock steps. A smaller change is the noise of two clocks that are not read at the
/// same moment.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::serve::web) struct Anchor {
    started_ms: Option<i64>,
}

/// A smaller difference between both clocks is no step.
const NOISE_MS: i64 = 1500;

impl Anchor {
    /// Compares the clocks again. `uptime_ms`: time since the start, by the monotonic clock.
    pub(in crate::serve::web) fn look(&mut self, now: Timestamp, uptime_ms: u64) -> i64 {
        let found = now.as_millisecond() - uptime_ms as i64;
        match self.started_ms {
            Some(known) if (known - found).abs() <= NOISE_MS => known,
            _ => *self.started_ms.insert(found),
        }
    }
}

/// The clocks of one drawing.
pub(in crate::serve::web) struct PageTimes {
    /// The zone of the box.
    pub zone: ShownIn,
    /// The wall clock of the box.
    pub now: Timestamp,
    /// Time since the start of the process.
    pub uptime_ms: u64,
    /// The wall clock at the start of the process, by [`Anchor`].
    pub started_ms: i64,
}

impl PageTimes {
    /// The second at which something happened, since the start of the process. It is negative for
    /// what happened before.
    pub(super) fn second_of(&self, instant: Timestamp) -> i64 {
        (instant.as_millisecond() - self.started_ms).div_euclid(1000)
    }

    /// A time of day. A time of another day has its day before it.
    pub(super) fn time(&self, instant: Timestamp) -> String {
        match self.other_day(instant) {
            Some(day) => format!("{day}, {}", self.zone.time(instant)),
            None => self.zone.time(instant),
        }
    }

    /// The day of an instant that is not of today.
    pub(super) fn other_day(&self, instant: Timestamp) -> Option<String> {
        Some(self.zone.short_day(instant)).filter(|day| *day != self.zone.short_day(self.now))
    }
}

/// Writes the ages into a text of the templates: `data-at="7"></span>` becomes
/// `data-at="7">2 s ago</span>` at second 9. `data-ago` asks for the word "ago".
pub(in crate::serve::web) fn ages_filled(html: &str, uptime_s: u64) -> String {
    const AT: &str = "data-at=\"";
    let mut out = String::with_capacity(html.len() + 256);
    let mut rest = html;
    while let Some(at) = rest.find(AT) {
        let (before, after) = rest.split_at(at + AT.len());
        out.push_str(before);
        let end = after.find('"').unwrap_or(after.len());
        let (number, tail) = after.split_at(end);
        out.push_str(number);
        rest = tail;
        let Some(close) = tail.find('>') else { break };
        if let (Ok(second), Some(stripped)) = (number.parse::<i64>(), tail[close + 1..].strip_prefix("</")) {
            let seconds = (uptime_s as i64).saturating_sub(second).max(0) as u64;
            out.push_str(&tail[..=close]);
            out.push_str(&age(seconds));
            if tail[..close].contains("data-ago") {
                out.push_str(" ago");
            }
            out.push_str("</");
            rest = stripped;
        }
    }
    out.push_str(rest);
    out
}
