//! What the machine does with the answer to a POST.

use std::ops::Range;
use std::time::Duration;

use super::Machine;
use super::limits::{
    ALONE_PATIENCE, FAILED_ROW, FIRST_LOOK, LONG_POST, PASSED_LATELY, REFUSED_ROW, TROUBLE_ROW, scaled,
};
use super::parts::Active;
use crate::cloud::rufus::{CallError, Inserted, OutcomeDoubt};
use crate::cloud::uplink::work::Claim;
use crate::config::SessionMode;
use crate::journal::UploadItem;
use crate::status::ProblemCode;

impl Machine {
    /// The answer is a documented success. Checks whether its counts account for everything that
    /// was sent.
    pub(super) fn on_inserted(&mut self, now: Duration, counts: Inserted) {
        let blind = self.trust.blind;
        let Some(part) = self.batch.posting.take() else { return };
        let Some(work) = &mut self.batch.work else { return };
        self.trust.posts_work = true;
        self.timers.last_post = Some(now);
        self.batch.sizing.took(
            part.len(),
            now.saturating_sub(self.batch.post_began),
            self.batch.full || work.open() > part.len(),
        );
        let sent = part.len() as u64;
        let duplicates = counts.duplicates.unwrap_or(0);
        match counts.inserted {
            Some(inserted) if inserted == sent && duplicates == 0 => self.on_accepted(now, &part, 0),
            // The answer has no counts. A cloud that drops a passing because its number is taken
            // answers the same, so the machine must see the passings in the cloud. It first sends
            // the rest of the batch.
            None if duplicates == 0 && !blind => {
                work.told(&part, now);
                self.answered();
            }
            None if duplicates == 0 => self.on_accepted(now, &part, 0),
            // A number of duplicates proves nothing about a single passing. The machine cannot ask,
            // so it accepts the counts only if the duplicates can be the passings of unknown fate.
            inserted if blind => {
                let accounted = inserted.unwrap_or(0).saturating_add(duplicates) == sent;
                if accounted && duplicates <= work.doubtful_in(&part) {
                    self.trust.dedups |= duplicates > 0;
                    return self.on_accepted(now, &part, duplicates);
                }
                work.doubt(&part, now);
                self.timers.hold = now + self.timers.post_retry.next(&mut self.rng, None);
                self.answered();
            }
            inserted => {
                let last = work.items(&part).last().map_or(0, |item| item.num);
                let first_time = work.is_first_time(&part);
                work.doubt(&part, now);
                let inserted = inserted.unwrap_or(0);
                work.claim = Some(Claim { inserted, duplicates, sent, last, first_time });
                (work.looked_elsewhere, work.ask_at) = (false, now);
                self.answered();
            }
        }
    }

    fn on_accepted(&mut self, now: Duration, part: &Range<usize>, duplicates: u64) {
        let Some(work) = &mut self.batch.work else { return };
        let Some((items, event)) = work.accept(part, duplicates) else { return };
        self.records.push_back(event);
        self.note_accepted(now, &items);
        self.batch.sizing.accepted(items.len());
        self.batch.renumbered_row = 0;
        self.on_progress();
    }

    /// The cloud accepts POSTs.
    fn answered(&mut self) {
        self.refusal_over();
        self.batch.trouble_row = 0;
        self.counters.trouble = None;
        self.trusted();
    }

    /// A POST was accepted, by its answer or because the cloud showed its passings.
    pub(super) fn on_progress(&mut self) {
        self.counters.accepted_posts += 1;
        self.batch.refused_row = 0;
        self.timers.post_retry.reset();
        self.answered();
        for code in [
            ProblemCode::CloudRefuses,
            ProblemCode::CloudTrouble,
            ProblemCode::SessionDisputed,
            ProblemCode::SessionLost,
            ProblemCode::CannotAsk,
        ] {
            self.problems.remove(&code);
        }
    }

    pub(super) fn on_post_failed(&mut self, now: Duration, error: &CallError) {
        let Some(part) = self.batch.posting.take() else { return };
        if self.batch.work.is_none() {
            return;
        }
        match error {
            CallError::NotSent(_) | CallError::TooMany { .. } => {
                self.timers.hold = now + self.pause(true, error);
                self.complain(true, error);
            }
            CallError::Unknown { .. } | CallError::Portal => self.on_post_unknown(now, &part, error),
            CallError::TooLarge { .. } if part.len() > 1 => self.batch.sizing.too_large(part.len()),
            CallError::BadRequest { .. } if part.len() > 1 => self.batch.sizing.refused(part.len()),
            CallError::TooLarge { answer } => self.on_refused(now, part.start, 413, answer),
            CallError::BadRequest { status, answer } => self.on_refused(now, part.start, *status, answer),
            CallError::SessionGone { .. } if self.trust.blind && self.mode == SessionMode::Create => {
                self.close(now);
                self.session.active = Active::None;
            }
            CallError::SessionGone { .. } => self.session.resolve = true,
            CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. } => {
                self.trust.posts_work = false;
                self.refuse(now, true, error);
            }
        }
    }

    fn on_post_unknown(&mut self, now: Duration, part: &Range<usize>, error: &CallError) {
        let timeout =
            |why: &OutcomeDoubt| matches!(why, OutcomeDoubt::Timeout | OutcomeDoubt::Server { status: 504, .. });
        let long = now.saturating_sub(self.batch.post_began) >= LONG_POST;
        if long {
            self.timers.post_retry.reset(); // it has already taken its time, and a smaller POST may be accepted
        }
        let wait = self.pause(true, error);
        self.timers.hold = now + wait;
        self.batch.trouble_row += 1;
        self.complain(true, error);
        let Some(work) = &mut self.batch.work else { return };
        work.doubt(part, now);
        work.ask_at = now + wait.max(FIRST_LOOK.min(self.upload.retry_max));
        // A suspect passing needs no second failure.
        let suspect = part.len() == 1 && work.seq(part.start).is_some_and(|seq| self.batch.suspects.is_searched(seq));
        // While others are accepted, the part is split at once, because the cloud may fail at
        // one passing in it. A cloud that sends Retry-After is busy, so its part stays whole.
        let others_pass = part.len() > 1
            && error.retry_after().is_none()
            && self.batch.suspects.passed_since(now.saturating_sub(PASSED_LATELY));
        let again = suspect || others_pass || self.batch.trouble_row >= FAILED_ROW;
        match error {
            CallError::Unknown { why, .. } if long || timeout(why) => self.batch.sizing.slow(),
            // The cloud itself failed, perhaps at one passing of the part.
            CallError::Unknown { why: OutcomeDoubt::Server { .. } | OutcomeDoubt::Unreadable(_), .. } if again => {
                let items = work.items(part);
                if let [item] = &items[..] {
                    let status = match error {
                        CallError::Unknown { why: OutcomeDoubt::Server { status, .. }, .. } => *status,
                        _ => 200,
                    };
                    self.on_alone_unknown(now, item, status, error);
                } else {
                    self.batch.suspects.take_apart(&items);
                }
            }
            // A repeated failure may also be caused by the size.
            CallError::Unknown { .. } if self.batch.trouble_row >= FAILED_ROW => self.batch.sizing.slow(),
            _ => {}
        }
        if self.batch.trouble_row >= TROUBLE_ROW
            && !error.is_offline()
            && let Some(item) = self.batch.work.as_ref().and_then(|work| work.items(part).into_iter().next())
        {
            let text = format!(
                "the cloud has failed {} times in a row to take passings from number {} on (chip {}): {error}. \
                 They are kept and tried again",
                self.batch.trouble_row, item.num, item.chip
            );
            self.problems.insert(ProblemCode::CloudTrouble, text);
        }
    }

    /// The cloud failed at a passing that was sent alone. The cloud may hold it, so the machine
    /// asks for it. The other passings need not wait for the answer, unless the cloud fails at
    /// everything.
    fn on_alone_unknown(&mut self, now: Duration, item: &UploadItem, status: u16, error: &CallError) {
        let may_ask = self.may_ask(now);
        let age = self.trust.fresh.age();
        // A passing that came alone says nothing about itself: the cloud may be down, and then the
        // next ones fail too, and this one would lose its place for nothing.
        let came_alone = !self.batch.suspects.is_searched(item.seq);
        if came_alone && now.saturating_sub(self.batch.moved_at) < scaled(ALONE_PATIENCE, self.upload.retry_max) {
            return;
        }
        let Some(work) = &mut self.batch.work else { return };
        let Some(at) = work.place(item.num) else { return };
        let answer = error.to_string();
        if !may_ask || work.again || work.closing || error.retry_after().is_some() {
            work.failed_alone = Some((item.num, status, answer.into()));
            work.ask_first = true;
            return;
        }
        if self.batch.suspects.failed(now, item, status, &answer) {
            work.leave(at, now, now + age);
            self.timers.post_retry.reset();
            self.timers.hold = now;
            self.say_it_fails_at(item, &answer);
        } else {
            self.timers.hold = self.timers.hold.max(now + self.timers.post_retry.next(&mut self.rng, None));
        }
    }

    /// The cloud refused a passing that was sent alone.
    fn on_refused(&mut self, now: Duration, at: usize, status: u16, answer: &str) {
        let may_ask = self.may_ask(now);
        let Some(work) = &mut self.batch.work else { return };
        if may_ask && work.doubt_refusal(at, now) {
            return;
        }
        self.set_aside_at(at, status, answer);
        self.batch.refused_row += 1;
        if self.batch.refused_row >= REFUSED_ROW {
            self.timers.hold = now + self.timers.post_retry.next(&mut self.rng, None);
            let text = format!(
                "the cloud has refused {} passings in a row, each alone ({status}: {answer}). They are set aside and can \
                 be exported; sending goes on slowly. Is the session right?",
                self.batch.refused_row
            );
            self.problems.insert(ProblemCode::CloudRefuses, text);
        }
    }

    fn set_aside_at(&mut self, at: usize, status: u16, answer: &str) {
        self.batch.sizing.found();
        let aside = self.batch.work.as_mut().and_then(|work| work.set_aside(at, status, answer, false));
        if let Some((item, event)) = aside {
            self.records.push_back(event);
            self.batch.suspects.forget(item.seq);
            self.note_set_aside(1, &format!("number {}, chip {}: {answer}", item.num, item.chip));
        }
    }

    pub(super) fn note_set_aside(&mut self, count: u64, last: &str) {
        if count > 0 {
            self.counters.set_aside += count;
            let text = format!(
                "{} passings were set aside since the start and can be exported; the last: {last}",
                self.counters.set_aside
            );
            self.problems.insert(ProblemCode::PassingsSetAside, text);
        }
    }
}
