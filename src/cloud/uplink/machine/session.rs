//! What follows from what the cloud says about the active session, and how one is joined.

use std::time::Duration;

use super::{
    Active, FIRST_LOOK, Joined, Machine, POLL_JITTER, POLL_NONE, POLL_REFUSED, POLL_SOME, Refused, STALE_POLLS, Why,
    note_given, scaled,
};
use crate::cloud::rufus::{CallError, Session};
use crate::config::SessionMode;
use crate::journal::UploadEvent;
use crate::model::retry::jittered;
use crate::status::ProblemCode;

/// Looks in a row at which the cloud failed before that is a problem.
const POLLS_FAILED: u32 = 3;

impl Machine {
    pub(super) fn on_active(&mut self, now: Duration, found: Option<Session>) {
        self.asked_well();
        self.problems.remove(&ProblemCode::CloudNotUnderstood);
        if std::mem::take(&mut self.polls_failed) >= POLLS_FAILED {
            self.problems.remove(&ProblemCode::CloudTrouble);
        }
        self.blind = false;
        self.problems.remove(&ProblemCode::WriteOnlyKey);
        if self.refused == (Refused::Yes { by_post: false }) {
            self.refusal_over();
        }
        self.refused = Refused::No;
        let every = if found.is_some() { POLL_SOME } else { POLL_NONE };
        self.poll_at = now + jittered(scaled(every, self.upload.retry_max), POLL_JITTER, &mut self.rng);
        if found.is_some() {
            self.none_row = 0;
        } else {
            if self.none_row == 0 {
                self.none_since = now;
            }
            self.none_row = self.none_row.saturating_add(1);
            if self.mode == SessionMode::Create {
                // Asked again as soon as the second answer would be enough.
                self.poll_at = self.poll_at.min(now.max(self.none_since + self.upload.create_after) + FIRST_LOOK);
            }
        }
        let token = found.as_ref().map(|session| session.token.clone());
        if let Some(token) = &token
            && self.is_stale(token)
        {
            self.poll_at = now + FIRST_LOOK.min(self.upload.retry_max);
            return;
        }
        self.stale_polls = 0;
        let gone = std::mem::take(&mut self.resolve);
        if let Some(work) = &mut self.work {
            let same = token.as_deref() == Some(&*work.token);
            if gone && same {
                // One of the two answers is wrong. Wait, and take nothing for granted.
                let all = 0..self.sizing.part(work.open());
                work.doubt(&all, now);
                self.hold = now + self.post_retry.next(&mut self.rng, None);
                work.ask_at = self.hold;
                let text = "the cloud shows the session as active, but takes no passings into it; they are kept and \
                            tried again";
                self.problems.insert(ProblemCode::SessionDisputed, text.to_owned());
            }
            if same {
                work.closing = false;
            } else if gone || token.is_some() {
                // Without another session in its place, a poll alone does not end one: the next POST will tell.
                self.close(now);
            }
        }
        if self.joined.as_ref().map(|joined| &joined.token) != token.as_ref() {
            self.question = self.question.take().filter(|question| question.why != Why::Join);
            if let Some(joined) = &mut self.joined {
                joined.checked = false;
            }
        }
        self.active = found.map_or(Active::None, Active::Some);
    }

    /// A session that was joined before the one that takes our passings: a closed session is never opened again, so this
    /// answer is an old one. It is believed when it comes again and again, or when a POST says that ours is gone.
    fn is_stale(&mut self, token: &str) -> bool {
        let ours = self.joined.as_ref().filter(|joined| *joined.token != *token);
        let older = ours.is_some() && self.given.iter().any(|(known, _)| **known == *token);
        if self.resolve || !self.proven || !older || self.stale_polls >= STALE_POLLS {
            return false;
        }
        self.stale_polls += 1;
        true
    }

    /// The cloud has said often enough, and for long enough, that no session is active.
    pub(super) fn none_is_sure(&self, now: Duration) -> bool {
        self.blind || (self.none_row > 1 && now >= self.none_since + self.upload.create_after)
    }

    pub(super) fn on_active_failed(&mut self, now: Duration, error: &CallError) {
        match error {
            CallError::KeyRefused { .. } => self.on_poll_refused(now, error),
            CallError::DeviceUnknown { .. } => self.refuse(now, false, error),
            _ => {
                let wait = self.pause(false, error);
                self.complain(false, error);
                if let Some(answer) = error.not_understood() {
                    let begin: String = answer.chars().take(120).collect();
                    let text = format!(
                        "the cloud was asked for the active session, and its answer is none that is documented: `{begin}`. \
                         What is known of the session stays; it is asked again"
                    );
                    self.problems.insert(ProblemCode::CloudNotUnderstood, text);
                }
                self.polls_failed = self.polls_failed.saturating_add(1);
                if self.polls_failed >= POLLS_FAILED && !error.is_offline() && error.not_understood().is_none() {
                    let text = format!(
                        "the cloud was asked for the active session {} times in a row, and fails: {error}. Reads are kept; it is \
                         asked again",
                        self.polls_failed
                    );
                    self.problems.insert(ProblemCode::CloudTrouble, text);
                }
                self.poll_at = now + wait;
                if self.resolve || self.refused != Refused::No || error.retry_after().is_some() {
                    self.hold = now + wait;
                }
            }
        }
    }

    pub(super) fn on_created(&mut self, now: Duration, answer: Result<Session, CallError>) {
        match answer {
            Ok(session) => {
                self.asked_well();
                self.problems.remove(&ProblemCode::SessionNotCreated);
                self.refusal_over();
                self.posts_work = true;
                self.active = Active::Some(session);
                self.none_row = 0;
                let every = if self.blind { POLL_REFUSED[POLL_REFUSED.len() - 1] } else { POLL_SOME };
                self.poll_at = now + jittered(scaled(every, self.upload.retry_max), POLL_JITTER, &mut self.rng);
            }
            Err(error @ (CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. })) => {
                self.refuse(now, true, &error);
            }
            Err(error) => {
                if error.certainly_not_applied() && !error.is_offline() {
                    let text = format!("no session could be created: {error}. Reads are kept; it is tried again");
                    self.problems.insert(ProblemCode::SessionNotCreated, text);
                }
                self.hold = now + self.pause(false, &error);
                self.complain(false, &error);
                // It may have been created: the cloud has to say again that there is none, as often and as long as before.
                (self.none_row, self.poll_at) = (0, self.hold);
            }
        }
    }

    /// The least number that is free as far as the box and the session's own count tell. Own numbers come from the journal.
    pub(super) fn least_next(&self, session: &Session) -> u64 {
        self.next_given(&session.token).max(session.passings.map_or(1, |count| count.saturating_add(1)))
    }

    /// The number above all that this box ever gave in a session.
    fn next_given(&self, token: &str) -> u64 {
        self.given.iter().find(|(known, _)| **known == *token).map_or(1, |(_, next)| *next)
    }

    pub(super) fn join(&mut self, next: u64) {
        let Active::Some(session) = self.active.clone() else { return };
        let own = self.next_given(&session.token);
        if std::mem::take(&mut self.first_join) && next > own && !self.blind && !self.recall.is_on() {
            // Somebody else's passings, or ours, and the disk lost the lines that tell of them.
            self.recall.begin();
            return;
        }
        let same = self.joined.as_ref().is_some_and(|joined| joined.token == session.token);
        self.proven &= same;
        let next = next.max(own).saturating_add(self.jump());
        note_given(&mut self.given, &session.token, next);
        self.joined = Some(Joined { token: session.token.clone(), next, checked: true });
        let recorded = Some((session.token.clone(), next));
        if self.recorded != recorded {
            self.recorded = recorded;
            self.records.push_back(UploadEvent::Joined {
                device: self.device.clone(),
                token: session.token.clone(),
                alias: session.alias.clone(),
                next,
            });
        }
        self.look.get_or_insert(Duration::ZERO);
    }
}
