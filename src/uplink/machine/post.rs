//! What follows from the answer to a POST.

use std::time::Duration;

use super::{Active, LONG_POST, Machine, REFUSED_ROW, SETTLE, SHORT_ROUNDS, TROUBLE_ROW};
use crate::config::SessionMode;
use crate::rufus::{CallError, Doubt, Inserted};
use crate::uplink::work::Claim;

impl Machine {
    pub(super) fn on_inserted(&mut self, now: Duration, counts: Inserted) {
        let part = std::mem::take(&mut self.posting);
        let Some(work) = &mut self.work else { return };
        self.posts_work = true;
        self.last_post = Some(now);
        let sent = part as u64;
        let duplicates = counts.duplicates.unwrap_or(0);
        // A count of zero proves nothing: a cloud may give the field and store everything twice.
        self.dedups |= duplicates > 0;
        let counted = counts.inserted.map_or(sent, |inserted| inserted.saturating_add(duplicates));
        let last = work.items(part).last().map_or(0, |item| item.num);
        if counted < sent {
            self.refusal_over();
            return self.on_short(now, part, counted, last);
        }
        if duplicates > sent - work.fresh(part) && !self.blind {
            work.doubt(part);
            work.claim = Some((Claim::Taken, last));
            work.ask_at = now;
            return;
        }
        self.records.extend(work.accept(part, duplicates));
        self.sent += sent;
        self.duplicates += duplicates;
        self.pace.sent(now, sent);
        self.sizing.accepted(part);
        self.on_progress();
    }

    /// A POST did what it should.
    pub(super) fn on_progress(&mut self) {
        self.accepted_posts += 1;
        (self.refused_row, self.trouble_row) = (0, 0);
        self.post_retry.reset();
        self.trouble = None;
        self.trusted();
        for code in ["cloud_refuses", "cloud_trouble", "session_disputed", "session_lost"] {
            self.problems.remove(code);
        }
        self.refusal_over();
    }

    pub(super) fn refusal_over(&mut self) {
        for code in ["key_refused", "device_unknown"] {
            self.problems.remove(code);
        }
    }

    fn on_short(&mut self, now: Duration, part: usize, counted: u64, last: u64) {
        let Some(work) = &mut self.work else { return };
        if !self.blind {
            work.doubt(part);
            work.claim = Some((Claim::Short { counted, sent: part as u64 }, last));
            work.ask_at = now;
            return;
        }
        // Nobody can tell which of them are missing; alone, it can be told.
        if part > 1 {
            work.doubt(part);
            return self.sizing.refused(part);
        }
        work.short_rounds += 1;
        if work.short_rounds >= SHORT_ROUNDS {
            work.short_rounds = 0;
            self.set_first_aside(200, &missing_text(counted, 1));
        } else {
            self.hold = now + self.post_retry.next(&mut self.rng, None);
        }
    }

    pub(super) fn on_post_failed(&mut self, now: Duration, error: &CallError) {
        let part = std::mem::take(&mut self.posting);
        if self.work.is_none() {
            return;
        }
        match error {
            CallError::NotSent(_) | CallError::TooMany { .. } => {
                self.hold = now + self.pause(true, error);
                self.complain(true, error);
            }
            CallError::Unknown { .. } | CallError::Portal => self.on_post_unknown(now, part, error),
            CallError::TooLarge { .. } if part > 1 => self.sizing.too_large(part),
            CallError::BadRequest { .. } if part > 1 => self.sizing.refused(part),
            CallError::TooLarge { answer } => self.on_refused(now, 413, answer),
            CallError::BadRequest { status, answer } => self.on_refused(now, *status, answer),
            CallError::SessionGone { .. } if self.blind && self.mode == SessionMode::Create => {
                self.close();
                self.active = Active::None;
            }
            CallError::SessionGone { .. } => self.resolve = true,
            CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. } => self.refuse(now, true, error),
        }
    }

    fn on_post_unknown(&mut self, now: Duration, part: usize, error: &CallError) {
        let timeout = |why: &Doubt| matches!(why, Doubt::Timeout | Doubt::Server { status: 504, .. });
        let long = now.saturating_sub(self.post_began) >= LONG_POST;
        if long {
            self.post_retry.reset(); // it has taken its time already, and a smaller one may pass
        }
        let wait = self.pause(true, error);
        self.hold = now + wait;
        self.trouble_row += 1;
        self.complain(true, error);
        let Some(work) = &mut self.work else { return };
        work.doubt(part);
        work.ask_at = now + wait.max(SETTLE.min(self.upload.retry_max));
        // A failure again and again may be one of size, too.
        if matches!(error, CallError::Unknown { why, .. } if long || timeout(why) || self.trouble_row > 1) {
            self.sizing.slow();
        }
        if self.trouble_row >= TROUBLE_ROW
            && !error.is_offline()
            && let Some(item) = work.items(1).first()
        {
            let text = format!(
                "the cloud has failed {} times in a row to take passings from number {} on (chip {}): {error}. \
                 They are kept and tried again",
                self.trouble_row, item.num, item.chip
            );
            self.problems.insert("cloud_trouble", text);
        }
    }

    /// A passing alone was refused.
    fn on_refused(&mut self, now: Duration, status: u16, answer: &str) {
        let Some(work) = &mut self.work else { return };
        if !self.blind && work.doubt_refusal(status == 409, now) {
            return;
        }
        self.set_first_aside(status, answer);
        self.refused_row += 1;
        if self.refused_row >= REFUSED_ROW {
            self.hold = now + self.post_retry.next(&mut self.rng, None);
            let text = format!(
                "the cloud has refused {} passings in a row, each alone ({status}: {answer}). They are set aside and can \
                 be exported; sending goes on slowly. Is the session right?",
                self.refused_row
            );
            self.problems.insert("cloud_refuses", text);
        }
    }

    fn set_first_aside(&mut self, status: u16, answer: &str) {
        self.sizing.found();
        let aside = self.work.as_mut().and_then(|work| work.set_aside(status, answer));
        if let Some((item, event)) = aside {
            self.records.push_back(event);
            self.note_set_aside(1, &format!("number {}, chip {}: {answer}", item.num, item.chip));
        }
    }

    pub(super) fn note_set_aside(&mut self, count: u64, last: &str) {
        if count > 0 {
            self.set_aside += count;
            let text = format!(
                "{} passings were set aside since the start and can be exported; the last: {last}",
                self.set_aside
            );
            self.problems.insert("passings_set_aside", text);
        }
    }
}

pub(super) fn missing_text(counted: u64, sent: u64) -> String {
    format!("passbridge: the cloud reported success for {counted} of {sent} passings and does not hold this one")
}
