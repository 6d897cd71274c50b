//! The door of the page: who may see, who may change something, and how one gets in.
//!
//! Must hold:
//! * **With a token, seeing needs it too.** A browser shows a cookie that it got for the token at
//!   `/login`, or for a token for one use at `/in/…` ([`crate::serve::invite`]). A program shows the
//!   token itself: `Authorization: Bearer TOKEN`. Without a token the page listens on this box only,
//!   everybody there may see, and nobody may change anything.
//! * **A change needs more than a cookie.** The browser must say that a page of this box sent the
//!   form ([`form::sent_by`]), and the form must carry the word of the login. So no other site can
//!   change anything through the browser of somebody who is logged in.
//! * **A link logs nobody in.** Programs that show a preview of a link follow it. So `/in/…` only
//!   shows a button, and the button uses the token.
//! * **Guessing is slow** ([`tries`]), and it keeps nobody out who is in.
//! * While the file of the token cannot be read, nobody is let in.
//!
//! Rejected: *a cookie that holds the token, or is signed with it* (whoever reads one cookie has all
//! of them for ever, and one login cannot be ended); *logins on the card* (what is on the card lets
//! a thief in); *HTTP authentication* (a browser sends it with requests of other sites, and never
//! forgets it).

pub(crate) mod form;
mod logins;
pub(crate) mod pages;
mod tries;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Uri;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use futures_util::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::time::Instant;

use self::form::{FormFields, SentBy, sent_by};
use self::logins::Logins;
pub(crate) use self::logins::{How, LIFE, Login, OutcomeLine};
use self::tries::Tries;
use super::peer::Peer;
use crate::config::same;
use crate::serve::invite::Invites;
use crate::serve::random::same_word;

/// The name of the cookie.
const COOKIE: &str = "passbridge";

/// Who is shown more than that the process lives.
#[derive(Clone, Debug)]
pub(crate) enum Audience {
    /// Everybody who asks for this box; the address is loopback.
    Open,
    /// Who shows the token.
    Token(Arc<SecretString>),
    /// Nobody: the token cannot be read.
    Locked,
}

/// What lets somebody see, as long as it counts.
enum Pass {
    /// There is no token.
    Open,
    /// The cookie of a login.
    Cookie(Box<str>),
    /// The token, shown by a program.
    Token(Arc<SecretString>),
}

/// What somebody may do.
#[derive(Clone, Debug)]
pub(crate) enum May {
    /// Only log in.
    Enter,
    /// See. There is no token, so that nobody can show one.
    See,
    /// See and change. A browser has a login, and a program shows the token.
    Change(Option<Arc<Login>>),
}

/// Who sent a request. Each request has it among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// Where the request comes from.
    pub peer: Peer,
    /// What its sender may do.
    pub may: May,
    /// The browser shows a cookie that does not count any more.
    pub was_in: bool,
}

impl Visitor {
    /// The login of a browser.
    pub(crate) fn login(&self) -> Option<&Arc<Login>> {
        match &self.may {
            May::Change(login) => login.as_ref(),
            May::Enter | May::See => None,
        }
    }
}

/// Why nobody was logged in.
#[derive(Debug)]
enum NoEntry {
    /// There is no token, so there is no login.
    NoToken,
    /// The machine has to wait for this long.
    Wait(Duration),
    /// The token is wrong. So many tries are left.
    Wrong(u32),
    /// The token for one use is used, too old, or unknown.
    NotInvited,
    /// The kernel gives no random bytes.
    Random(io::Error),
}

/// Why a form was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormRefusal {
    /// Nobody is logged in.
    NotIn,
    /// There is no token, so nobody can log in.
    NoToken,
    /// The form was not made for this login, or another page sent it.
    NotOurForm,
}

struct Inside {
    access: watch::Receiver<Audience>,
    invites: Invites,
    name: String,
    logins: Mutex<Logins>,
    tries: Mutex<Tries>,
}

/// The door of one page. Clones are the same door.
#[derive(Clone)]
pub(crate) struct Door(Arc<Inside>);

impl Door {
    /// The door of the box `name`, at which nobody is logged in.
    pub(crate) fn new(name: &str, access: watch::Receiver<Audience>, invites: Invites) -> Self {
        let (logins, tries) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inside { access, invites, name: name.to_owned(), logins, tries }))
    }

    /// The name of the box.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    fn token(&self) -> Option<Arc<SecretString>> {
        match &*self.0.access.borrow() {
            Audience::Token(token) => Some(Arc::clone(token)),
            Audience::Open | Audience::Locked => None,
        }
    }

    fn logins(&self) -> MutexGuard<'_, Logins> {
        self.0.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.0.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the sender of a request may do. `Err`: it has to wait for this long, because wrong
    /// tokens came from there.
    fn may(&self, headers: &HeaderMap, peer: Peer, now: Instant) -> Result<(May, bool), Duration> {
        let Some(token) = self.token() else { return Ok((May::See, false)) };
        let mut was_in = false;
        for id in cookies(headers) {
            was_in = true;
            if let Some(login) = self.logins().get(id, &token, now) {
                return Ok((May::Change(Some(login)), false));
            }
        }
        let Some(shown) = bearer(headers) else { return Ok((May::Enter, was_in)) };
        match self.judge(shown, &token, peer, now, false) {
            Ok(()) => Ok((May::Change(None), false)),
            Err(NoEntry::Wait(rest)) => Err(rest),
            Err(_) => Ok((May::Enter, false)),
        }
    }

    /// What lets the sender of a request see. `None`: nothing does.
    fn pass(&self, headers: &HeaderMap, may: &May) -> Option<Pass> {
        match (may, self.token()) {
            (May::Enter, _) => None,
            (May::See, _) => Some(Pass::Open),
            (May::Change(Some(_)), Some(token)) => {
                let now = Instant::now();
                let id = cookies(headers).find(|id| self.logins().get(id, &token, now).is_some())?;
                Some(Pass::Cookie(id.into()))
            }
            (May::Change(_), token) => token.map(Pass::Token),
        }
    }

    /// Whether it still lets somebody see.
    fn counts(&self, pass: &Pass) -> bool {
        match (pass, self.token()) {
            (Pass::Open, None) => matches!(*self.0.access.borrow(), Audience::Open),
            (Pass::Cookie(id), Some(token)) => self.logins().get(id, &token, Instant::now()).is_some(),
            (Pass::Token(before), Some(token)) => same(&token, before.expose_secret().as_bytes()),
            (Pass::Open, Some(_)) | (Pass::Cookie(_) | Pass::Token(_), None) => false,
        }
    }

    /// Ends a stream of events when what let its client see does not count any more: after a logout, with
    /// a new token, or when the token cannot be read. Nothing is sent after that.
    fn while_it_counts(&self, pass: Option<Pass>, response: Response) -> Response {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let (true, Some(pass)) = (kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")), pass)
        else {
            return response;
        };
        let door = self.clone();
        response.map(|body| {
            let counts = move |_: &_| std::future::ready(door.counts(&pass));
            Body::from_stream(body.into_data_stream().take_while(counts))
        })
    }

    /// Compares a token that somebody shows.
    fn judge(
        &self,
        shown: &[u8],
        token: &SecretString,
        peer: Peer,
        now: Instant,
        forgive: bool,
    ) -> Result<(), NoEntry> {
        let machine = peer.machine();
        let mut tries = self.tries();
        if let Some(rest) = tries.wait(machine, now) {
            return Err(NoEntry::Wait(rest));
        }
        if same(token, shown) {
            tries.right(machine, forgive);
            return Ok(());
        }
        let left = tries.wrong(machine, now);
        tracing::warn!("the page was shown a wrong token from {}; {left} tries are left there", peer.0);
        Err(NoEntry::Wrong(left))
    }

    /// Logs somebody in who shows the token. Returns the word for the cookie.
    fn enter(&self, shown: &str, peer: Peer, now: Instant) -> Result<Box<str>, NoEntry> {
        let token = self.token().ok_or(NoEntry::NoToken)?;
        self.judge(shown.as_bytes(), &token, peer, now, true)?;
        self.begin(&token, peer, now)
    }

    /// Logs somebody in who shows a token for one use, which is used by that.
    fn enter_invited(&self, shown: &str, peer: Peer, now: Instant) -> Result<Box<str>, NoEntry> {
        let token = self.token().ok_or(NoEntry::NoToken)?;
        if !self.0.invites.take(shown, now) {
            return Err(NoEntry::NotInvited);
        }
        self.tries().right(peer.machine(), true);
        self.begin(&token, peer, now)
    }

    fn begin(&self, token: &Arc<SecretString>, peer: Peer, now: Instant) -> Result<Box<str>, NoEntry> {
        let id = self.logins().begin(token, now).map_err(NoEntry::Random)?;
        tracing::info!("somebody logged in to the page from {}", peer.0);
        Ok(id)
    }

    /// Ends the login of a browser.
    fn leave(&self, headers: &HeaderMap) {
        for id in cookies(headers) {
            self.logins().end(id);
        }
    }
}

/// Judges whether a form may change something.
///
/// # Errors
/// Why not.
pub(crate) fn may_change(
    visitor: &Visitor,
    headers: &HeaderMap,
    uri: &Uri,
    form: &FormFields,
) -> Result<(), FormRefusal> {
    let by = sent_by(headers, uri);
    match &visitor.may {
        May::Enter => Err(FormRefusal::NotIn),
        May::See => Err(FormRefusal::NoToken),
        May::Change(Some(login)) if by == SentBy::ThisBox && same_word(&login.csrf, form.get("csrf")) => Ok(()),
        // Nothing but the program itself adds the token to its request.
        May::Change(None) if by != SentBy::AnotherPage => Ok(()),
        May::Change(_) => Err(FormRefusal::NotOurForm),
    }
}

/// The words of every cookie of ours that a request shows.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, id)| id)
}

/// The token that a request shows in its header.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let given = headers.get(header::AUTHORIZATION)?.as_bytes();
    match given.split_at_checked(7) {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(shown.trim_ascii()),
        // Another scheme, or none: it is a wrong try.
        _ => Some(b""),
    }
}

/// Finds out who sent a request, and refuses everybody while the token cannot be read.
pub(crate) async fn identify(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    if matches!(*door.0.access.borrow(), Audience::Locked) {
        let what = "the box cannot read the file of the token (status.token_file), so it shows nothing until it can\n";
        return (StatusCode::SERVICE_UNAVAILABLE, what).into_response();
    }
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer(std::net::Ipv6Addr::UNSPECIFIED.into()));
    match door.may(request.headers(), peer, Instant::now()) {
        Ok((may, was_in)) => {
            let pass = door.pass(request.headers(), &may);
            request.extensions_mut().insert(Visitor { peer, may, was_in });
            door.while_it_counts(pass, next.run(request).await)
        }
        Err(rest) => (StatusCode::TOO_MANY_REQUESTS, retry_after(rest), wait_text(rest) + "\n").into_response(),
    }
}

/// Lets only those on who may see. A person is led to the login.
pub(crate) async fn must_see(request: Request, next: Next) -> Response {
    let seen = request.extensions().get::<Visitor>().is_some_and(|visitor| !matches!(visitor.may, May::Enter));
    if seen {
        return next.run(request).await;
    }
    not_in(request.method(), request.headers(), request.uri())
}

/// The answer to somebody who is not logged in.
pub(crate) fn not_in(method: &Method, headers: &HeaderMap, uri: &Uri) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    if *method == Method::GET && accepted.is_some_and(|accepted| accepted.contains("text/html")) {
        let to: String = url::form_urlencoded::byte_serialize(uri.path().as_bytes()).collect();
        return Redirect::to(&format!("/login?next={to}")).into_response();
    }
    let how = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    let what = match *method == Method::GET {
        true => "show the token: Authorization: Bearer TOKEN, or log in at /login\n",
        false => {
            "Nothing was changed: the login is over, or there was none. Go back, open /login, log in, and do it again. \
             A program shows the token: Authorization: Bearer TOKEN\n"
        }
    };
    (StatusCode::UNAUTHORIZED, how, what).into_response()
}

fn retry_after(rest: Duration) -> [(header::HeaderName, HeaderValue); 1] {
    [(header::RETRY_AFTER, HeaderValue::from(rest.as_secs() + 1))]
}

/// What somebody reads who has to wait.
fn wait_text(rest: Duration) -> String {
    format!("Too many wrong tokens. Wait {} s, then try again.", rest.as_secs() + 1)
}
