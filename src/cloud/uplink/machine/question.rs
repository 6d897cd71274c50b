//! What the machine does with the cloud's answer about the passings that it holds.

use std::time::Duration;

use super::Machine;
use super::limits::{JUMP_MAX, SHORT_ROUNDS, WAY_KEPT};
use super::parts::{Question, Refused, Why};
use crate::cloud::rufus::{CallError, OutcomeDoubt, Page, Session};
use crate::cloud::uplink::inquiry::{Inquiry, Progress, Way};
use crate::cloud::uplink::recall::is_given;
use crate::cloud::uplink::work::{Claim, Fate, Settled, Work};
use crate::journal::UploadItem;

use super::suspect::Fallen;
use crate::status::ProblemCode;

impl Question {
    /// The question is about the batch in flight.
    pub(super) fn is_of_work(&self) -> bool {
        matches!(self.why, Why::Settle | Why::Elsewhere)
    }
}

impl Machine {
    /// Puts a question, in the form that the cloud answered last.
    pub(super) fn put_question(&mut self, now: Duration, inquiry: Inquiry, why: Why) {
        let (way, until) = self.trust.way;
        let inquiry = if now < until { inquiry.in_way(way) } else { inquiry };
        self.batch.question = Some(Question::new(inquiry, why));
    }

    pub(super) fn on_held(&mut self, now: Duration, answer: Result<Page, CallError>) {
        let Some(question) = &mut self.batch.question else { return };
        let page = match answer {
            Ok(page) => page,
            Err(error) => return self.on_not_held(now, &error),
        };
        let ours = match (question.why, &self.batch.work) {
            (Why::Settle, Some(work)) => work.doubted(&question.inquiry),
            (Why::Watch, _) => self.trust.watch.ours(),
            _ => Vec::new(),
        };
        match question.why {
            Why::Recall => self.trust.recall.take(&page),
            // If the cloud shows a passing under its own number, that proves nothing about another
            // passing that waits.
            Why::Left { .. } => {
                let own = &self.session.own;
                self.trust.recall.take_times(&page, |token, num, _| !is_given(own, token, num));
            }
            // The cloud itself says that these are duplicates, so the same chip at the same time
            // counts, whatever its number.
            Why::Elsewhere => {
                let doubted = self.batch.work.as_ref().map(|work| work.keys_in_doubt()).unwrap_or_default();
                self.trust.recall.take_times(&page, |_, _, key| doubted.contains(&key));
            }
            Why::Settle | Why::Join | Why::Watch => {}
        }
        let progress = question.inquiry.take(&page, &ours);
        question.refusals = 0;
        let way = question.inquiry.way();
        if !matches!(question.why, Why::Left { .. } | Why::Elsewhere) && !matches!(way, Way::Windows(1) | Way::Moments)
        {
            self.trust.way = (way, now + WAY_KEPT);
        }
        self.asked_well();
        self.problems.remove(&ProblemCode::CannotAsk);
        match progress {
            Progress::More => {}
            Progress::Done => self.conclude(now),
            Progress::TooLong => self.on_endless(now),
        }
    }

    fn on_not_held(&mut self, now: Duration, error: &CallError) {
        let Some(question) = &mut self.batch.question else { return };
        let device = matches!(question.inquiry.way(), Way::Times | Way::Moments | Way::Instants);
        if question.why == Why::Watch && !matches!(error, CallError::BadRequest { .. }) {
            self.batch.question = None; // the next look follows by itself, and nothing waits for it
            return;
        }
        match error {
            CallError::SessionGone { .. } if !device => question.confirm = true,
            CallError::NotSent(_) | CallError::Portal | CallError::TooMany { .. } => {
                self.on_question_failed(now, error)
            }
            CallError::Unknown { why: OutcomeDoubt::Timeout | OutcomeDoubt::Cut(_), .. } => {
                self.on_question_failed(now, error)
            }
            // The question was refused, or the cloud failed at it. One refusal may be chance. After
            // more, the machine asks in another form.
            _ => {
                question.refusals += 1;
                // If the cloud answered this form before, the form is not the reason for the
                // refusal.
                let answered = question.inquiry.was_answered();
                let patience = match error {
                    CallError::BadRequest { .. } | CallError::TooLarge { .. } => 1,
                    _ if answered => 8,
                    // These questions have no other form.
                    _ if matches!(question.why, Why::Left { .. } | Why::Elsewhere) => 6,
                    CallError::Unknown { .. } => 3,
                    _ => 2,
                };
                let last = question.refusals >= patience;
                if matches!(error, CallError::KeyRefused { .. }) {
                    self.on_unread();
                }
                if !last {
                    return self.on_question_failed(now, error);
                }
                let Some(question) = &mut self.batch.question else { return };
                question.refusals = 0;
                self.timers.ask_retry.reset();
                // `Left` and `Elsewhere` have no other form.
                if !question.inquiry.next_way() {
                    self.fall_mute(now, error);
                }
            }
        }
    }

    pub(super) fn on_session(&mut self, now: Duration, answer: Result<Option<Session>, CallError>) {
        let Some(question) = &mut self.batch.question else { return };
        match answer {
            // The session exists, so "not found" meant that it holds no such passings.
            Ok(Some(_)) => {
                question.confirm = false;
                self.asked_well();
                self.conclude(now);
            }
            Ok(None) => {
                let why = question.why;
                self.asked_well();
                match why {
                    Why::Recall => return self.conclude(now), // the session holds nothing
                    Why::Settle => {}
                    // The session vanished between two questions.
                    _ => {
                        self.batch.question = None;
                        self.timers.poll_at = now;
                        self.timers.hold = now + self.timers.ask_retry.next(&mut self.rng, None);
                        return;
                    }
                }
                if !self.is_old_enough() {
                    self.batch.question = None;
                    return self.ask_later(now);
                }
                let text = "the cloud does not know the session any more that passings were sent to; what was not \
                            confirmed is sent to the next session";
                self.problems.insert(ProblemCode::SessionLost, text.to_owned());
                self.conclude_settle(now, true);
                let closing = self.batch.work.as_ref().is_none_or(|work| work.closing);
                self.session.resolve = !closing;
            }
            Err(error) => self.on_question_failed(now, &error),
        }
    }

    fn on_question_failed(&mut self, now: Duration, error: &CallError) {
        if matches!(error, CallError::DeviceUnknown { .. }) && self.trust.refused == Refused::No {
            return self.refuse(now, false, error);
        }
        self.timers.hold = now + self.pause(false, error);
        self.complain(false, error);
    }

    /// The cloud returned more pages than any session should have.
    fn on_endless(&mut self, now: Duration) {
        let Some(question) = &mut self.batch.question else { return };
        let inquiry = &mut question.inquiry;
        match (question.why, inquiry.highest) {
            // Each round starts at a higher number, so this ends at the end of the session.
            (Why::Join, Some(highest)) if highest >= inquiry.first => {
                *inquiry = Inquiry::new(&inquiry.token, highest.saturating_add(1), None);
            }
            (Why::Settle, _) => self.conclude_settle(now, false),
            _ => self.conclude(now),
        }
    }

    /// The inquiry has seen every page.
    fn conclude(&mut self, now: Duration) {
        let Some(question) = &self.batch.question else { return };
        if question.why == Why::Settle {
            return self.conclude_settle(now, false);
        }
        if question.why == Why::Watch {
            self.note_lag();
        }
        let Some(Question { inquiry, why, .. }) = self.batch.question.take() else { return };
        match why {
            Why::Join => self.join(inquiry.highest.map_or(inquiry.first, |highest| highest.saturating_add(1))),
            Why::Recall => self.trust.recall.done(),
            // The answer was cut short and the rest is not available, so the machine asks for a
            // shorter time. It asks for the other half when the batch is formed again.
            Why::Left { .. } if !inquiry.is_whole() && inquiry.first_half().is_some() => {
                if let Some(half) = inquiry.first_half()
                    && let Some((from, to)) = half.asks_from_to()
                {
                    self.batch.question = Some(Question::new(half, Why::Left { from, to }));
                }
            }
            Why::Left { from, to } => self.trust.recall.cover(from, to),
            Why::Watch => self.on_watched(now, &inquiry),
            Why::Elsewhere => {
                let Some(work) = &mut self.batch.work else { return };
                work.looked_elsewhere = true;
                let recall = &mut self.trust.recall;
                let events = work.release_elsewhere(|item| recall.holds(item));
                self.records.extend(events);
            }
            Why::Settle => {}
        }
    }

    /// Updates the lag of the cloud's answers by the witness. Returns `None` if this answer is
    /// behind.
    fn note_lag(&mut self) -> Option<()> {
        let inquiry = &self.batch.question.as_ref()?.inquiry;
        match inquiry.is_fresh() {
            // An answer that was cut short does not show how far it is behind.
            Some(false) if !inquiry.is_whole() => None,
            Some(false) => self.trust.fresh.missed(inquiry.asked.unwrap_or(self.timers.now)).then_some(()),
            Some(true) | None => Some(()),
        }
    }

    /// The question was asked late enough after the last POST that left a doubt.
    fn is_old_enough(&self) -> bool {
        let asked = self.batch.question.as_ref().and_then(|question| question.inquiry.asked).unwrap_or(self.timers.now);
        let doubted = self.batch.work.as_ref().and_then(Work::doubted_since);
        doubted.is_none_or(|doubted| asked >= doubted + self.trust.fresh.age())
    }

    /// Asks again later, because the cloud may hold a passing that it does not show yet.
    fn ask_later(&mut self, now: Duration) {
        let wait = self.timers.ask_retry.next(&mut self.rng, None);
        let Some(work) = &mut self.batch.work else { return };
        let due = work.doubted_since().map_or(now, |doubted| doubted + self.trust.fresh.age());
        // Also ask before the due time, so that passings which did arrive are settled sooner.
        let at = if due > now { due.min(now + wait.max(self.trust.fresh.age() / 4)) } else { now + wait };
        work.ask_again_at(at);
    }

    /// Draws the conclusions for the batch in flight. `gone`: the cloud does not know the session
    /// at all.
    fn conclude_settle(&mut self, now: Duration, gone: bool) {
        let fresh = gone || self.note_lag().is_some();
        let old = self.is_old_enough();
        let Some(question) = &mut self.batch.question else { return };
        if old && !question.inquiry.is_whole() && !gone {
            // Answers are cut short, so the machine asks for less at a time, then in other forms.
            // What was found stays found.
            if question.inquiry.narrow() || question.inquiry.next_way() {
                return;
            }
        }
        let whole = question.inquiry.is_whole() || gone;
        let Some(Question { inquiry, .. }) = self.batch.question.take() else { return };
        let Some(work) = &mut self.batch.work else { return };
        let (claim, pressing) = (work.claim, work.pressing());
        let settled = work.settle(&inquiry, fresh && old && whole);
        // The passings were sent a second time, the cloud counted them as duplicates, and it holds
        // each of them once. So this cloud detects duplicates.
        self.trust.dedups |= claim.is_some_and(|claim| {
            !claim.first_time && claim.duplicates > 0 && settled.found.len() as u64 >= claim.duplicates
        });
        if !settled.found.is_empty() {
            self.batch.sizing.found();
        }
        self.take_settled(now, settled);
        let asked_about = inquiry.first;
        let left = |work: &Work| work.fate(asked_about) == Some(Fate::Left);
        if self.batch.work.as_ref().is_some_and(|work| work.pressing() || (!pressing && left(work))) {
            if self.looks_elsewhere(now) {
                return;
            }
            if fresh && old && !whole {
                self.say_cannot_ask();
            }
            return self.ask_later(now);
        }
        if pressing {
            self.on_undoubted(now);
        }
    }

    fn take_settled(&mut self, now: Duration, settled: Settled) {
        let Settled { events, found, taken, left } = settled;
        self.records.extend(events);
        if !found.is_empty() {
            self.note_accepted(now, &found);
            self.on_progress();
            if let Some(work) = &mut self.batch.work {
                work.short_rounds = 0;
            }
        }
        let is_taken = |num: u64| taken.iter().any(|(taken, _)| *taken == num);
        for item in &left {
            if is_taken(item.num) {
                let released = self.batch.work.as_mut().and_then(|work| work.release_one(item.num));
                self.records.extend(released.map(|(_, event)| event));
                self.batch.suspects.forget(item.seq);
            } else {
                self.on_failed_for_certain(now, item);
            }
        }
        let Some((num, other)) = taken.last().cloned() else { return };
        self.on_other_writer(now, &format!("{other}, under number {num}"));
        let Some(work) = &mut self.batch.work else { return };
        if !left.is_empty() {
            return; // the question was about nothing else
        }
        if work.again {
            self.note_set_aside(taken.len() as u64, &format!("number {num} was taken by another sender"));
            return;
        }
        self.batch.renumbered_row = self.batch.renumbered_row.saturating_add(1);
        work.claim = None;
        work.taken = true;
    }

    /// The cloud counts duplicates that it does not show under their numbers. It may hold them
    /// under other numbers, so the machine asks by time, once for each claim.
    fn looks_elsewhere(&mut self, now: Duration) -> bool {
        let Some(work) = &self.batch.work else { return false };
        let counts = work.claim.is_some_and(|claim| claim.duplicates > 0);
        if !counts || work.looked_elsewhere || work.again || !self.may_ask(now) {
            return false;
        }
        let Some((from, to)) = work.times_in_doubt() else { return false };
        self.batch.question = Some(Question::new(Inquiry::by_time(&self.device, from, to), Why::Elsewhere));
        true
    }

    /// No doubt is left: the passings that are still open are not in the cloud.
    fn on_undoubted(&mut self, now: Duration) {
        let Some(work) = &mut self.batch.work else { return };
        let claim = work.claim.take();
        let failed = work.failed_alone.take();
        if work.closing || work.open() == 0 {
            return;
        }
        if std::mem::take(&mut work.taken) {
            // The passings get new numbers, above those of the other sender. This repeats only
            // slowly: after the second time in a row, the wait grows each time.
            if self.batch.renumbered_row > 2 {
                self.timers.hold = now + self.timers.post_retry.next(&mut self.rng, None);
            }
            return self.release();
        }
        if let Some((num, status, answer)) = failed
            && self.on_failed_alone(now, num, status, &answer)
        {
            return;
        }
        if let Some(claim) = claim {
            self.on_still_missing(now, claim);
        }
    }

    /// The cloud counted fewer passings than were sent, or counted duplicates, and it does not hold
    /// the rest.
    fn on_still_missing(&mut self, now: Duration, claim: Claim) {
        let Some(work) = &mut self.batch.work else { return };
        work.short_rounds += 1;
        let Claim { inserted, duplicates, sent, last, .. } = claim;
        self.timers.hold = now + self.timers.post_retry.next(&mut self.rng, None);
        let text = format!(
            "the cloud says that it inserted {inserted} of {sent} passings and knew {duplicates}, and does not show the \
             others (up to number {last}). They are kept and tried again"
        );
        self.problems.insert(ProblemCode::CloudTrouble, text.clone());
        if work.short_rounds < SHORT_ROUNDS || work.again {
            return;
        }
        if duplicates > 0 && work.short_rounds == SHORT_ROUNDS {
            // The cloud takes the numbers for those of other passings. Other numbers may be
            // accepted.
            self.batch.renumbered_row = self.batch.renumbered_row.saturating_add(3);
            return self.release();
        }
        if sent > 1 {
            let part = work.postable(false).map(|part| part.start..part.end.min(part.start + sent as usize));
            self.batch.suspects.take_apart(&part.map(|part| work.items(&part)).unwrap_or_default());
        } else {
            self.on_failed_alone(now, last, 200, &text);
        }
    }

    /// The cloud failed at a passing that was sent alone, and does not hold it. Returns true if the
    /// passing no longer holds up the others.
    fn on_failed_alone(&mut self, now: Duration, num: u64, status: u16, answer: &str) -> bool {
        let Some(work) = &mut self.batch.work else { return false };
        let Some(at) = work.place(num).filter(|_| work.fate(num) == Some(Fate::Absent) && !work.again) else {
            return false;
        };
        let Some(item) = work.items(&(at..at + 1)).pop() else { return false };
        if !self.batch.suspects.failed(now, &item, status, answer) {
            self.say_it_fails_at(&item, answer);
            self.timers.hold = self.timers.hold.max(now + self.timers.post_retry.next(&mut self.rng, None));
            return false;
        }
        self.on_failed_for_certain(now, &item);
        true
    }

    pub(super) fn say_it_fails_at(&mut self, item: &UploadItem, answer: &str) {
        let UploadItem { num, chip, .. } = item;
        let text = format!(
            "the cloud fails at the passing with number {num} (chip {chip}), sent alone: {answer}. It is kept and tried again; \
             the others go on"
        );
        self.problems.insert(ProblemCode::CloudTrouble, text);
    }

    /// The cloud failed at a passing that was sent alone, and does not hold it. The other passings
    /// do not wait for it.
    fn on_failed_for_certain(&mut self, now: Duration, item: &UploadItem) {
        let Some(work) = &mut self.batch.work else { return };
        match self.batch.suspects.absent(now, item) {
            Fallen::LeftOut => {
                self.records.extend(work.release_one(item.num).map(|(_, event)| event));
                self.timers.look.get_or_insert(now);
            }
            Fallen::Aside { status, answer } => {
                let answer =
                    format!("passbridge: the cloud fails at it, again and again, while it takes others: {answer}");
                let aside = work.place(item.num).and_then(|at| work.set_aside(at, status, &answer, true));
                self.records.extend(aside.map(|(_, event)| event));
                let text = format!("number {}, chip {}: {answer}. It is tried again every hour", item.num, item.chip);
                self.note_set_aside(1, &text);
            }
        }
        self.timers.post_retry.reset();
    }

    /// Returns how far above the highest known number the next number is. It is zero normally. It
    /// grows while another writer takes the numbers that we are about to use.
    pub(super) fn jump(&mut self) -> u64 {
        if self.batch.renumbered_row < 2 {
            return 0;
        }
        let most = (1u64 << self.batch.renumbered_row.min(10)).min(JUMP_MAX);
        self.rng.u64(1..=most)
    }
}
