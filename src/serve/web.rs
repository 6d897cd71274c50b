//! The box over HTTP: the page, status as text, JSON and metrics, the newest reads, changes as they
//! happen, and, behind a login, what can be done with the box ([`doing`]).
//!
//! Must hold:
//! * This module cannot delay what is kept. It reads the [`Board`], and gives commands to
//!   [`Ops`] alone.
//! * A client has a bounded cost. There is a limit for connections, the size of a request's head
//!   and the time to send it, the time for which an answer waits for a client that does not read,
//!   and event streams. A request with a body is refused, except a short form to an address that
//!   takes forms. One other machine cannot use all the connections.
//! * A page of another site in the timer's browser gets no data. There is no CORS, and without a
//!   token, only a request that names this box by address or as `localhost` is answered. So a
//!   foreign name that its owner points to this box later (DNS rebinding) is refused.
//! * With a token set, every path except `/healthz` and `/readyz` requires it, or a login ([`door`]). A
//!   supervisor has no token, and these two return only what it needs. The files of the page in
//!   `/assets/` and `/icon/` are the same for every box. While the file of the token cannot be read,
//!   every other path is refused. Without a token, the configuration allows only a loopback
//!   address, and nothing can be changed.
//! * A port that is in use, and an address that the box does not have, are waited for: reads are
//!   kept without a page.
//! * `/readyz` is 200 only while reads can be kept.
//!
//! Rejected: `axum::serve`, which limits neither the time nor the size of a request's head; CORS
//! headers, because pages of other sites need no data from the box.

mod artist;
pub(crate) mod ask;
mod assets;
mod doing;
mod door;
mod frame;
mod gun;
mod live;
mod metrics;
mod page;
mod past;
mod peer;
mod search;
mod shell;
mod view;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use futures_util::stream;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub(crate) use self::artist::Sources;
use self::doing::Doing;
pub(crate) use self::door::Audience;
use self::door::Door;
use self::door::form::announces_form;
use self::live::Live;
use self::peer::Peer;
use crate::config::StatusConfig;
use crate::config::failure::Failure;
use crate::model::shown::ShownIn;
use crate::serve::invite::Invites;
use crate::serve::ops::Ops;
use crate::status::glance;
use crate::status::{Board, ProblemCode, RECENT_READS};

/// Most connections at the same time. The next one waits to be accepted.
const CONNECTIONS: usize = 320;
/// Most connections at the same time from one other machine. One more is closed at once.
const CONNECTIONS_OF_ONE: usize = 48;
/// Most event streams at the same time. They are fewer than the connections, so that the status can
/// always be requested.
const STREAMS: usize = 160;
/// Bytes that the kernel may hold for a client that does not read. Events that wait there are old
/// when they arrive, so it is small. The kernel takes twice as much.
const SEND_BUFFER: usize = 32 << 10;
/// Longest head of a request, in bytes.
const HEAD_LIMIT: usize = 16 << 10;
/// Most headers of a request.
const HEADERS: usize = 64;
/// How long the head of a request may take to arrive, also on a connection that is kept open.
const HEAD_TIME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How long an answer may wait for a client that does not read it.
const WRITE_TIME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// How long a connection may continue after `stop`.
const LINGER: Duration = Duration::from_secs(1);
/// Least time between two events of a stream.
const EVENT_GAP: Duration = Duration::from_millis(500);
/// Time between the comments that keep a silent stream open through proxies, and that detect
/// clients that are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Time between two tries to listen at an address that this box does not have yet.
const ADDRESS_RETRY: Duration = Duration::from_secs(2);
/// Number of reads that are returned when the request has no limit.
const USUAL_READS: usize = 100;

/// The server cannot listen on the port.
#[derive(Debug, thiserror::Error)]
#[error(
    "status.listen = \"{address}\": cannot listen there: {source}; choose a free port (1024 or above), or stop what uses it"
)]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::config(error.to_string())
    }
}

/// The listening port of the page, or an address that this box does not have yet (its network
/// starts later).
#[derive(Debug)]
pub(crate) struct WebPage {
    address: SocketAddr,
    /// Why there is none yet.
    listener: std::io::Result<TcpListener>,
}

impl WebPage {
    /// The actual address (port 0 selects any free port). `None` while the page cannot listen.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref().ok()?.local_addr().ok()
    }

    /// Takes the port of `[status].listen` at the start. What cannot be had now is waited for by
    /// [`serve`].
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self { address, listener: TcpListener::bind(address).await }
    }
}

/// Takes the port of `[status].listen` for `check`.
///
/// # Errors
/// The address is in use or not allowed. An address that this box does not have yet is no error.
pub(crate) async fn bind(address: SocketAddr) -> Result<WebPage, BindError> {
    match WebPage::open(address).await {
        WebPage { address, listener: Err(source) } if source.kind() != ErrorKind::AddrNotAvailable => {
            Err(BindError { address, source })
        }
        page => Ok(page),
    }
}

/// Tries again until it can listen.
async fn wait_for_address(page: WebPage, board: &Board) -> TcpListener {
    let mut listener = page.listener;
    loop {
        let error = match listener {
            Ok(listener) => {
                board.clear(ProblemCode::StatusAddress, "");
                return listener;
            }
            Err(error) => error,
        };
        let why = match error.kind() {
            ErrorKind::AddrNotAvailable => "this box has no such address (yet); is the network up?".to_owned(),
            ErrorKind::AddrInUse => {
                "another program has this port. Stop it, or choose a free port as `status.listen`".to_owned()
            }
            ErrorKind::PermissionDenied => {
                "a port below 1024 is not for the user of this service. Choose 1024 or above as `status.listen`"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        let text = format!("the page cannot be shown at {}: {why}. It is tried again by itself", page.address);
        board.raise(ProblemCode::StatusAddress, "", text);
        sleep(ADDRESS_RETRY).await;
        listener = TcpListener::bind(page.address).await;
    }
}

/// What the page needs of the daemon.
#[derive(Clone)]
pub(crate) struct Serving {
    /// What is shown.
    pub board: Board,
    /// What the page shows beside it.
    pub sources: Sources,
    /// Who is shown it.
    pub access: watch::Receiver<Audience>,
    /// The tokens for one use that let somebody in.
    pub invites: Invites,
    /// The commands. They get the journal when it is open.
    pub ops: watch::Receiver<Ops>,
}

/// Where the page listens, if it lets somebody in from another machine. `actual`: the address that
/// it has by now.
///
/// # Errors
/// Why it lets nobody in, and what to do.
pub(crate) fn door_of(status: &StatusConfig, actual: Option<SocketAddr>) -> Result<SocketAddr, &'static str> {
    const SET: &str = "set `listen = \"0.0.0.0:8470\"` and `token_file` under [status], and restart passbridge";
    const OFF: &str =
        "the page is off; set `listen = \"0.0.0.0:8470\"` and `token_file` under [status], and restart passbridge";
    const NO_TOKEN: &str =
        "it has no token; set `token_file` and `listen = \"0.0.0.0:8470\"` under [status], and restart passbridge";
    let listen = actual.or(status.listen).ok_or(OFF)?;
    match status.token_file.is_some() || status.token.is_some() {
        true if listen.ip().is_loopback() => Err(SET),
        true => Ok(listen),
        false => Err(NO_TOKEN),
    }
}

/// Answers requests until `stop`. Then requests in progress may end within a second.
pub(crate) async fn serve(page: WebPage, serving: Serving, stop: CancellationToken) {
    let Some(listener) = stop.run_until_cancelled(wait_for_address(page, &serving.board)).await else { return };
    let streams = Arc::new(Semaphore::new(STREAMS));
    let (board, sources) = (serving.board.clone(), serving.sources.clone());
    let live = Live::new(board, sources, assets::version(), Arc::clone(&streams), stop.clone());
    let drawing = tokio::spawn(live.clone().run());
    accept(listener, router(serving, live, streams, &stop), &stop).await;
    let _ = drawing.await;
}

/// Takes connections until `stop`, and lets those that are open end.
async fn accept(listener: TcpListener, router: Router, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let peers = Peers::default();
    loop {
        let accepting = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepting => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // The kernel ends a connection whose client reads nothing. If the option cannot be
                // set, only this connection stays occupied.
                let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_TIME));
                let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
                if let Some(counted) = peers.count(Peer(peer.ip()).machine()) {
                    let peer = Peer(peer.ip());
                    tokio::spawn(connection(stream, peer, router.clone(), (place, counted), stop.clone()));
                }
            }
            Err(error) => {
                tracing::warn!("the status page cannot take a connection: {error}");
                sleep(Duration::from_millis(200)).await; // no free file descriptors: avoid a busy loop
            }
        }
    }
    drop(listener);
    // When all permits are returned, every connection has ended.
    let _ = timeout(LINGER + Duration::from_millis(100), places.acquire_many(CONNECTIONS as u32)).await;
}

/// Number of connections from each machine. This box itself is not counted, because a proxy on it
/// serves many clients.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One counted connection, until it ends.
struct Counted(Peers, IpAddr);

impl Peers {
    /// `None`: this machine already has its most connections.
    fn count(&self, peer: IpAddr) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        if *count >= CONNECTIONS_OF_ONE && !peer.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Counted(self.clone(), peer))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    place: (OwnedSemaphorePermit, Counted),
    stop: CancellationToken,
) {
    let answering = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        answering.call(request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!("status page: {error}");
            }
        }
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = timeout(LINGER, serving).await;
        }
    }
    drop(place);
}

#[derive(Clone)]
struct Web {
    board: Board,
    ops: watch::Receiver<Ops>,
    access: watch::Receiver<Audience>,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

fn router(serving: Serving, live: Live, streams: Arc<Semaphore>, stop: &CancellationToken) -> Router {
    let Serving { board, sources, access, invites, ops } = serving;
    let door = Door::new(&board.name(), access.clone(), invites);
    let past = past::routes(ops.clone());
    let doing = Doing::new(door.clone(), ops.clone(), sources.reading, stop.clone());
    let web = Web { board, ops, access, streams, stop: stop.clone() };
    let guarded = Router::new()
        .route("/plain", get(overview))
        .route("/api/status", get(status))
        .route("/api/reads", get(reads))
        .route("/api/search", get(find))
        .route("/api/events", get(events))
        .route("/metrics", get(metrics_page))
        .merge(past)
        .with_state(web.clone())
        .merge(gun::routes(web.board.clone()))
        .merge(page::routes(live))
        .merge(doing::router(doing))
        .fallback(nothing_here)
        .layer(middleware::from_fn(door::must_see));
    let known =
        guarded.merge(door::pages::router(door.clone())).layer(middleware::from_fn_with_state(door, door::identify));
    let open = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(web.clone());
    let open = open
        .route("/assets/{version}/{file}", get(assets::file))
        .route("/icon/{file}", get(assets::icon))
        .route("/favicon.ico", get(assets::favicon));
    known.merge(open).layer(middleware::from_fn_with_state(web, every))
}

/// Headers of every answer that has no other value for them. They tell the browser not to store it,
/// not to guess its type, not to show it in another site's frame, and to run and show only what this
/// box serves as files.
const HEADERS_OF_ALL: [(header::HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not `no-referrer`: with it, browsers do not say which page sent a form (`Origin: null`).
    (header::REFERRER_POLICY, "same-origin"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
];

/// Applies the rules for every request and answer.
async fn every(State(web): State<Web>, request: Request, next: Next) -> Response {
    let mut response = answered(&web, request, next).await;
    let headers = response.headers_mut();
    for (name, value) in HEADERS_OF_ALL {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn answered(web: &Web, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    let body = length || headers.contains_key(header::TRANSFER_ENCODING);
    if body && !(takes_forms(&request) && announces_form(headers)) {
        let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
        return (StatusCode::PAYLOAD_TOO_LARGE, close, "a request here has no body, or is a short form\n")
            .into_response();
    }
    // With a token configured, a request that another site caused has no token to send.
    if matches!(*web.access.borrow(), Audience::Open) && !for_this_box(&request) {
        let what = "ask for this box by its address or as localhost, not by a name\n";
        return (StatusCode::MISDIRECTED_REQUEST, what).into_response();
    }
    if of_another_site(request.headers()) {
        return (StatusCode::FORBIDDEN, "another site's page has no business here\n").into_response();
    }
    next.run(request).await
}

/// The request names this box in a way that no DNS server decides. A client that names no host is
/// not a browser.
fn for_this_box(request: &Request) -> bool {
    let named = |host: &str| {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
    };
    let header = match request.headers().get(header::HOST).map(HeaderValue::to_str) {
        None => true,
        Some(Err(_)) => false,
        Some(Ok(text)) => text.parse::<Authority>().is_ok_and(|authority| named(authority.host())),
    };
    header && request.uri().host().is_none_or(named)
}

/// The browser reports that another site's page sends the request. Following a link to this box is
/// allowed.
fn of_another_site(headers: &HeaderMap) -> bool {
    let says = |name: &str, value: &str| headers.get(name).is_some_and(|said| said.as_bytes() == value.as_bytes());
    (says("sec-fetch-site", "cross-site") || says("sec-fetch-site", "same-site")) && !says("sec-fetch-mode", "navigate")
}

/// Whether there is a form that is sent to this address.
fn takes_forms(request: &Request) -> bool {
    let path = request.uri().path();
    let known = path == "/login" || path == "/logout" || path.starts_with("/in/") || path.starts_with("/do/");
    known && request.method() == Method::POST
}

async fn overview(State(web): State<Web>) -> String {
    glance::text(&web.board.snapshot(), &ShownIn::of_the_box())
}

async fn status(State(web): State<Web>) -> Response {
    Json(web.board.snapshot()).into_response()
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn reads(
    State(web): State<Web>,
    limit: Result<Query<Limit>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(Limit { limit })) = limit else {
        let what = format!("limit must be a number from 0 to {RECENT_READS}\n");
        return (StatusCode::BAD_REQUEST, what).into_response();
    };
    Json(web.board.recent_reads(limit.unwrap_or(USUAL_READS).min(RECENT_READS))).into_response()
}

async fn find(
    State(web): State<Web>,
    asked: Result<Query<search::Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let ops = web.ops.borrow().clone();
    search::answer(ops, asked).await
}

async fn metrics_page(State(web): State<Web>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&web.board.snapshot())).into_response()
}

async fn healthz() -> &'static str {
    "alive\n"
}

async fn readyz(State(web): State<Web>) -> Response {
    let reasons = web.board.reasons_not_ready();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))).into_response()
}

async fn nothing_here() -> Response {
    let what = "here are / /gun /plain /report /login /find /hold /decoders /sessions /set-aside /card /api/status /api/reads /api/search \
                /api/events /api/history /api/report /metrics /healthz /readyz\n";
    (StatusCode::NOT_FOUND, what).into_response()
}

/// One stream. It sends the status at once, and then after each change, at most twice a second.
struct Stream {
    web: Web,
    changed: watch::Receiver<u64>,
    last: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

async fn events(State(web): State<Web>) -> Response {
    let Ok(place) = Arc::clone(&web.streams).try_acquire_owned() else { return live::too_many_streams() };
    let first = Stream { changed: web.board.changed(), web, last: None, _place: place };
    let events = stream::unfold(first, |mut stream| async move {
        let stop = stream.web.stop.clone();
        let event = stop.run_until_cancelled(stream.next()).await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

impl Stream {
    async fn next(&mut self) -> Event {
        if let Some(last) = self.last {
            // The sender is in the board, and the board is in `self`, so waiting cannot fail.
            let _ = self.changed.changed().await;
            sleep_until(last + EVENT_GAP).await;
        }
        self.changed.mark_unchanged();
        self.last = Some(Instant::now());
        let event = Event::default().event("status");
        event.json_data(self.web.board.snapshot()).unwrap_or_else(|_| Event::default().comment("no status"))
    }
}

#[cfg(test)]
mod tests;
