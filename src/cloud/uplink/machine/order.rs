//! A session that somebody opens or closes by hand, while the uplink runs.
//!
//! What must hold:
//! * **The old session first.** What waits at the moment of the order goes into the session that is
//!   active, as long as the cloud takes it, for at most [`SETTLE_TIME`]. Batches are formed up to the
//!   read of that moment and no further, and nothing is offered to the journal. What arrives later
//!   waits for the next session.
//! * **One call at a time.** The machine makes the call itself, so no POST of passings is in flight
//!   beside it. What may be in the old session is asked about there, as whenever a session closes.
//! * **Never opened twice.** After an unknown outcome the machine asks which session is active, and
//!   reports what it sees. It does not send the request again.
//! * **Only what somebody agreed to ends.** The cloud is asked immediately before the call. If another
//!   session is active by then than the one that was shown, the order fails ([`Outcome::Other`]).
//! * **Withdrawn until the call.** Whoever gave the order may leave. Before the call the order is then
//!   forgotten. After the call it is carried out to its end.
//! * **A refusal belongs to the order.** What the cloud answers to a call of the order, or to a question
//!   on its behalf, does not stop the upload.

use std::time::Duration;

use super::Machine;
use super::interface::Action;
use super::limits::{FIRST_LOOK, POLL_NONE, scaled};
use super::parts::{Active, Refused, Why};
use super::wanted::{Done, Ends, Order, Outcome, Stage, Wanted};
use crate::cloud::rufus::{CallError, Session};
use crate::cloud::uplink::work::Work;
use crate::model::chip::Seq;

/// How long what waits may take to go into the session that is active.
pub(in crate::cloud::uplink) const SETTLE_TIME: Duration = Duration::from_secs(10);
/// How long the cloud is asked for the active session before the call, if it does not answer.
const ASK_TIME: Duration = Duration::from_secs(10);
/// Time between two looks for the outcome of a call, and before the call is made again where that is
/// harmless.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a close is sent whose outcome is not known. A second one does no harm.
const CLOSES_MAX: u32 = 3;

impl Machine {
    /// Takes an order. The machine carries out one at a time.
    pub(super) fn on_order(&mut self, now: Duration, wanted: Wanted, through: Seq) {
        if self.order.is_some() {
            return; // the driver waits for the end of the last one
        }
        // Soon after the start nothing can be sent yet, because the cloud may not show yet what the
        // previous process sent.
        let until = now.max(self.trust.fresh.age()) + scaled(SETTLE_TIME, self.upload.retry_max);
        let stage = Stage::Settling { until };
        self.order = Some(Order { wanted, through, stage, drained: false, before: None, done: None });
        self.timers.look = Some(now);
    }

    /// Whoever gave the order is gone. Forgets it, if nothing was sent yet that could change anything.
    /// Returns false if there is no such order.
    pub(crate) fn withdraw_order(&mut self) -> bool {
        let harmless = |order: &mut Order| order.done.is_none() && order.is_harmless();
        let withdrawn = self.order.take_if(harmless).is_some();
        if withdrawn {
            self.timers.look.get_or_insert(Duration::ZERO); // reads behind its bound may wait
        }
        withdrawn
    }

    /// An order is being carried out.
    pub(crate) fn has_order(&self) -> bool {
        self.order.is_some()
    }

    /// Returns what became of the order, once.
    pub(crate) fn take_done(&mut self) -> Option<Done> {
        let Order { through, drained, done, .. } = self.order.take_if(|order| order.done.is_some())?;
        let outcome = done?;
        let left = |work: &Work| match &outcome {
            Outcome::Opened { session, .. } => session.token != work.token,
            Outcome::Closed { token } => *token == work.token,
            _ => false,
        };
        let on_their_way = self.batch.work.as_ref().filter(|work| left(work)).map_or(0, Work::open);
        self.timers.look.get_or_insert(Duration::ZERO);
        Some(Done { outcome, through, settled: drained, on_their_way })
    }

    /// Batches end at this read, because what was kept later belongs to the next session.
    pub(super) fn order_bound(&self) -> Option<Seq> {
        self.order.as_ref().filter(|order| order.is_settling()).map(|order| order.through)
    }

    /// Nothing that the order waits for is pending any more.
    pub(super) fn note_drained(&mut self) {
        if let Some(order) = self.order.as_mut().filter(|order| order.is_settling()) {
            order.drained = true;
        }
    }

    /// Until when the machine may wait while what waits goes up before an order.
    pub(super) fn settles_until(&self) -> Option<Duration> {
        match self.order.as_ref()?.stage {
            Stage::Settling { until } => Some(until),
            _ => None,
        }
    }

    /// The next action of an order. `None`: there is none, or the upload goes on first.
    pub(super) fn next_of_order(&mut self, now: Duration) -> Option<Action> {
        if self.order.as_ref().is_some_and(Order::is_settling) && self.may_go_on(now) {
            let until = now + scaled(ASK_TIME, self.upload.retry_max);
            let order = self.order.as_mut()?;
            order.stage = match order.wanted {
                Wanted::Open { .. } => Stage::Asking { at: now, until },
                Wanted::Close { .. } => Stage::Calling { at: now, times: 0, doubt: None },
            };
        }
        let order = self.order.as_ref().filter(|order| order.done.is_none())?;
        let (at, action) = match &order.stage {
            Stage::Settling { .. } => return None,
            Stage::Asking { at, .. } | Stage::Checking { at, .. } => (*at, Action::AskActive),
            Stage::Calling { at, .. } => (
                *at,
                match &order.wanted {
                    Wanted::Open { alias, .. } => Action::Create { alias: Some(alias.clone()) },
                    Wanted::Close { token } => Action::Close { token: token.clone() },
                },
            ),
        };
        Some(if now < at { Action::Wait { until: at, reads: false, offer: None } } else { action })
    }

    /// What waited is in the active session, or cannot go there, or its time is over.
    fn may_go_on(&self, now: Duration) -> bool {
        let Some(Order { wanted, drained, stage: Stage::Settling { until }, .. }) = &self.order else { return false };
        let other = match (&self.session.active, wanted) {
            (Active::None, _) => true,
            (Active::Some(session), Wanted::Close { token }) => session.token != *token,
            _ => false,
        };
        let settled = *drained && self.batch.work.as_ref().is_none_or(Work::is_left_behind);
        other || settled || self.trust.refused != Refused::No || now >= *until
    }

    /// The cloud answered which session is active, or did not answer.
    pub(super) fn on_active_answer(&mut self, now: Duration, answer: Result<Option<Session>, CallError>) {
        let for_order = self.order.as_ref().is_some_and(Order::asks);
        let answer = match answer {
            Ok(found) => {
                let found = self.without_closed(found);
                if !self.on_active(now, found.clone()) {
                    return self.ask_again_for_order(now);
                }
                Ok(found)
            }
            Err(error) if for_order => {
                self.heed(now, &error);
                Err(error)
            }
            Err(error) => {
                self.on_active_failed(now, &error);
                Err(error)
            }
        };
        self.on_active_for_order(now, answer);
    }

    /// Where the cloud asks for a wait, nothing is sent before.
    fn heed(&mut self, now: Duration, error: &CallError) {
        if let Some(wait) = error.retry_after() {
            self.timers.hold = self.timers.hold.max(now + wait);
        }
    }

    /// The cloud gave an old answer to a question on behalf of the order.
    fn ask_again_for_order(&mut self, now: Duration) {
        let pause = scaled(LOOK_EVERY, self.upload.retry_max);
        if let Some(Stage::Asking { at, .. } | Stage::Checking { at, .. }) =
            self.order.as_mut().map(|order| &mut order.stage)
        {
            *at = now + pause;
        }
    }

    /// Called after the machine itself has looked at the answer.
    fn on_active_for_order(&mut self, now: Duration, answer: Result<Option<Session>, CallError>) {
        let pause = scaled(LOOK_EVERY, self.upload.retry_max);
        let known = |token: &str| self.session.given.iter().any(|(known, _)| **known == *token);
        let Some(order) = &mut self.order else { return };
        match (&mut order.stage, answer) {
            (Stage::Asking { .. }, Ok(found)) => match (&order.wanted, found) {
                (Wanted::Open { ends, .. }, Some(found)) if !ends.allows(&found) => {
                    order.done = Some(Outcome::Other(found));
                }
                (_, found) => {
                    order.before = Some(found);
                    order.stage = Stage::Calling { at: now, times: 0, doubt: None };
                }
            },
            // The key may still be allowed to write. Whoever saw no session agreed to the end of
            // whichever is active.
            (Stage::Asking { .. }, Err(CallError::KeyRefused { .. }))
                if matches!(order.wanted, Wanted::Open { ends: Ends::Unseen, .. }) =>
            {
                order.stage = Stage::Calling { at: now, times: 0, doubt: None };
            }
            (Stage::Asking { at, until }, Err(error)) => {
                *at = now + error.retry_after().unwrap_or(pause);
                let refused = matches!(error, CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. });
                if *at >= *until || refused {
                    order.done = Some(Outcome::Failed(error));
                }
            }
            (Stage::Checking { error, at, until }, answer) => {
                *at = now + pause;
                let over = *at >= *until;
                let before = order.before.clone().flatten().map(|session| session.token);
                let new = |found: &Session| {
                    Some(&found.token) != before.as_ref() && !known(&found.token) && is_named(found, &order.wanted)
                };
                order.done = match answer {
                    Ok(Some(found)) if new(&found) => {
                        let before = order.before.clone().flatten();
                        Some(Outcome::Opened { session: found, before })
                    }
                    Ok(found) if over => Some(Outcome::Unknown { error: error.clone(), active: Some(found) }),
                    Err(_) if over => Some(Outcome::Unknown { error: error.clone(), active: None }),
                    _ => None,
                };
            }
            (Stage::Settling { .. } | Stage::Calling { .. }, _) => {}
        }
    }

    /// The answer to the request for a session that somebody ordered. `false`: nobody did.
    pub(super) fn on_created_for_order(&mut self, now: Duration, answer: &Result<Session, CallError>) -> bool {
        let believed = now + self.trust.fresh.age().max(scaled(LOOK_EVERY, self.upload.retry_max));
        let Some(order) = self.order.as_mut().filter(|order| matches!(order.stage, Stage::Calling { .. })) else {
            return false;
        };
        match answer {
            Ok(session) => {
                let before = order.before.clone().flatten();
                self.session.replaced = before.as_ref().map(|before| before.token.clone());
                order.done = Some(Outcome::Opened { session: session.clone(), before });
                self.leave_session();
                self.on_created(now, Ok(session.clone()));
            }
            Err(error) if error.certainly_not_applied() => order.done = Some(Outcome::Failed(error.clone())),
            // The key may not read, so nobody can look.
            Err(error) if order.before.is_none() => {
                order.done = Some(Outcome::Unknown { error: error.clone(), active: None });
            }
            Err(error) => {
                let at = now + FIRST_LOOK.min(self.upload.retry_max);
                order.stage = Stage::Checking { error: error.clone(), at, until: believed };
                self.session.none_row = 0; // the session may have been created
            }
        }
        if let Err(error) = answer {
            self.heed(now, error);
        }
        true
    }

    /// The answer to the request to close a session.
    pub(super) fn on_closed(&mut self, now: Duration, answer: Result<(), CallError>) {
        let pause = scaled(LOOK_EVERY, self.upload.retry_max);
        let Some(order) = &mut self.order else { return };
        let (Wanted::Close { token }, Stage::Calling { at, times, doubt }) = (&order.wanted, &mut order.stage) else {
            return;
        };
        let token = token.clone();
        *times += 1;
        let wait = answer.as_ref().err().and_then(CallError::retry_after);
        order.done = match answer {
            Ok(()) => Some(Outcome::Closed { token: token.clone() }),
            // A request before this one has closed it.
            Err(CallError::SessionGone { .. }) if doubt.is_some() => Some(Outcome::Closed { token: token.clone() }),
            Err(error) if error.certainly_not_applied() && doubt.is_none() => Some(Outcome::Failed(error)),
            Err(error) if *times >= CLOSES_MAX => Some(Outcome::Unknown { error, active: None }),
            Err(error) => {
                *at = now + wait.unwrap_or(pause);
                *doubt = Some(error);
                None
            }
        };
        self.timers.hold = self.timers.hold.max(wait.map_or(Duration::ZERO, |wait| now + wait));
        let closed = matches!(order.done, Some(Outcome::Closed { .. }));
        if closed {
            self.session.closed = Some(token.clone());
        }
        let active = matches!(&self.session.active, Active::Some(session) if session.token == token);
        if closed && active {
            self.leave_session();
            if self.batch.work.as_ref().is_some_and(|work| work.token == token) {
                self.close(now);
            }
            self.session.active = Active::None;
            (self.session.none_row, self.session.none_since) = (1, now);
            self.session.closed_by_hand = true;
            self.timers.poll_at = now + scaled(POLL_NONE, self.upload.retry_max);
        } else if order_failed(self.order.as_ref()) {
            self.timers.poll_at = now; // it may be closed
        }
    }

    /// Passings go to another session, or to none, from now on.
    fn leave_session(&mut self) {
        self.batch.question = self.batch.question.take().filter(|question| question.why != Why::Join);
        self.session.resolve = false;
        if let Some(joined) = &mut self.session.joined {
            joined.checked = false;
        }
    }
}

fn order_failed(order: Option<&Order>) -> bool {
    order.is_some_and(|order| matches!(order.done, Some(Outcome::Failed(_) | Outcome::Unknown { .. })))
}

/// The session has the name that was ordered, as far as the cloud tells names.
fn is_named(found: &Session, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Open { alias, .. } => found.alias.as_ref().is_none_or(|found| found == alias),
        Wanted::Close { .. } => false,
    }
}
