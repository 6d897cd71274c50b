//! The RUFUS Cloud: wire types and calls. Retries are not part of it (see
//! [`crate::cloud::uplink`]).
//!
//! What must hold:
//! * A request carries documented fields only, and never an empty bib, because the published schema
//!   refuses a whole batch for one field too many. An answer is read leniently: there are two
//!   generations of envelopes, counts may be missing, and a 200 may hold an error text.
//! * Every failure answers the one question on which exactly-once depends: was the request
//!   *certainly not applied*, or may it have been applied? If that cannot be known, the result is
//!   [`CallError::Unknown`], never a guess.
//! * Redirects are never followed, because a captive portal would receive the key. Nothing below
//!   this module sends a request twice on its own.
//! * Every answer has a size limit. No error, no stored answer and no `Debug` contains the key.
//!
//! The calls of a timer, which the upload does not need, are in `account`. The module hides HTTP, TLS (`trust`), names (`names`) and JSON envelopes. In `answer`, functions
//! without sockets turn bytes into typed outcomes.
//!
//! Rejected: one struct for each documented schema (the documents describe two generations and omit
//! about half of the answers); deciding by the status code alone (a 200 can carry an error); the
//! library's own retry policy (it cannot know that a second insert may be a second passing).
//!
//! Source of the facts: the public API pages of RUFUS, both generations.

pub(crate) mod account;
mod answer;
mod names;
mod outcome;
mod trust;

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::sync::watch;
use url::Url;

use crate::config::KeyHeader;
use crate::model::clock::Wall;
use answer::Reply;
use names::Names;

#[cfg(test)]
pub use outcome::KeyFault;
pub(crate) use outcome::{
    Bound, CallError, CloudPassing, Device, FullPage, FullPassing, Inserted, Listed, NotSent, OutcomeDoubt, Page,
    Pulled, Scope, Session, SessionInfo,
};
pub(crate) use trust::Distrust;
use trust::causes;

/// Longest time for a connection: name, TCP and TLS. On a line of 64 kbit/s and 800 ms each way
/// they take 6 s, and a lost first packet adds 1 to 3 s. It is less if the whole call may take less
/// than twice this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// If the other side acknowledges nothing of what was sent for this long, the line is dead. The
/// pending request is then in doubt earlier than after the whole time for an answer.
const DEAD_AFTER: Duration = Duration::from_secs(20);
/// A question may take this many times the time for an answer while bytes keep arriving: a page of
/// 5000 passings is 1.5 MB, which takes 200 s at 64 kbit/s.
const PAGE_TIMES: u32 = 10;
/// An idle connection is closed earlier than a server usually closes it. A POST into a connection
/// that the server is just closing has an unknown outcome and costs a round of questions.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// Largest page of passings that is read, in bytes (5000 passings of about 300 bytes).
const PAGE_LIMIT: usize = 8 << 20;
/// Largest other answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 << 10;

/// Installs the TLS provider for the process. A second call does nothing. Call it once in `main`,
/// before [`Client::new`].
pub fn install_tls() {
    // An error means that a provider is already installed, which is the wanted state.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Settings of a client.
#[derive(Clone)]
pub struct ClientConfig {
    /// Base URL, `https://api.runonrufus.com/v0`.
    pub url: Url,
    /// The API key.
    pub key: SecretString,
    /// Header that carries the key.
    pub header: KeyHeader,
    /// Longest wait for a whole answer to an insert, and for the next byte of any other answer.
    pub timeout: Duration,
    /// Clock that is used to check the dates of certificates.
    pub clock: Wall,
}

/// Why no client could be made. The first two are faults of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No HTTP header can carry the key.
    #[error("the API key is empty or holds characters that no HTTP header can carry; copy it again from the cloud")]
    Key,
    /// No path can be added to the URL.
    #[error("`{0}` is no base URL; it looks like https://api.runonrufus.com/v0")]
    Url(Url),
    /// The TLS roots could not be loaded, or the HTTP client could not be built.
    #[error("the HTTP client could not be set up: {0}")]
    Setup(String),
}

/// A passing as it is sent: the documented fields that passbridge fills, and no others.
#[derive(Clone, Debug, Serialize)]
pub struct Passing<'a> {
    timestamp: String,
    num_passing: u64,
    bib: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    chip: &'a str,
}

impl<'a> Passing<'a> {
    /// A passing with the number `num` in its session, at `time_ms` (UTC milliseconds since 1970).
    /// An empty `bib` is replaced by the chip code: the schema allows an empty bib, but a check for
    /// missing fields may refuse it.
    pub fn new(num: u64, time_ms: i64, bib: &'a str, chip: &'a str) -> Self {
        let bib = if bib.is_empty() { chip } else { bib };
        Self { timestamp: wire_time(time_ms), num_passing: num, bib, chip }
    }
}

/// Writes UTC milliseconds since 1970 as the cloud reads them. A time outside the range that can be
/// written becomes its first or last instant.
fn wire_time(time_ms: i64) -> String {
    let time =
        Timestamp::from_millisecond(time_ms).unwrap_or(if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX });
    format!("{time:.3}")
}

#[derive(Serialize)]
struct InsertRequest<'a> {
    token_session: &'a str,
    passings_list: &'a [Passing<'a>],
}

#[derive(Serialize)]
struct CreateRequest<'a> {
    deviceid: &'a str,
    alias: &'a str,
}

/// The key, and how requests carry it. It can be replaced while requests are under way.
struct Key {
    header: KeyHeader,
    /// `None`: there is no key yet, and nothing is sent.
    now: RwLock<Option<(SecretString, HeaderMap)>>,
    /// Counts how often the key was replaced.
    changed: watch::Sender<u64>,
}

impl Key {
    fn new(key: SecretString, header: KeyHeader) -> Result<Self, ClientError> {
        let headers = headers(&key, header)?;
        Ok(Self { header, now: RwLock::new(Some((key, headers))), changed: watch::Sender::default() })
    }

    fn missing(header: KeyHeader) -> Self {
        Self { header, now: RwLock::default(), changed: watch::Sender::default() }
    }

    fn set(&self, key: SecretString) -> Result<(), ClientError> {
        let headers = headers(&key, self.header)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some((key, headers));
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    fn get(&self) -> Option<(SecretString, HeaderMap)> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns the headers that carry a key, marked as sensitive so that no code prints them.
fn headers(key: &SecretString, header: KeyHeader) -> Result<HeaderMap, ClientError> {
    let exposed = key.expose_secret();
    let mut value = HeaderValue::from_str(exposed).map_err(|_| ClientError::Key)?;
    if exposed.is_empty() {
        return Err(ClientError::Key);
    }
    value.set_sensitive(true);
    let names: &[&'static str] = match header {
        KeyHeader::XApiKey => &["x-api-key"],
        KeyHeader::ApiKey => &["api_key"],
        KeyHeader::Both => &["x-api-key", "api_key"],
    };
    Ok(names.iter().map(|name| (HeaderName::from_static(name), value.clone())).collect())
}

/// The cloud as one key can see it. Clones share the connections and the key.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    names: Names,
    base: Url,
    key: Arc<Key>,
    /// Longest wait for a whole answer to a question.
    page_limit: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// Sets up a client and sends nothing. Call [`install_tls`] first.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        Self::trusting(config, Vec::new())
    }

    /// Like [`Client::new`], before there is a key: the key of `config` is not looked at, and
    /// nothing is sent until [`Client::set_key`] gives one.
    pub fn waiting_for_key(config: ClientConfig) -> Result<Self, ClientError> {
        let key = Key::missing(config.header);
        Self::with(config, key, Vec::new())
    }

    /// Like [`Client::new`], with root certificates in addition to those of the system.
    fn trusting(config: ClientConfig, roots: Vec<CertificateDer<'static>>) -> Result<Self, ClientError> {
        let key = Key::new(config.key.clone(), config.header)?;
        Self::with(config, key, roots)
    }

    fn with(config: ClientConfig, key: Key, roots: Vec<CertificateDer<'static>>) -> Result<Self, ClientError> {
        let key = Arc::new(key);
        if config.url.cannot_be_a_base() {
            return Err(ClientError::Url(config.url));
        }
        let tls = trust::tls(config.clock, roots).map_err(|error| ClientError::Setup(error.to_string()))?;
        // This is shorter than the time for a call, so if the call times out here, nothing was
        // sent.
        let connect = CONNECT_TIMEOUT.min(config.timeout / 2);
        let names = Names::new(connect / 2);
        let http = http(tls, names.clone(), connect, config.timeout)?;
        Ok(Self { http, names, base: config.url, key, page_limit: config.timeout * PAGE_TIMES })
    }

    /// `GET /sessions/device/{device}/active`: the active session. `None` when there is none.
    pub async fn active_session(&self, device: &str) -> Result<Option<Session>, CallError> {
        self.get(&["sessions", "device", device, "active"], &[], ANSWER_LIMIT, answer::active).await
    }

    /// `GET /sessions/{token}`: that session. `None` when the cloud itself says that it has no such
    /// session.
    pub async fn session(&self, token: &str) -> Result<Option<Session>, CallError> {
        self.get(&["sessions", token], &[], ANSWER_LIMIT, |reply| answer::session(reply, token)).await
    }

    /// `GET /devices/{device}`
    pub async fn device(&self, device: &str) -> Result<Device, CallError> {
        self.get(&["devices", device], &[], ANSWER_LIMIT, answer::account::device).await
    }

    /// `POST /sessions`: creates a session that is active at once. It closes any other active
    /// session of the device.
    pub async fn create_session(&self, device: &str, alias: &str) -> Result<Session, CallError> {
        let request = CreateRequest { deviceid: device, alias };
        self.post("sessions", &request, |reply| answer::created(reply, alias)).await
    }

    /// `POST /passings`
    pub async fn insert(&self, token: &str, passings: &[Passing<'_>]) -> Result<Inserted, CallError> {
        let request = InsertRequest { token_session: token, passings_list: passings };
        self.post("passings", &request, |reply| answer::inserted(reply, token, passings.len())).await
    }

    /// `GET /passings/session/{token}?first&last&page`: what a session holds, by number. Like
    /// [`Client::stored`].
    pub async fn held(&self, token: &str, first: u64, last: Option<u64>, page: u32) -> Result<Page, CallError> {
        self.stored(&Scope::Numbers { token: token.into(), first, last }, page).await
    }

    /// `GET /passings/session/{token}?first&last&page` or `GET
    /// /passings/device/{device}?from&to&page`: what the cloud holds. `page` counts from 1. A
    /// server may ignore any of the parameters, so the caller filters the answer and limits the
    /// pages.
    pub async fn stored(&self, scope: &Scope, page: u32) -> Result<Page, CallError> {
        let (path, query) = scope_query(scope, page);
        self.get(&path, &query, PAGE_LIMIT, answer::held).await
    }

    /// Uses another key for all calls from now on, in every clone.
    ///
    /// # Errors
    /// No HTTP header can carry the new key. The old key stays in use.
    pub fn set_key(&self, key: SecretString) -> Result<(), ClientError> {
        self.key.set(key)
    }

    /// Waits until there is a key.
    pub async fn has_key(&self) {
        let mut changes = self.key_changes();
        while self.key.get().is_none() {
            if changes.changed().await.is_err() {
                return std::future::pending().await; // the sender lives in `self.key`
            }
        }
    }

    /// Changes each time the key is replaced.
    pub fn key_changes(&self) -> watch::Receiver<u64> {
        self.key.changed.subscribe()
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path); // escapes characters that a path cannot hold
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn get<T>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        limit: usize,
        read: impl FnOnce(&Reply<'_>) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.call(self.http.get(self.url(path, query)).timeout(self.page_limit), limit, read).await
    }

    async fn post<T>(
        &self,
        path: &str,
        request: &impl Serialize,
        read: impl FnOnce(&Reply<'_>) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.call(self.http.post(self.url(&[path], &[])).json(request), ANSWER_LIMIT, read).await
    }

    fn failed(&self, error: &reqwest::Error) -> CallError {
        let failed = transport(error);
        if matches!(failed, CallError::Unknown { why: OutcomeDoubt::Timeout, .. } | CallError::NotSent(NotSent::Slow)) {
            self.names.turn();
        }
        failed
    }

    async fn call<T>(
        &self,
        request: reqwest::RequestBuilder,
        limit: usize,
        read: impl FnOnce(&Reply<'_>) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let Some((key, headers)) = self.key.get() else {
            return Err(CallError::NotSent(NotSent::Build("there is no API key yet".to_owned())));
        };
        let mut response = request.headers(headers).send().await.map_err(|error| self.failed(&error))?;
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        // If the length is known, reserve it at once, because a buffer that doubles leaves holes in
        // memory.
        let length = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut body = Vec::with_capacity(length.min(limit));
        let broken = loop {
            match response.chunk().await {
                Ok(None) => break None,
                Ok(Some(chunk)) if body.len() + chunk.len() > limit => {
                    break Some(CallError::Unknown {
                        why: OutcomeDoubt::Unreadable(format!("longer than {limit} bytes").into()),
                        retry_after: None,
                    });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) => break Some(self.failed(&error)),
            }
        };
        match broken {
            // The status of a refusal is enough, and a server may cut the connection after a 413.
            Some(error) if status < 300 => return Err(error),
            _ => {}
        }
        let body = scrub(body, key.expose_secret());
        read(&Reply { status, headers: &headers, body: &body })
    }
}

/// An HTTP client without redirects and without repeats of its own.
fn http(
    tls: rustls::ClientConfig,
    names: Names,
    connect: Duration,
    timeout: Duration,
) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(names)
        .user_agent(concat!("passbridge/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(connect)
        .timeout(timeout)
        .read_timeout(timeout)
        .tcp_user_timeout(DEAD_AFTER)
        .pool_idle_timeout(POOL_IDLE)
        .referer(false)
        .build()
        .map_err(|error| ClientError::Setup(innermost(&error)))
}

/// A client for another server than the cloud, which is trusted for the same reasons: the roots of
/// the system, and dates by the clock of the box. It has no key, so it cannot send one. Call
/// [`install_tls`] first.
///
/// # Errors
/// The HTTP client could not be built.
pub(crate) fn keyless_http(clock: Wall, timeout: Duration) -> Result<reqwest::Client, ClientError> {
    let tls = trust::tls(clock, Vec::new()).map_err(|error| ClientError::Setup(error.to_string()))?;
    http(tls, Names::new(timeout / 2), timeout / 2, timeout)
}

/// Why a request of [`keyless_http`] failed, in words that follow "because". The address is not in
/// it, because it may be a secret.
pub(crate) fn why_failed(error: &reqwest::Error) -> String {
    if let Some(why) = trust::untrusted(error) {
        return format!("its certificate is not trusted by this box ({why})");
    }
    if error.is_timeout() {
        return "there was no answer in time".to_owned();
    }
    if error.is_dns() {
        return "its name is not found".to_owned();
    }
    innermost(error)
}

/// Returns the path and the query of a call for stored passings.
fn scope_query(scope: &Scope, page: u32) -> ([&str; 3], Vec<(&'static str, String)>) {
    let mut query = Vec::new();
    let path = match scope {
        Scope::Numbers { token, first, last } => {
            query.push(("first", first.to_string()));
            query.extend(last.map(|last| ("last", last.to_string())));
            ["passings", "session", &**token]
        }
        Scope::Session { token } => ["passings", "session", &**token],
        Scope::Times { device, from, to } => {
            query.extend([("from", wire_time(*from)), ("to", wire_time(*to))]);
            ["passings", "device", &**device]
        }
    };
    query.push(("page", page.to_string()));
    (path, query)
}

/// Removes the key from an answer that echoes it, before any code reads the answer.
fn scrub(body: Vec<u8>, key: &str) -> Vec<u8> {
    let finder = memchr::memmem::Finder::new(key);
    if key.is_empty() || finder.find(&body).is_none() {
        return body;
    }
    let mut clean = Vec::with_capacity(body.len());
    let mut rest = body.as_slice();
    while let Some(at) = finder.find(rest) {
        clean.extend_from_slice(&rest[..at]);
        clean.extend_from_slice(b"[key]");
        rest = &rest[at + key.len()..];
    }
    clean.extend_from_slice(rest);
    clean
}

fn transport(error: &reqwest::Error) -> CallError {
    if error.is_builder() {
        return CallError::NotSent(NotSent::Build(innermost(error)));
    }
    if !error.is_connect() {
        let why = if error.is_timeout() { OutcomeDoubt::Timeout } else { OutcomeDoubt::Cut(innermost(error)) };
        return CallError::Unknown { why, retry_after: None };
    }
    CallError::NotSent(match trust::distrust(error) {
        Some(why) => NotSent::Distrust(why),
        None if error.is_dns() => NotSent::Name,
        None => unconnected(error),
    })
}

/// Returns why there is no TCP connection, according to the operating system.
fn unconnected(error: &reqwest::Error) -> NotSent {
    use io::ErrorKind as Kind;
    let system = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
    match system.map(io::Error::kind) {
        Some(Kind::ConnectionRefused) => NotSent::Refused,
        Some(Kind::NetworkUnreachable | Kind::HostUnreachable | Kind::NetworkDown | Kind::AddrNotAvailable) => {
            NotSent::Unreachable(innermost(error))
        }
        _ if error.is_timeout() => NotSent::Slow,
        _ => NotSent::Connect(innermost(error)),
    }
}

/// Returns the text of the last cause. It names the fault, while the outer causes name layers (and
/// the URL).
fn innermost(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "no cause given".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests;
