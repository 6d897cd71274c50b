//! What follows from what the cloud says it holds.

use std::time::Duration;

use super::post::missing_text;
use super::{Machine, Question, SHORT_ROUNDS, Why};
use crate::rufus::{CallError, Page, Session};
use crate::uplink::inquiry::{Inquiry, Progress};
use crate::uplink::recall::Recall;
use crate::uplink::work::Claim;

impl Machine {
    pub(super) fn on_held(&mut self, now: Duration, answer: Result<Page, CallError>) {
        let Some(question) = &mut self.question else { return };
        let page = match answer {
            Ok(page) => page,
            Err(CallError::SessionGone { .. }) => {
                question.confirm = true;
                return;
            }
            Err(error @ CallError::KeyRefused { .. }) if self.posts_work => {
                self.go_blind(&error);
                self.question = None;
                return;
            }
            Err(error) => return self.on_question_failed(now, &error),
        };
        let ours = match (question.why, &self.work) {
            (Why::Settle, Some(work)) => work.doubted(&question.inquiry),
            _ => Vec::new(),
        };
        if let (Why::Recall, Some(recall)) = (question.why, &mut self.recall) {
            recall.take(&page);
        }
        let progress = question.inquiry.take(&page, &ours);
        self.asked_well();
        match progress {
            Progress::More => {}
            Progress::Done => self.conclude(now),
            Progress::TooLong => self.on_endless(now),
        }
    }

    pub(super) fn on_session(&mut self, now: Duration, answer: Result<Option<Session>, CallError>) {
        let Some(question) = &mut self.question else { return };
        match answer {
            // It exists, so "not found" meant the passings: there are none.
            Ok(Some(_)) => {
                self.asked_well();
                self.conclude(now);
            }
            Ok(None) => {
                let why = question.why;
                self.asked_well();
                if why == Why::Recall {
                    return self.conclude(now); // it holds nothing
                }
                if why == Why::Join {
                    self.question = None;
                    self.poll_at = now; // the session vanished between two questions
                    self.hold = now + self.ask_retry.next(&mut self.rng, None);
                    return;
                }
                let text = "the cloud does not know the session any more that passings were sent to; what was not \
                            confirmed is sent to the next session";
                self.problems.insert("session_lost", text.to_owned());
                self.conclude(now);
                let closing = self.work.as_ref().is_none_or(|work| work.closing);
                self.resolve = !closing;
            }
            Err(error) => self.on_question_failed(now, &error),
        }
    }

    fn on_question_failed(&mut self, now: Duration, error: &CallError) {
        if matches!(error, CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. }) {
            return self.refuse(now, false, error);
        }
        self.hold = now + self.pause(false, error);
        self.complain(false, error);
    }

    /// More pages than any session should have.
    fn on_endless(&mut self, now: Duration) {
        let Some(question) = &mut self.question else { return };
        let inquiry = &mut question.inquiry;
        match (question.why, inquiry.highest) {
            // Each round starts higher, so this ends with the session.
            (Why::Join, Some(highest)) if highest >= inquiry.first => {
                *inquiry = Inquiry::new(&inquiry.token, highest.saturating_add(1), None);
            }
            (Why::Join | Why::Recall, _) => self.conclude(now),
            (Why::Settle, _) => {
                *inquiry = Inquiry::new(&inquiry.token, inquiry.first, inquiry.last);
                self.hold = now + self.ask_retry.next(&mut self.rng, None);
            }
        }
    }

    /// The inquiry has seen everything.
    fn conclude(&mut self, now: Duration) {
        let Some(Question { inquiry, why, .. }) = self.question.take() else { return };
        if why == Why::Join {
            self.join(inquiry.highest.map_or(inquiry.first, |highest| highest.saturating_add(1)));
            return;
        }
        if why == Why::Recall {
            return self.recall.iter_mut().for_each(Recall::done);
        }
        let Some(work) = &mut self.work else { return };
        let settled = work.settle(&inquiry);
        self.sizing.found();
        self.sent += settled.accepted;
        self.pace.sent(now, settled.accepted);
        self.duplicates += settled.duplicates;
        self.records.extend(settled.events);
        if settled.accepted > 0 {
            self.on_progress();
        }
        let work = self.work.as_mut();
        if let Some((Claim::Short { counted, sent }, last)) = work.and_then(|work| work.claim.take()) {
            self.on_still_missing(now, settled.accepted > 0, counted, sent, last);
        }
        if let Some(&num) = settled.taken.last() {
            let text = format!(
                "another device or program sends passings into this session: number {num} was taken. The passing is set \
                 aside; numbers go on above the highest in the session"
            );
            self.problems.insert("number_taken", text);
            self.note_set_aside(settled.taken.len() as u64, &format!("number {num} was taken by another sender"));
            // The rest was never posted or is known not to be there: new numbers, above the other sender's.
            if self.work.as_ref().is_some_and(|work| !work.doubtful() && !work.again) {
                self.release();
            }
        }
    }

    /// The counts were short, and the cloud was asked: does it lack the passings for good?
    fn on_still_missing(&mut self, now: Duration, progress: bool, counted: u64, sent: u64, last: u64) {
        let Some(work) = &mut self.work else { return };
        work.short_rounds = if progress { 0 } else { work.short_rounds + 1 };
        if progress || work.closing {
            return;
        }
        if work.short_rounds < SHORT_ROUNDS {
            self.hold = now + self.post_retry.next(&mut self.rng, None);
            return;
        }
        work.short_rounds = 0;
        let text = missing_text(counted, sent);
        let events = work.set_absent_aside(last, 200, &text);
        self.note_set_aside(events.len() as u64, &text);
        self.records.extend(events);
    }
}
