//! What the machine does with the cloud's answer about the active session, and how it joins a
//! session.

use std::time::Duration;

use super::Machine;
use super::limits::{FIRST_LOOK, POLL_JITTER, POLL_NONE, POLL_REFUSED, POLL_SOME, STALE_POLLS, scaled};
use super::parts::{Active, Joined, Refused, Why, note_given};
use crate::cloud::rufus::{CallError, Session};
use crate::config::SessionMode;
use crate::journal::UploadEvent;
use crate::model::retry::jittered;
use crate::status::ProblemCode;

/// After this many failed looks for the active session in a row, a problem is raised.
const POLLS_FAILED: u32 = 3;

impl Machine {
    /// Returns false if the answer is an old one that the machine does not believe.
    pub(super) fn on_active(&mut self, now: Duration, found: Option<Session>) -> bool {
        self.asked_well();
        self.problems.remove(&ProblemCode::CloudNotUnderstood);
        if std::mem::take(&mut self.session.polls_failed) >= POLLS_FAILED {
            self.problems.remove(&ProblemCode::CloudTrouble);
        }
        self.trust.blind = false;
        self.problems.remove(&ProblemCode::WriteOnlyKey);
        if self.trust.refused == (Refused::Yes { by_post: false }) {
            self.refusal_over();
        }
        self.trust.refused = Refused::No;
        let every = if found.is_some() { POLL_SOME } else { POLL_NONE };
        self.timers.poll_at = now + jittered(scaled(every, self.upload.retry_max), POLL_JITTER, &mut self.rng);
        if found.is_some() {
            self.session.none_row = 0;
            self.session.closed_by_hand = false;
        } else {
            if self.session.none_row == 0 {
                self.session.none_since = now;
            }
            self.session.none_row = self.session.none_row.saturating_add(1);
            if self.mode == SessionMode::Create && !self.session.closed_by_hand {
                // Ask again as soon as a second answer would be enough.
                self.timers.poll_at =
                    self.timers.poll_at.min(now.max(self.session.none_since + self.upload.create_after) + FIRST_LOOK);
            }
        }
        let token = found.as_ref().map(|session| session.token.clone());
        if let Some(token) = &token
            && self.is_stale(token)
        {
            self.timers.poll_at = now + FIRST_LOOK.min(self.upload.retry_max);
            return false;
        }
        self.session.stale_polls = 0;
        let gone = std::mem::take(&mut self.session.resolve);
        if let Some(work) = &mut self.batch.work {
            let same = token.as_deref() == Some(&*work.token);
            if gone && same {
                // One of the two answers is wrong, so the machine waits and assumes nothing.
                let all = 0..self.batch.sizing.part(work.open());
                work.doubt(&all, now);
                self.timers.hold = now + self.timers.post_retry.next(&mut self.rng, None);
                work.ask_at = self.timers.hold;
                let text = "the cloud shows the session as active, but takes no passings into it; they are kept and \
                            tried again";
                self.problems.insert(ProblemCode::SessionDisputed, text.to_owned());
            }
            if same {
                work.closing = false;
            } else if gone || token.is_some() {
                // A poll that shows no session at all does not end a session. The next POST will
                // show whether it is closed.
                self.close(now);
            }
        }
        if self.session.joined.as_ref().map(|joined| &joined.token) != token.as_ref() {
            self.batch.question = self.batch.question.take().filter(|question| question.why != Why::Join);
            if let Some(joined) = &mut self.session.joined {
                joined.checked = false;
            }
        }
        self.session.active = found.map_or(Active::None, Active::Some);
        true
    }

    /// What the cloud shows as active, without the session that somebody closed here.
    pub(super) fn without_closed(&self, found: Option<Session>) -> Option<Session> {
        found.filter(|session| self.session.closed.as_ref() != Some(&session.token))
    }

    /// The session was joined before the one that takes our passings, or it ended when somebody
    /// opened the active one. A closed session is never opened again, so this answer is an old one.
    /// The machine believes it only when the cloud repeats it, or when the answer to a POST says
    /// that our session is gone.
    fn is_stale(&mut self, token: &str) -> bool {
        let ours = self.session.joined.as_ref().filter(|joined| *joined.token != *token);
        let older = ours.is_some() && self.session.given.iter().any(|(known, _)| **known == *token);
        let follows = matches!(&self.session.active, Active::Some(session) if *session.token != *token);
        let replaced = follows && self.session.replaced.as_deref() == Some(token);
        let ended = replaced || (older && self.session.proven);
        if self.session.resolve || !ended || self.session.stale_polls >= STALE_POLLS {
            return false;
        }
        self.session.stale_polls += 1;
        true
    }

    /// The cloud has said often enough, and for long enough, that no session is active.
    pub(super) fn none_is_sure(&self, now: Duration) -> bool {
        self.trust.blind || (self.session.none_row > 1 && now >= self.session.none_since + self.upload.create_after)
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
                self.session.polls_failed = self.session.polls_failed.saturating_add(1);
                if self.session.polls_failed >= POLLS_FAILED && !error.is_offline() && error.not_understood().is_none()
                {
                    let text = format!(
                        "the cloud was asked for the active session {} times in a row, and fails: {error}. Reads are kept; it is \
                         asked again",
                        self.session.polls_failed
                    );
                    self.problems.insert(ProblemCode::CloudTrouble, text);
                }
                self.timers.poll_at = now + wait;
                if self.session.resolve || self.trust.refused != Refused::No || error.retry_after().is_some() {
                    self.timers.hold = now + wait;
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
                self.trust.posts_work = true;
                self.session.active = Active::Some(session);
                self.session.none_row = 0;
                self.session.closed_by_hand = false;
                let every = if self.trust.blind { POLL_REFUSED[POLL_REFUSED.len() - 1] } else { POLL_SOME };
                self.timers.poll_at = now + jittered(scaled(every, self.upload.retry_max), POLL_JITTER, &mut self.rng);
            }
            Err(error @ (CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. })) => {
                self.refuse(now, true, &error);
            }
            Err(error) => {
                if error.certainly_not_applied() && !error.is_offline() {
                    let text = format!("no session could be created: {error}. Reads are kept; it is tried again");
                    self.problems.insert(ProblemCode::SessionNotCreated, text);
                }
                self.timers.hold = now + self.pause(false, &error);
                self.complain(false, &error);
                // The session may have been created. So the cloud must say again that there is
                // none, as often and for as long as before.
                (self.session.none_row, self.timers.poll_at) = (0, self.timers.hold);
            }
        }
    }

    /// Returns the lowest number that is free according to the box and to the session's own count.
    /// The box's own numbers are read from the journal.
    pub(super) fn least_next(&self, session: &Session) -> u64 {
        self.next_given(&session.token).max(session.passings.map_or(1, |count| count.saturating_add(1)))
    }

    /// Returns the number above all numbers that this box ever gave in a session.
    fn next_given(&self, token: &str) -> u64 {
        self.session.given.iter().find(|(known, _)| **known == *token).map_or(1, |(_, next)| *next)
    }

    pub(super) fn join(&mut self, next: u64) {
        let Active::Some(session) = self.session.active.clone() else { return };
        let own = self.next_given(&session.token);
        if std::mem::take(&mut self.session.first_join) && next > own && !self.trust.blind && !self.trust.recall.is_on()
        {
            // The session holds numbers above ours. They belong to another sender, or they are ours
            // and the disk lost their log lines.
            self.trust.recall.begin();
            return;
        }
        let same = self.session.joined.as_ref().is_some_and(|joined| joined.token == session.token);
        self.session.proven &= same;
        let next = next.max(own).saturating_add(self.jump());
        note_given(&mut self.session.given, &session.token, next);
        self.session.joined = Some(Joined { token: session.token.clone(), next, checked: true });
        let recorded = Some((session.token.clone(), next));
        if self.session.recorded != recorded {
            self.session.recorded = recorded;
            self.records.push_back(UploadEvent::Joined {
                device: self.device.clone(),
                token: session.token.clone(),
                alias: session.alias.clone(),
                next,
            });
        }
        self.timers.look.get_or_insert(Duration::ZERO);
    }
}
