//! Routes of the fake. They parse requests strictly, apply faults, and write answers.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Path, Query, State as Shared};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{get, patch, post};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answers::{self, About, Held, Reply};
use super::config::{Access, CLIENT_BATCH_MAX, Forbidden, SimCloudConfig};
use super::faults::{Answer, Apply, CloudFault, On};
use super::habits::{Stale, ago};
use super::pages::{Shown, shown};
use super::requests::{self, BindDevice, Insert, NumberRange, OpenSession, Pages, TimeRange};
use super::state::End;
use super::state::{Flight, Inner, MAX_POSTS, Post, State};
use super::store::{Arriving, Counts, Device, ListPage, Refused, Row, Rule, SessionView, StoredPassing};
use super::wire::{Cut, Entrance};
use super::writer::Turn;

/// Longest request body that is read. For a longer one, axum answers 413.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// How long an insert waits for the end of another insert of its device, before it counts as a
/// second one in flight. When a client gives up and sends again at once, the new request can arrive
/// before the fake sees that the old connection is closed.
const OVERLAP: Duration = Duration::from_secs(1);

pub(super) async fn serve(entrance: Entrance, inner: Arc<Inner>, stop: CancellationToken) {
    let routes = Router::new()
        .route("/v0/sessions", post(open))
        .route("/v0/sessions/close/{token}", patch(close))
        .route("/v0/sessions/device/{device}", get(sessions))
        .route("/v0/sessions/device/{device}/active", get(active))
        .route("/v0/sessions/{token}", get(session))
        .route("/v0/passings", post(insert))
        .route("/v0/passings/session/{token}", get(held_by_number))
        .route("/v0/passings/device/{device}", get(held_by_time))
        .route("/v0/devices", get(devices).post(bind))
        .route("/v0/devices/{device}", get(device).delete(unbind))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(inner);
    let service = routes.into_make_service_with_connect_info::<Cut>();
    tokio::select! {
        () = stop.cancelled() => {}
        _ = async { axum::serve(entrance, service).await } => {}
    }
}

/// One request, with its key and its connection.
struct Call {
    inner: Arc<Inner>,
    cut: Cut,
    key: Option<String>,
    /// Method and address, for the trace.
    what: String,
}

impl FromRequestParts<Arc<Inner>> for Call {
    type Rejection = StatusCode;

    fn from_request_parts(
        parts: &mut Parts,
        inner: &Arc<Inner>,
    ) -> impl Future<Output = Result<Self, StatusCode>> + Send {
        let header = |name: &str| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
        let key = header("x-api-key").or_else(|| header("api_key"));
        let cut = parts.extensions.get::<ConnectInfo<Cut>>().map(|info| info.0.clone());
        let what = format!("{} {}", parts.method, parts.uri);
        let call = cut.map(|cut| Self { inner: Arc::clone(inner), cut, key, what });
        std::future::ready(call.ok_or(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

impl Call {
    /// Handles a whole call that is not an insert: its fault, its key, its work, its answer.
    async fn answer(self, on: On, need: Access, work: impl FnOnce(&mut State) -> Reply) -> Response {
        let fault = self.meet(on).await;
        let reply = {
            let mut state = self.inner.lock();
            match self.forbidden(&state.config, need) {
                _ if matches!(fault.apply, Apply::Nothing | Apply::Later(_)) => Reply::refusal(500, "not applied"),
                Some(reply) => reply,
                None => work(&mut state),
            }
        };
        self.inner.changed();
        self.finish(reply, &fault.answer).await
    }

    /// Returns the fault of this request (without one, the usual behaviour), after its delay.
    async fn meet(&self, on: On) -> CloudFault {
        let (fault, latency) = {
            let mut guard = self.inner.lock();
            let state = &mut *guard;
            let by_habit = || state.config.habits.fault(&mut state.chooser, on);
            (state.script.next(on).unwrap_or_else(by_habit), state.config.latency)
        };
        let wait = latency + fault.delay;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        fault
    }

    fn forbidden(&self, config: &SimCloudConfig, need: Access) -> Option<Reply> {
        let access = config.keys.iter().find(|(known, _)| self.key.as_ref() == Some(known)).map(|(_, access)| *access);
        if access.is_some_and(|access| access == need || access == Access::ReadWrite) {
            return None;
        }
        Some(match config.forbidden {
            Forbidden::Message => Reply::Gateway { status: 403, message: "Forbidden" },
            Forbidden::Description => Reply::refusal(403, "Access type not allowed"),
            Forbidden::Unauthorized => Reply::Gateway { status: 401, message: "Unauthorized" },
        })
    }

    async fn finish(self, reply: Reply, answer: &Answer) -> Response {
        {
            let mut state = self.inner.lock();
            let said = answers::told(&state.config, &reply, answer);
            state.trace(&self.what, &said);
        }
        match answer {
            Answer::Never => std::future::pending().await,
            Answer::Cut => {
                self.cut.cut();
                Response::new(Body::empty()) // it is never written
            }
            _ => {
                let whole = answers::spell(&self.inner.lock().config, reply, answer);
                if *answer == Answer::CutInside { cut_inside(whole).await } else { whole }
            }
        }
    }
}

/// Sends the head and the first half of an answer, then breaks the connection.
async fn cut_inside(whole: Response) -> Response {
    let (mut head, body) = whole.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    head.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
    let half = bytes.slice(..bytes.len() / 2);
    let breaking = stream::once(async {
        // The wait is long enough that the half is sent. In any case, the client gets no whole
        // answer.
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    Response::from_parts(head, Body::from_stream(stream::iter([Ok(half)]).chain(breaking)))
}

async fn open(call: Call, body: Bytes) -> Response {
    call.answer(On::Open, Access::Write, |state| {
        let request: OpenSession = match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => return malformed(state, "POST /sessions", &error.to_string()),
        };
        if state.store.device(&request.deviceid).is_none() {
            return no_device(request.deviceid);
        }
        if state.store.full_of_sessions() {
            return Reply::refusal(507, "The simulated cloud is full");
        }
        let token = state.store.open(&request.deviceid, request.alias.as_deref());
        Reply::object(201, &json!({ "description": "Session inserted succesfully", "token_session": &*token }))
    })
    .await
}

async fn close(call: Call, Path(token): Path<String>) -> Response {
    call.answer(On::Close, Access::Write, |state| {
        if !state.store.close(&token) {
            return no_session_at_all(token);
        }
        Reply::object(200, &json!({ "description": "Session closed succesfully", "token_session": token }))
    })
    .await
}

async fn sessions(call: Call, Path(device): Path<String>) -> Response {
    call.answer(On::Session, Access::Read, |state| match state.store.device(&device) {
        None => no_device(device),
        Some(_) => {
            let at = ago(state.config.habits.lag_sessions);
            answers::sessions(&state.config, &state.store.sessions(&device, at))
        }
    })
    .await
}

async fn active(call: Call, Path(device): Path<String>) -> Response {
    call.answer(On::Active, Access::Read, |state| {
        if state.store.device(&device).is_none() {
            return no_device(device);
        }
        let State { config, store, chooser, .. } = state;
        let at = ago(config.habits.lag_active);
        let mut view = store.active(&device, at);
        match config.habits.stale(chooser) {
            Some(Stale::None) => view = None,
            Some(Stale::Before) => {
                let sessions = store.sessions(&device, at);
                let earlier = |one: &SessionView| view.as_ref().is_none_or(|view| one.token != view.token);
                if let Some(before) = sessions.into_iter().rev().find(earlier) {
                    view = Some(SessionView { active: true, ..before });
                }
            }
            None => {}
        }
        match view {
            Some(view) => answers::session(config, &view),
            None => answers::no_session(config, &device, store.sessions(&device, at).last()),
        }
    })
    .await
}

async fn session(call: Call, Path(token): Path<String>) -> Response {
    call.answer(On::Session, Access::Read, |state| {
        match state.store.session(&token, ago(state.config.habits.lag_sessions)) {
            Some(view) => answers::session(&state.config, &view),
            None => no_session_at_all(token),
        }
    })
    .await
}

async fn insert(call: Call, body: Bytes) -> Response {
    let at = Instant::now();
    let request = match requests::insert(&body) {
        Ok(request) => request,
        Err(error) => {
            let fault = call.meet(On::Insert).await;
            let reply = malformed(&mut call.inner.lock(), "POST /passings", &error);
            return call.finish(reply, &fault.answer).await;
        }
    };
    let flight = take_off(&call.inner, &request.token_session.0).await;
    let fault = call.meet(On::Insert).await;
    let reply = {
        let mut guard = call.inner.lock();
        let state = &mut *guard;
        let reply = match call.forbidden(&state.config, Access::Write) {
            None if matches!(fault.apply, Apply::Later(_)) => not_applied(&request),
            _ if fault.apply == Apply::Nothing => not_applied(&request),
            Some(reply) => reply,
            None => apply_insert(state, &request, fault.apply, false),
        };
        if let Apply::Later(wait) = fault.apply {
            tokio::spawn(later(Arc::clone(&call.inner), body.clone(), wait));
        }
        if fault.closes {
            state.store.close(&request.token_session.0);
        }
        note_post(state, at, &request, &reply, &fault.answer);
        reply
    };
    call.inner.changed();
    if fault.answer != Answer::Never {
        flight.land();
        return call.finish(reply, &fault.answer).await;
    }
    // The insert is still in flight. It ends when the client gives up and this future is dropped.
    let never = call.finish(reply, &fault.answer).await;
    flight.land();
    never
}

/// The answer to a request that took no effect, for faults that send one.
fn not_applied(request: &Insert<'_>) -> Reply {
    let about = About::Session(request.token_session.0.to_string());
    Reply::Refusal { status: 500, description: "not applied", about }
}

/// Stores an insert that the client has already given up. If its session closed meanwhile, nothing
/// is stored.
async fn later(inner: Arc<Inner>, body: Bytes, wait: Duration) {
    tokio::time::sleep(wait).await;
    if let Ok(request) = requests::insert(&body) {
        apply_insert(&mut inner.lock(), &request, Apply::All, true);
        inner.changed();
    }
}

fn apply_insert(state: &mut State, request: &Insert<'_>, apply: Apply, late: bool) -> Reply {
    let list = &request.passings_list;
    let token = &*request.token_session.0;
    if list.len() > CLIENT_BATCH_MAX {
        state.violation(format!("{} passings in one insert", list.len()));
    }
    if list.len() > state.config.max_items {
        return Reply::Gateway { status: 413, message: "Request Too Long" };
    }
    let failing = &state.config.habits.failing;
    if !state.poison.is_empty() || !failing.is_empty() {
        let poison = |text: &str| {
            let failing = failing.iter().find(|(chip, _)| chip == text).map(|(_, status)| *status);
            state.poison.get(text).copied().or(failing)
        };
        let found = list.iter().find_map(|passing| {
            passing.chip.as_ref().and_then(|chip| poison(&chip.0)).or_else(|| poison(&passing.bib.0))
        });
        if let Some(status) = found {
            return Reply::refusal(status, "Passing not accepted");
        }
    }
    let arriving: Vec<Arriving<'_>> = list[..apply.of(list.len())]
        .iter()
        .map(|passing| Arriving {
            num: passing.num_passing,
            time_ms: passing.timestamp,
            chip: passing.chip.as_ref().map(|chip| &*chip.0),
            bib: &passing.bib.0,
        })
        .collect();
    let mut noted = Vec::new();
    let rule = Rule { dedup: state.config.dedup(), per_device: state.config.habits.per_device, late };
    let other = Turn::draw(state);
    other.before(state, request);
    let outcome = state.store.insert(token, &arriving, rule, |text| noted.push(text));
    if outcome.is_ok() {
        other.after(state, request);
    }
    for text in noted {
        state.violation(text);
    }
    match outcome {
        Ok(counts) => Reply::Inserted { token: token.into(), counts },
        Err(Refused::Closed) => answers::closed(&state.config, token),
        Err(Refused::Full) => Reply::refusal(507, "The simulated cloud is full"),
    }
}

fn note_post(state: &mut State, at: Instant, request: &Insert<'_>, reply: &Reply, answer: &Answer) {
    let counts = if let Reply::Inserted { counts, .. } = reply { *counts } else { Counts::default() };
    let numbers = || request.passings_list.iter().map(|passing| passing.num_passing);
    // Consecutive POSTs use one session, so its token is stored once.
    let token = &*request.token_session.0;
    let known = state.posts.back().filter(|post| &*post.token == token).map(|post| Arc::clone(&post.token));
    let post = Post {
        at,
        token: known.unwrap_or_else(|| token.into()),
        first: numbers().next().unwrap_or(0),
        last: numbers().next_back().unwrap_or(0),
        count: request.passings_list.len(),
        inserted: counts.inserted,
        duplicates: counts.duplicates,
        status: answers::status(&state.config, reply, answer),
    };
    if state.posts.len() == MAX_POSTS {
        state.posts.pop_front();
    }
    state.posts.push_back(post);
    state.post_count += 1;
}

/// Marks an insert as in flight until it is dropped.
struct InFlight {
    inner: Arc<Inner>,
    device: Arc<str>,
    number: u64,
    end: watch::Sender<End>,
}

impl InFlight {
    fn land(self) {
        self.end.send_replace(End::Landed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end.send_if_modified(|end| *end == End::Flying && std::mem::replace(end, End::Dropped) == End::Flying);
        let mut state = self.inner.lock();
        if state.flights.get(&self.device).is_some_and(|flight| flight.number == self.number) {
            state.flights.remove(&self.device);
        }
    }
}

/// Records a violation when a client sends an insert while another one of the same device is in
/// flight. An insert that the client gave up (its connection is closed) does not count, although
/// the fake may see that only a moment later.
async fn take_off(inner: &Arc<Inner>, token: &str) -> InFlight {
    loop {
        let (mut other, other_number) = {
            let mut state = inner.lock();
            let device = state.store.device_of(token).unwrap_or_else(|| token.into());
            match state.flights.get(&device) {
                Some(flight) => (flight.end.clone(), flight.number),
                None => {
                    let (end, seen) = watch::channel(End::Flying);
                    state.flight_count += 1;
                    let number = state.flight_count;
                    state.flights.insert(Arc::clone(&device), Flight { number, end: seen });
                    return InFlight { inner: Arc::clone(inner), device, number, end };
                }
            }
        };
        let ended = tokio::time::timeout(OVERLAP, other.wait_for(|end| *end != End::Flying)).await;
        if !matches!(ended.map(|end| end.map(|end| *end)), Ok(Ok(End::Dropped))) {
            let mut state = inner.lock();
            state.violation("two inserts of one device were in flight at once".to_owned());
            let device = state.store.device_of(token).unwrap_or_else(|| token.into());
            // An insert that never ends is recorded once, and no later insert waits for it.
            if state.flights.get(&device).is_some_and(|flight| flight.number == other_number) {
                state.flights.remove(&device);
            }
        }
    }
}

async fn held_by_number(
    call: Call,
    Path(token): Path<String>,
    query: Result<Query<NumberRange>, QueryRejection>,
) -> Response {
    call.answer(On::HeldByNumber, Access::Read, |state| {
        let Ok(Query(range)) = query else { return malformed(state, "GET /passings/session", "query") };
        let Some(page) = page(range.page, state.config.page_size) else {
            return malformed(state, "GET /passings/session", "page 0");
        };
        let Some(device) = state.store.device_of(&token) else { return no_session_at_all(token) };
        let State { config, store, chooser, .. } = state;
        let habits = &config.habits;
        let (first, last) = (range.first.unwrap_or(0), range.last.unwrap_or(u64::MAX));
        if habits.last_required && range.last.is_none() {
            return Reply::refusal(400, "Parameter last is missing");
        }
        if habits.range_limit.is_some_and(|limit| last.saturating_sub(first) >= limit) {
            return Reply::refusal(400, "The range is too long");
        }
        let first = first.saturating_add(u64::from(habits.first_exclusive && range.first.is_some()));
        let exclusive = habits.last_exclusive && range.last.is_some();
        let at = habits.horizon(chooser, On::HeldByNumber);
        let rows = match last.checked_sub(u64::from(exclusive)) {
            Some(last) => store.by_number(&token, first, last, at).unwrap_or_default(),
            None => Vec::new(),
        };
        if rows.is_empty() && habits.none_is_404 {
            return Reply::Refusal { status: 404, description: "Passings not found", about: About::Session(token) };
        }
        let shown = shown(habits, rows, Row::key, page);
        let stored: Vec<StoredPassing> = shown.list.iter().map(|row| store.full(row)).collect();
        let list = stored.iter().map(|stored| Held::new(config, &device, &token, stored)).collect();
        answers::listed(config, Shown { list, ..shown.emptied() })
    })
    .await
}

async fn held_by_time(
    call: Call,
    Path(device): Path<String>,
    query: Result<Query<TimeRange>, QueryRejection>,
) -> Response {
    call.answer(On::HeldByTime, Access::Read, |state| {
        let Ok(Query(range)) = query else { return malformed(state, "GET /passings/device", "query") };
        let Some(page) = page(range.page, state.config.page_size) else {
            return malformed(state, "GET /passings/device", "page 0");
        };
        if state.store.device(&device).is_none() {
            return no_device(device);
        }
        let from = range.from.map_or(i64::MIN, Timestamp::as_millisecond);
        let to = range.to.map_or(i64::MAX, Timestamp::as_millisecond);
        let State { config, store, chooser, .. } = state;
        let habits = &config.habits;
        let span = u64::try_from(i128::from(to) - i128::from(from)).unwrap_or(0);
        if habits.span_limit.is_some_and(|limit| Duration::from_millis(span) > limit) {
            return Reply::refusal(400, "The time is too long");
        }
        let at = habits.horizon(chooser, On::HeldByTime);
        let rows = store.by_time(&device, from, to, at);
        if rows.is_empty() && habits.none_is_404 {
            return Reply::Refusal { status: 404, description: "Passings not found", about: About::Device(device) };
        }
        let shown = shown(habits, rows, |(place, row)| u64::from(*place) << 32 ^ row.key(), page);
        let full = |(place, row): &(u32, Row)| (store.token_at(*place), store.full(row));
        let stored: Vec<(Arc<str>, StoredPassing)> = shown.list.iter().map(full).collect();
        let list = stored.iter().map(|(token, stored)| Held::new(config, &device, token, stored)).collect();
        answers::listed(config, Shown { list, ..shown.emptied() })
    })
    .await
}

async fn devices(call: Call, query: Result<Query<Pages>, QueryRejection>) -> Response {
    call.answer(On::Device, Access::Read, |state| {
        let Ok(Query(pages)) = query else { return malformed(state, "GET /devices", "query") };
        let limit = pages.limit.unwrap_or(5000);
        let Some(page) = page(pages.page, limit).filter(|_| (1..=5000).contains(&limit)) else {
            return malformed(state, "GET /devices", "page or limit");
        };
        let all = state.store.devices();
        let list: Vec<_> = page
            .of(all.iter())
            .map(|device| answers::device(&state.config, device, &state.store.sessions(&device.id, None)))
            .collect();
        let has_more = page.number.saturating_mul(page.size) < all.len();
        let shown = Shown { list, page: page.number, size: page.size, total: all.len(), has_more };
        answers::listed(&state.config, shown)
    })
    .await
}

async fn device(call: Call, Path(id): Path<String>) -> Response {
    call.answer(On::Device, Access::Read, |state| match state.store.device(&id) {
        None => no_device(id),
        Some(device) => {
            let result = answers::device(&state.config, device, &state.store.sessions(&id, None));
            Reply::object(200, &json!({ "description": "Success", "result": result }))
        }
    })
    .await
}

async fn bind(call: Call, body: Bytes) -> Response {
    call.answer(On::Device, Access::Write, |state| {
        let request: BindDevice = match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => return malformed(state, "POST /devices", &error.to_string()),
        };
        let bound = state.store.bind(Device {
            id: Arc::default(),
            alias: request.alias.unwrap_or_default(),
            kind: request.kind.unwrap_or_default(),
            model: request.model,
            serial_number: request.serial_number,
            firmware: request.firmware,
            created_ms: Timestamp::now().as_millisecond(),
        });
        let (status, description, id) = match bound {
            Ok(id) => (201, "Device binded succesfully", id),
            Err(id) => (409, "Device already binded", id),
        };
        Reply::object(status, &json!({ "description": description, "deviceid": &*id }))
    })
    .await
}

/// The real call erases sessions and passings. A client must never send it.
async fn unbind(call: Call, Path(id): Path<String>) -> Response {
    call.answer(On::Device, Access::Write, |state| {
        state.violation(format!("DELETE of device {id}"));
        Reply::Gateway { status: 403, message: "Forbidden" }
    })
    .await
}

async fn unknown(Shared(inner): Shared<Arc<Inner>>, method: Method, uri: Uri) -> Response {
    let mut state = inner.lock();
    state.violation(format!("unknown call {method} {}", uri.path()));
    answers::spell(&state.config, Reply::Gateway { status: 404, message: "Not Found" }, &Answer::Usual)
}

fn page(number: Option<usize>, size: usize) -> Option<ListPage> {
    let number = number.unwrap_or(1);
    (number >= 1).then_some(ListPage { number, size })
}

fn malformed(state: &mut State, call: &str, error: &str) -> Reply {
    state.violation(format!("{call} is malformed: {error}"));
    Reply::refusal(400, "Parameter missing or not allowed")
}

fn no_device(id: String) -> Reply {
    Reply::Refusal { status: 404, description: "Device not found", about: About::Device(id) }
}

fn no_session_at_all(token: String) -> Reply {
    Reply::Refusal { status: 404, description: "Session not found", about: About::Session(token) }
}
