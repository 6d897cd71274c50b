//! Passings that an audit found missing are sent again under their old numbers, between two
//! batches.
//!
//! The cloud accepted these passings once, so they must not be renumbered. If they cannot be sent
//! any more (the session closed meanwhile, or another passing has the number), they are set aside
//! with the reason.

use std::time::Duration;

use super::Machine;
use super::interface::{ResendPermit, SessionProgress};
use super::parts::{Active, Refused};
use crate::cloud::uplink::work::Work;
use crate::journal::{Batch, UploadEvent, UploadItem};

impl Machine {
    /// Whether passings of this session can be sent again now.
    pub(crate) fn may_resend(&self, token: &str) -> ResendPermit {
        let active = match &self.session.active {
            Active::Unknown => return ResendPermit::Later,
            Active::None => return ResendPermit::Never("the session is closed: a closed session takes no passings"),
            Active::Some(session) => session,
        };
        if *active.token != *token {
            return ResendPermit::Never(
                "the session is not the device's active one any more: a closed session takes no passings",
            );
        }
        if self.trust.refused != Refused::No {
            return ResendPermit::Never("the cloud refuses the key or the device");
        }
        if self.trust.blind {
            return ResendPermit::Never(
                "the API key may not read, so the cloud cannot be asked before something is sent again",
            );
        }
        let joined = self.session.joined.as_ref().is_some_and(|joined| *joined.token == *token && joined.checked);
        let busy = self.batch.work.is_some() || self.batch.question.is_some() || !self.records.is_empty();
        if joined && !busy && !self.session.resolve && !self.has_order() {
            ResendPermit::Now
        } else {
            ResendPermit::Later
        }
    }

    /// Passings that are sent again are not settled yet.
    pub(crate) fn is_resending(&self) -> bool {
        self.batch.work.as_ref().is_some_and(|work| work.again)
    }

    /// Returns which session the machine follows.
    pub(crate) fn follows(&self) -> SessionProgress {
        let active = match &self.session.active {
            Active::Some(session) => Some(session.token.clone()),
            Active::Unknown | Active::None => None,
        };
        let known = self.session.active != Active::Unknown && !self.trust.blind && !self.session.resolve;
        SessionProgress {
            known,
            active,
            busy: self.batch.work.as_ref().map(|work| work.token.clone()),
            lag: self.trust.fresh.age(),
        }
    }

    pub(super) fn on_resend(&mut self, now: Duration, token: &str, items: Vec<UploadItem>) {
        if items.is_empty() || self.may_resend(token) != ResendPermit::Now {
            return;
        }
        self.trust.fresh.lost(&items);
        self.records.push_back(UploadEvent::Batch(Batch::resend(&self.device, token, items.clone())));
        self.batch.work = Some(Work::again(&self.device, token, items, now));
    }

    pub(super) fn give_up_again(&mut self, work: Work) {
        let answer = "passbridge: the cloud accepted this passing, an audit found it missing, and the session closed before \
                      it could be sent again";
        let events = work.set_all_aside(410, answer);
        self.note_set_aside(events.len() as u64, answer);
        self.records.extend(events);
    }
}
