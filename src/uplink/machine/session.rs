//! What follows from what the cloud says about the active session, and how one is joined.

use std::time::Duration;

use super::{Active, Joined, Machine, POLL_JITTER, POLL_NONE, POLL_REFUSED, POLL_SOME, Refused, SETTLE, Why};
use crate::config::SessionMode;
use crate::journal::UploadEvent;
use crate::retry::jittered;
use crate::rufus::{CallError, Session};
use crate::uplink::recall::Recall;

impl Machine {
    pub(super) fn on_active(&mut self, now: Duration, found: Option<Session>) {
        self.asked_well();
        self.blind = false;
        self.problems.remove("write_only_key");
        if self.refused == (Refused::Yes { by_post: false }) {
            self.refusal_over();
        }
        self.refused = Refused::No;
        let every = if found.is_some() { POLL_SOME } else { POLL_NONE };
        self.poll_at = now + jittered(every, POLL_JITTER, &mut self.rng);
        self.none_row = if found.is_some() { 0 } else { self.none_row.saturating_add(1) };
        if self.none_row == 1 && self.mode == SessionMode::Create {
            self.poll_at = now + SETTLE.min(self.upload.retry_max); // asked again before one is created
        }
        let token = found.as_ref().map(|session| session.token.clone());
        let gone = std::mem::take(&mut self.resolve);
        if let Some(work) = &mut self.work {
            let same = token.as_deref() == Some(&*work.token);
            if gone && same {
                // One of the two answers is wrong. Wait, and take nothing for granted.
                let part = self.sizing.part(work.open());
                work.doubt(part);
                self.hold = now + self.post_retry.next(&mut self.rng, None);
                work.ask_at = self.hold;
                let text = "the cloud shows the session as active, but takes no passings into it; they are kept and \
                            tried again";
                self.problems.insert("session_disputed", text.to_owned());
            }
            if same {
                work.closing = false;
            } else if gone || token.is_some() {
                // Without another session in its place, a poll alone does not end one: the next POST will tell.
                self.close();
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

    pub(super) fn on_active_failed(&mut self, now: Duration, error: &CallError) {
        match error {
            CallError::KeyRefused { .. } if self.may_go_blind() => {
                self.refused = Refused::No;
                self.go_blind(error);
                self.poll_at = now + jittered(POLL_REFUSED, POLL_JITTER, &mut self.rng);
                if std::mem::take(&mut self.resolve) {
                    // The POST's word is all there is.
                    self.close();
                    self.active = Active::None;
                } else if self.active == Active::Unknown {
                    let own = self.joined.as_ref().map(|joined| joined.token.clone());
                    let session = |token| Session { token, alias: None, passings: None };
                    self.active = own.map_or(Active::None, |token| Active::Some(session(token)));
                }
            }
            CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. } => self.refuse(now, false, error),
            _ => {
                let wait = self.pause(false, error);
                self.complain(false, error);
                self.poll_at = now + wait;
                if self.resolve || self.refused != Refused::No || error.retry_after().is_some() {
                    self.hold = now + wait;
                }
            }
        }
    }

    /// Whether to go on when reading is refused: with a session of our own making, or while posting works.
    fn may_go_blind(&self) -> bool {
        self.mode == SessionMode::Create || (self.blind && self.posts_work && !self.resolve)
    }

    pub(super) fn go_blind(&mut self, error: &CallError) {
        self.blind = true;
        let text = format!(
            "the API key may write but not read. passbridge cannot see whether a session is active, nor check after a \
             lost connection what arrived: passings may arrive twice. Use a READ_WRITE key ({error})"
        );
        self.problems.insert("write_only_key", text);
    }

    pub(super) fn refuse(&mut self, now: Duration, by_post: bool, error: &CallError) {
        self.refused = Refused::Yes { by_post };
        self.blind = false;
        self.problems.remove("write_only_key");
        self.question = None;
        self.hold = now + jittered(POLL_REFUSED, POLL_JITTER, &mut self.rng);
        let code = if matches!(error, CallError::DeviceUnknown { .. }) { "device_unknown" } else { "key_refused" };
        self.problems.insert(code, format!("{error}. Nothing is lost; it is tried again every few minutes"));
        self.complain(by_post, error);
    }

    pub(super) fn on_created(&mut self, now: Duration, answer: Result<Session, CallError>) {
        match answer {
            Ok(session) => {
                self.asked_well();
                self.problems.remove("session_not_created");
                self.refusal_over();
                self.posts_work = true;
                self.active = Active::Some(session);
                let every = if self.blind { POLL_REFUSED } else { POLL_SOME };
                self.poll_at = now + jittered(every, POLL_JITTER, &mut self.rng);
            }
            Err(error @ (CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. })) => {
                self.refuse(now, true, &error);
            }
            Err(error) => {
                if error.certainly_not_applied() && !error.is_offline() {
                    let text = format!("no session could be created: {error}. Reads are kept; it is tried again");
                    self.problems.insert("session_not_created", text);
                }
                self.hold = now + self.pause(false, &error);
                self.complain(false, &error);
                // It may have been created.
                self.poll_at = self.hold;
            }
        }
    }

    /// The least number that is free as far as the box and the session's own count tell.
    pub(super) fn least_next(&self, session: &Session) -> u64 {
        let own = self.joined.as_ref().filter(|joined| joined.token == session.token).map_or(1, |joined| joined.next);
        own.max(session.passings.map_or(1, |count| count.saturating_add(1)))
    }

    pub(super) fn join(&mut self, next: u64) {
        let Active::Some(session) = &self.active else { return };
        let own = self.joined.as_ref().filter(|joined| joined.token == session.token).map_or(1, |joined| joined.next);
        if std::mem::take(&mut self.first_join) && next > own && !self.blind && self.recall.is_none() {
            // Somebody else's passings, or ours, and the disk lost the lines that tell of them.
            self.recall = Some(Recall::new(Vec::new()));
            return;
        }
        let same = self.joined.as_ref().is_some_and(|joined| joined.token == session.token);
        if !same {
            self.problems.remove("number_taken");
        }
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
