//! What the machine does when the cloud refuses the key or the device, and what it may do without
//! the right to read.
//!
//! One refusal proves little, because a firewall's rate rule also returns 403. So the machine tests
//! a refusal again after 5 s, 20 s, a minute, and then every three minutes. Reading counts as
//! forbidden only when it was refused [`UNREAD`] times in a row *and* another question was refused
//! as well. Even then, no passing of unknown fate is sent again to a cloud that has not shown that
//! it detects duplicates: the passing waits, and a problem is raised.
//!
//! That the key may write is said only after the cloud has accepted a POST with it. What the cloud
//! accepted with another key proves nothing about the one that took its place.

use std::time::Duration;

use super::Machine;
use super::limits::{POLL_JITTER, POLL_REFUSED, scaled};
use super::parts::{Active, Refused, Why};
use crate::cloud::rufus::{CallError, Session};
use crate::config::SessionMode;
use crate::model::retry::jittered;
use crate::status::ProblemCode;

/// After this many refused questions in a row, the machine tests whether the key may read.
const UNREAD: u32 = 3;

impl Machine {
    /// The machine may ask the cloud what it holds.
    pub(super) fn may_ask(&self, now: Duration) -> bool {
        !self.trust.blind && now >= self.timers.mute_until
    }

    /// The cloud refuses the key or the device.
    pub(super) fn refuse(&mut self, now: Duration, by_post: bool, error: &CallError) {
        self.trust.refused = Refused::Yes { by_post };
        self.trust.blind = false;
        self.problems.remove(&ProblemCode::WriteOnlyKey);
        self.batch.question = None;
        self.timers.hold = now + self.refusal_wait();
        let code = if matches!(error, CallError::DeviceUnknown { .. }) {
            ProblemCode::DeviceUnknown
        } else {
            ProblemCode::KeyRefused
        };
        let which = if code == ProblemCode::KeyRefused { self.which_key() } else { "" };
        self.problems.insert(code, format!("{error}. {which}Nothing is lost; it is tried again every few minutes"));
        self.complain(by_post, error);
    }

    /// Which key the cloud refuses, if the key was replaced. A sentence that ends with a blank, or
    /// nothing.
    fn which_key(&self) -> &'static str {
        match self.trust.key_is_new {
            true => "This is the key that was read from its file last, and the one before it is not used any more. ",
            false => "",
        }
    }

    fn refusal_wait(&mut self) -> Duration {
        let wait = POLL_REFUSED[self.trust.refusals.min(POLL_REFUSED.len() - 1)];
        self.trust.refusals += 1;
        jittered(scaled(wait, self.upload.retry_max), POLL_JITTER, &mut self.rng)
    }

    /// The cloud accepts the key.
    pub(super) fn refusal_over(&mut self) {
        (self.trust.refusals, self.trust.key_is_new) = (0, false);
        for code in [ProblemCode::KeyRefused, ProblemCode::DeviceUnknown] {
            self.problems.remove(&code);
        }
        if self.trust.blind {
            self.say_write_only();
        }
    }

    /// The cloud refused a question because of the key. Starts the test of the key after [`UNREAD`]
    /// such refusals in a row.
    pub(super) fn on_unread(&mut self) {
        self.trust.unread = self.trust.unread.saturating_add(1);
        self.trust.test_reading |= self.trust.unread == UNREAD;
    }

    /// The cloud refused the question for the active session because of the key.
    pub(super) fn on_poll_refused(&mut self, now: Duration, error: &CallError) {
        if self.trust.blind {
            self.timers.poll_at = now + self.refusal_wait();
            if std::mem::take(&mut self.session.resolve) {
                // The answer to the POST is the only evidence.
                self.close(now);
                self.session.active = Active::None;
            }
            self.trust.refused = Refused::No;
            return;
        }
        self.on_unread();
        let knows = matches!(self.session.active, Active::Some(_))
            && !self.session.resolve
            && self.trust.refused == Refused::No;
        if knows {
            // The known session stays in use. Only the look for another session waits.
            if self.trust.key_is_new {
                let which = self.which_key();
                let text =
                    format!("{error}. {which}Nothing is lost; what is sent next shows whether the key may write");
                self.problems.insert(ProblemCode::KeyRefused, text);
            }
            self.complain(false, error);
            self.timers.poll_at = now + self.refusal_wait();
        } else {
            self.refuse(now, false, error);
        }
    }

    /// Another question was answered, or was refused as well. That shows whether the key may read
    /// at all.
    pub(super) fn on_device(&mut self, now: Duration, answer: Result<(), CallError>) {
        match answer {
            Err(error @ CallError::KeyRefused { .. }) => {
                self.trust.test_reading = false;
                self.trust.unread = 0;
                if self.mode == SessionMode::Create || (self.trust.posts_work && self.session.joined.is_some()) {
                    self.go_blind(now, &error);
                }
            }
            // No answer arrived, so the same question is asked again.
            Err(error) if !error.certainly_not_applied() || error.is_offline() || error.retry_after().is_some() => {
                self.timers.hold = now + self.pause(false, &error);
                self.complain(false, &error);
            }
            _ => {
                self.trust.test_reading = false;
                self.trust.unread = 0;
            }
        }
    }

    /// The key may not read. Whether it may write, the next POST shows.
    fn go_blind(&mut self, now: Duration, error: &CallError) {
        self.trust.blind = true;
        self.trust.refused = Refused::No;
        self.timers.hold = now;
        self.batch.question = None;
        let every = scaled(POLL_REFUSED[POLL_REFUSED.len() - 1], self.upload.retry_max);
        self.timers.poll_at = now + jittered(every, POLL_JITTER, &mut self.rng);
        if self.session.active == Active::Unknown {
            let own = self.session.joined.as_ref().map(|joined| joined.token.clone());
            self.session.active =
                own.map_or(Active::None, |token| Active::Some(Session { token, alias: None, passings: None }));
        }
        if self.trust.posts_work {
            self.problems.remove(&ProblemCode::KeyRefused);
            self.say_write_only();
        } else {
            let which = self.which_key();
            let text = format!("{error}. {which}Nothing is lost; what is sent next shows whether the key may write");
            self.problems.insert(ProblemCode::KeyRefused, text);
        }
    }

    /// Raises the problem that the key may write but not read.
    fn say_write_only(&mut self) {
        let text = "the API key may write but not read. passbridge cannot see whether a session is active, nor check after a \
                    lost connection what arrived: then the upload stops until it can. Use a READ_WRITE key";
        self.problems.insert(ProblemCode::WriteOnlyKey, text.to_owned());
    }

    /// Raises the problem that passings of unknown fate wait and the machine may not ask about
    /// them.
    pub(super) fn say_cannot_ask(&mut self) {
        let count = self.batch.work.as_ref().map_or(0, |work| work.doubtful_in(&(0..work.open())));
        let text = format!(
            "the upload stands still: {count} passings may or may not be in the cloud, and the cloud refuses every question \
             about what it holds. Sending them again could put them there twice. Use a READ_WRITE key; it goes on by itself \
             as soon as the cloud answers"
        );
        self.problems.insert(ProblemCode::CannotAsk, text);
    }

    /// Settles the passings of a success without counts by that answer alone, because the cloud
    /// cannot be asked.
    pub(super) fn take_at_its_word(&mut self) {
        let now = self.timers.now;
        let Some(work) = &mut self.batch.work else { return };
        let (items, events) = work.accept_told();
        if !items.is_empty() {
            self.records.extend(events);
            self.note_accepted(now, &items);
        }
    }

    /// Another key is in use, so everything that was refused is tried at once.
    pub(super) fn on_new_key(&mut self, now: Duration) {
        self.trust.blind = false;
        self.problems.remove(&ProblemCode::WriteOnlyKey);
        (self.trust.posts_work, self.trust.key_is_new) = (false, true);
        (self.trust.unread, self.trust.refusals, self.trust.test_reading, self.timers.mute_until) = (0, 0, false, now);
        self.timers.hold = self.timers.hold.min(now);
        self.timers.poll_at = now;
    }

    /// The cloud refuses every form of a question.
    pub(super) fn fall_mute(&mut self, now: Duration, error: &CallError) {
        let why = self.batch.question.take().map(|question| question.why);
        self.complain(false, error);
        match why {
            Some(Why::Join) => {
                // Only the journal's own numbers and the session's count are available.
                let Active::Some(session) = self.session.active.clone() else { return };
                self.join(self.least_next(&session));
            }
            Some(Why::Recall) => self.trust.recall.done(),
            Some(Why::Left { from, to }) => self.trust.recall.cover(from, to),
            Some(Why::Elsewhere) => {
                if let Some(work) = &mut self.batch.work {
                    work.looked_elsewhere = true;
                }
            }
            Some(Why::Settle) => {
                self.timers.mute_until =
                    now + self.pause(false, error).max(scaled(POLL_REFUSED[0], self.upload.retry_max));
                // A poll shows whether the cloud refuses the question or the key.
                self.timers.poll_at = self.timers.poll_at.min(now);
            }
            Some(Why::Watch) | None => {}
        }
    }
}
