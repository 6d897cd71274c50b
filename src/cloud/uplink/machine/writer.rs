//! What the machine does when another writer sends into our session.

use std::time::Duration;

use super::Machine;
use super::limits::WRITER_SHOWN;
use crate::cloud::uplink::inquiry::Inquiry;
use crate::status::ProblemCode;

impl Machine {
    /// The cloud showed what it holds around our numbers.
    pub(super) fn on_watched(&mut self, now: Duration, inquiry: &Inquiry) {
        let (others, last) = &inquiry.others;
        if *others > 0 {
            self.on_other_writer(now, last);
        }
    }

    /// Another writer's passing is between ours, or has one of our numbers.
    pub(super) fn on_other_writer(&mut self, now: Duration, other: &str) {
        self.trust.watch.seen = Some(now);
        let text = format!(
            "CRITICAL: another box or program sends passings into this session (the last: {other}). Two senders with one \
             device number over each other, and passings may be lost or mixed. Find it: a second box with the same \
             device_id, a copied memory card? Give each box a device of its own, then compare with `passbridge audit`"
        );
        self.problems.insert(ProblemCode::OtherWriter, text);
    }

    /// Clears the problem when no other writer was seen for a long time.
    pub(super) fn forget_writer(&mut self, now: Duration) {
        if self.trust.watch.seen.is_some_and(|seen| now.saturating_sub(seen) > WRITER_SHOWN) {
            self.trust.watch.seen = None;
            self.problems.remove(&ProblemCode::OtherWriter);
        }
    }
}
