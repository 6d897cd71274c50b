//! What the habits do to a request.

use std::time::{Duration, Instant};

use super::kinds::{Habits, Lag, Lost, Miscount, SecondWriter, Stale};
use super::when::Chooser;
use crate::sim::cloud::faults::{Answer, Apply, CloudFault, On};

impl Habits {
    /// Returns what a request of this class meets. If several habits apply, the first of these is
    /// used: a refusal, a lost answer, undocumented words, wrong counts.
    pub(in crate::sim::cloud) fn fault(&self, chooser: &mut Chooser, on: On) -> CloudFault {
        let now = Instant::now();
        let mut met: Option<CloudFault> = None;
        for (index, (wanted, status, when)) in self.refused.iter().enumerate() {
            if wanted.covers(on) && chooser.meets(self.seed, ("refuse", index), *when, now) {
                met = met.or_else(|| Some(CloudFault::before(refusal(*status))));
            }
        }
        if on == On::Insert {
            for (index, (lost, silent, when)) in self.lost.iter().enumerate() {
                if chooser.meets(self.seed, ("lost", index), *when, now) {
                    let apply = match lost {
                        Lost::Stored => Apply::All,
                        Lost::Dropped => Apply::Nothing,
                        Lost::Half => Apply::Half,
                        Lost::Late(most) => Apply::Later(self.drawn(chooser, "late", Duration::ZERO, *most)),
                    };
                    let answer = if *silent { Answer::Never } else { Answer::Cut };
                    met = met.or(Some(CloudFault::partly(apply, answer)));
                }
            }
        }
        for (index, (wanted, words, stored, when)) in self.words.iter().enumerate() {
            if wanted.covers(on) && chooser.meets(self.seed, ("words", index), *when, now) {
                let apply = if *stored == Some(false) { Apply::Nothing } else { Apply::All };
                met = met.or(Some(CloudFault::partly(apply, Answer::Odd(*words))));
            }
        }
        if on == On::Insert {
            for (index, (miscount, when)) in self.miscounts.iter().enumerate() {
                if chooser.meets(self.seed, ("counts", index), *when, now) {
                    met = met.or_else(|| {
                        Some(match miscount {
                            Miscount::Zero { stored: false } => CloudFault::short(0),
                            Miscount::Zero { stored: true } => CloudFault::after(Answer::Counts(0)),
                            Miscount::Missing => CloudFault::after(Answer::NoCounts),
                            Miscount::Half => CloudFault::partly(Apply::Half, Answer::Usual),
                        })
                    });
                }
            }
        }
        let mut fault = met.unwrap_or_else(|| CloudFault::after(Answer::Usual));
        if on == On::Insert {
            fault.delay += self.slow_posts;
        }
        fault
    }

    /// Returns what a question about the active session shows instead of it.
    pub(in crate::sim::cloud) fn stale(&self, chooser: &mut Chooser) -> Option<Stale> {
        let now = Instant::now();
        let mut stale = None;
        for (index, (shown, when)) in self.stale_active.iter().enumerate() {
            if chooser.meets(self.seed, ("stale", index), *when, now) {
                stale = stale.or(Some(*shown));
            }
        }
        stale
    }

    /// Returns the other senders that write at this insert.
    pub(in crate::sim::cloud) fn writers(&self, chooser: &mut Chooser) -> Vec<SecondWriter> {
        let now = Instant::now();
        let writes = |(index, (writer, when)): (usize, &(SecondWriter, _))| {
            chooser.meets(self.seed, ("writer", index), *when, now).then_some(*writer)
        };
        self.writers.iter().enumerate().filter_map(writes).collect()
    }

    /// Returns the moment after which accepted passings are not shown yet to this question. `None`:
    /// all are shown.
    pub(in crate::sim::cloud) fn horizon(&self, chooser: &mut Chooser, on: On) -> Option<Instant> {
        let lag = if on == On::HeldByTime { self.lag_by_time.unwrap_or(self.lag) } else { self.lag };
        self.seen_until(chooser, lag)
    }

    fn seen_until(&self, chooser: &mut Chooser, lag: Lag) -> Option<Instant> {
        let lag = self.drawn(chooser, "lag", lag.least, lag.most);
        ago(lag)
    }

    fn drawn(&self, chooser: &mut Chooser, place: &'static str, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_micros()).unwrap_or(u64::MAX - 1);
        least + Duration::from_micros(chooser.draw(self.seed, (place, 0), span + 1))
    }
}

/// Returns the moment `lag` ago. `None`: `lag` is zero, or longer than the machine has been up.
pub(in crate::sim::cloud) fn ago(lag: Duration) -> Option<Instant> {
    if lag.is_zero() { None } else { Instant::now().checked_sub(lag) }
}

fn refusal(status: u16) -> Answer {
    match status {
        // A gateway in front of a cloud returns these, in its own words.
        401 | 403 => Answer::message(status, "Forbidden"),
        429 => Answer::message(status, "Too Many Requests"),
        _ => Answer::Status(status),
    }
}
