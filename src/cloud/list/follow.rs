//! New passings of a device, as the cloud gets them.
//!
//! What must hold:
//! * **Each passing once, and of every session of the device from the beginning on.** The place is the
//!   session and the number that was seen last. What comes below it again is not shown again.
//! * **A newer session is found** whether the cloud goes to it by itself, as its continuing pull
//!   should, or not: if nothing new is there, the active session is asked for from time to time.
//! * **The pull is not needed.** A cloud without it, or one whose pull repeats passings or goes back to
//!   a session that is over, is asked by number. That is said once.
//!
//! Limit: a passing that is stored below a number that was seen already is not shown, because the
//! pull has no way to tell. The box does that only when a repair sends a passing again.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{FullPages, ListError, Listing};
use crate::cloud::pages::patiently;
use crate::cloud::rufus::account::PullFrom;
use crate::cloud::rufus::{CallError, Client, FullPassing, Pulled, Scope, Session};

/// Most pulls of one poll.
const PULLS: u32 = 50;
/// A pull with fewer passings than this has shown everything, unless it says otherwise.
const FEW: usize = 100;
/// Sessions that were left and are remembered.
const LEFT: usize = 64;
/// The first step back from the number of passings, in search of the highest number.
const STEP: u64 = 100;

/// The cloud, or its imitation in a test.
pub(crate) trait Source: FullPages {
    /// Like [`Client::active_session`].
    fn active(&self, device: &str) -> impl Future<Output = Result<Option<Session>, CallError>> + Send;
    /// Like [`Client::pull`].
    fn pulled(&self, device: &str, from: &PullFrom) -> impl Future<Output = Result<Pulled, CallError>> + Send;
}

impl Source for Client {
    async fn active(&self, device: &str) -> Result<Option<Session>, CallError> {
        patiently(Duration::ZERO, || self.active_session(device)).await
    }

    async fn pulled(&self, device: &str, from: &PullFrom) -> Result<Pulled, CallError> {
        self.pull(device, from).await
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The passings of this session follow.
    Session {
        /// `token_session`
        token: Box<str>,
        /// Name of the session, if the cloud told one.
        alias: Option<Box<str>>,
    },
    /// No session is active.
    NoSession,
    /// New passings of the session, in the order of their numbers.
    Passings(Vec<FullPassing>),
    /// The continuing pull cannot be used, for this reason. From now on the cloud is asked by number.
    ByNumber(&'static str),
}

/// The place that was reached.
#[derive(Clone, Debug)]
struct Place {
    token: Box<str>,
    /// The next number that was not seen.
    next: u64,
}

/// Follows a device.
pub(crate) struct Follower<'a, S> {
    source: &'a S,
    device: String,
    /// Only passings from this time on. UTC milliseconds since 1970.
    from: Option<i64>,
    at: Option<Place>,
    left: VecDeque<Box<str>>, // at most LEFT
    /// The cloud is asked by number, for this reason.
    by_number: Option<&'static str>,
    told_why: bool,
    /// The cloud has answered the pull.
    pulls: bool,
    told_none: bool,
    /// How often the active session is asked for.
    look: Duration,
    looked: Instant,
}

impl<'a, S: Source> Follower<'a, S> {
    /// Begins now, or at `from` (UTC milliseconds since 1970) in the active session. While nothing
    /// new comes, the active session is asked for every `look`.
    ///
    /// # Errors
    /// The cloud does not answer, or refuses.
    pub(crate) async fn begin(
        source: &'a S,
        device: &str,
        from: Option<i64>,
        look: Duration,
    ) -> Result<(Self, Vec<Followed>), ListError> {
        let mut follower = Self {
            source,
            device: device.to_owned(),
            from,
            at: None,
            left: VecDeque::new(),
            by_number: None,
            told_why: false,
            pulls: false,
            told_none: false,
            look,
            looked: Instant::now(),
        };
        let mut news = Vec::new();
        match source.active(device).await? {
            None => follower.none(&mut news),
            Some(Session { token, alias, passings }) => {
                let next = match from {
                    Some(_) => 0,
                    None => after_all(source, &token, passings.unwrap_or(0)).await?,
                };
                news.push(Followed::Session { token: token.clone(), alias });
                follower.at = Some(Place { token, next });
            }
        }
        Ok((follower, news))
    }

    /// Asks once for what is new. What it returns before an error is lost to nobody: the next poll
    /// returns it again.
    ///
    /// # Errors
    /// The cloud does not answer, or refuses.
    pub(crate) async fn poll(&mut self) -> Result<Vec<Followed>, ListError> {
        let mut news = Vec::new();
        let mut reached = self.at.clone();
        let mut gone = reached.is_none();
        if let Some(at) = &mut reached {
            gone = match self.more(at, &mut news).await {
                // The session was deleted.
                Err(ListError::Cloud(CallError::SessionGone { .. })) => true,
                other => other.map(|()| false)?,
            };
        }
        let is_quiet = !news.iter().any(|news| matches!(news, Followed::Passings(_) | Followed::Session { .. }));
        if gone || (is_quiet && self.looked.elapsed() >= self.look) {
            self.turn(&mut reached, gone, &mut news).await?;
        }
        if let (Some(before), Some(at)) = (&self.at, &reached)
            && before.token != at.token
        {
            self.left.push_back(before.token.clone());
            if self.left.len() > LEFT {
                self.left.pop_front();
            }
        }
        self.at = reached;
        if let (Some(why), false) = (self.by_number, self.told_why) {
            self.told_why = true;
            news.insert(0, Followed::ByNumber(why));
        }
        Ok(news)
    }

    async fn more(&mut self, at: &mut Place, news: &mut Vec<Followed>) -> Result<(), ListError> {
        if self.by_number.is_none() {
            self.pull(at, news).await?;
        }
        if self.by_number.is_some() {
            self.ask(at, news).await?;
        }
        Ok(())
    }

    /// The continuing pull, until nothing more waits.
    async fn pull(&mut self, at: &mut Place, news: &mut Vec<Followed>) -> Result<(), ListError> {
        for _ in 0..PULLS {
            // Of a session that just began, everything is after 0, because numbers begin at 1.
            let after = Some((at.token.clone(), at.next.saturating_sub(1)));
            let pulled = match self.source.pulled(&self.device, &PullFrom { after, from: self.from }).await {
                Ok(pulled) => pulled,
                // A cloud that does not know the path says so in one of these ways.
                Err(CallError::SessionGone { .. } | CallError::BadRequest { .. }) => {
                    self.by_number = Some("this cloud does not know the continuing pull");
                    return Ok(());
                }
                Err(CallError::KeyRefused { .. }) if !self.pulls => {
                    self.by_number = Some("this cloud refuses the continuing pull");
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            self.pulls = true;
            let used = pulled.session.or_else(|| pulled.passings.first()?.token_session.clone());
            let mut rows = pulled.passings;
            rows.sort_by_key(|row| row.num_passing);
            if let Some(token) = used.filter(|token| !token.eq_ignore_ascii_case(&at.token)) {
                if self.left.iter().any(|left| left.eq_ignore_ascii_case(&token)) {
                    self.by_number = Some("its continuing pull went back to a session that is over");
                    return Ok(());
                }
                news.push(Followed::Session { token: token.clone(), alias: pulled.label });
                *at = Place { token, next: 0 };
            }
            // The passing after which the cloud was asked to go on may be among them.
            if rows.iter().filter_map(|row| row.num_passing).any(|num| num + 1 < at.next) {
                self.by_number = Some("its continuing pull repeats passings");
                return Ok(());
            }
            let seen = rows.len();
            if !self.take(rows, at, news) || pulled.more == Some(false) || (pulled.more.is_none() && seen < FEW) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Asks for the numbers that were not seen.
    async fn ask(&mut self, at: &mut Place, news: &mut Vec<Followed>) -> Result<(), ListError> {
        let scope = Scope::Numbers { token: at.token.clone(), first: at.next, last: None };
        let mut list = Listing::new(self.source, scope).expecting_few();
        while let Some(rows) = list.next().await? {
            self.take(rows, at, news);
        }
        Ok(())
    }

    /// Takes what is new among passings in the order of their numbers. `true`: something is.
    fn take(&self, mut rows: Vec<FullPassing>, at: &mut Place, news: &mut Vec<Followed>) -> bool {
        rows.retain(|row| row.num_passing.is_some_and(|num| num >= at.next));
        let Some(last) = rows.iter().filter_map(|row| row.num_passing).max() else { return false };
        at.next = last + 1;
        rows.retain(|row| self.from.is_none_or(|from| row.time_ms.is_none_or(|time| time >= from)));
        if !rows.is_empty() {
            news.push(Followed::Passings(rows));
        }
        true
    }

    /// Goes to the active session, if it is another one. `gone`: the one before cannot be asked any
    /// more.
    async fn turn(&mut self, at: &mut Option<Place>, gone: bool, news: &mut Vec<Followed>) -> Result<(), ListError> {
        self.looked = Instant::now();
        let Some(Session { token, alias, .. }) = self.source.active(&self.device).await? else {
            self.none(news);
            return Ok(());
        };
        self.told_none = false;
        if at.as_ref().is_some_and(|at| at.token.eq_ignore_ascii_case(&token)) || self.left.contains(&token) {
            return Ok(());
        }
        if let Some(before) = at.as_mut().filter(|_| !gone) {
            self.ask(before, news).await?; // the last passings of the session before
        }
        news.push(Followed::Session { token: token.clone(), alias });
        *at = Some(Place { token, next: 0 });
        Ok(())
    }

    fn none(&mut self, news: &mut Vec<Followed>) {
        if !std::mem::replace(&mut self.told_none, true) {
            news.push(Followed::NoSession);
        }
    }
}

/// The number after the highest one of a session. `count` is how many passings the cloud says that
/// it has: usually that is its highest number.
async fn after_all(source: &impl FullPages, token: &str, count: u64) -> Result<u64, ListError> {
    let (mut first, mut step) = (count.saturating_add(1), STEP);
    loop {
        let scope = Scope::Numbers { token: token.into(), first, last: None };
        let mut list = Listing::new(source, scope).expecting_few();
        let mut highest = None;
        while let Some(rows) = list.next().await? {
            highest = highest.max(rows.iter().filter_map(|row| row.num_passing).max());
        }
        match highest {
            Some(highest) => return Ok(highest + 1),
            None if first == 0 => return Ok(0),
            None => first = first.saturating_sub(step),
        }
        step = step.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests;
