//! The calls of the API: which ones there are, and where their work is.

mod devices;
mod inserts;
mod passings;
mod sessions;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State as Shared};
use axum::http::{Method, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post};
use axum::{Extension, Router};
use tokio_util::sync::CancellationToken;

use super::answers::{self, Reply};
use super::call::ApiCall;
use super::config::Need;
use super::faults::{Answer, On};
use super::state::Inner;
use super::wire::{Cut, Entrance};

/// Longest request body that is read. For a longer one, axum answers 413.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Every call that the fake answers, in the order of docs/reference/simulated-cloud.md. Any other one
/// is answered 404 and noted.
pub(super) static CALLS: &[ApiCall] = &[
    writes("POST", "/devices", On::Device, || post(devices::bind)),
    reads("/devices", &["page", "limit"], On::Device, || get(devices::list)),
    reads("/devices/{deviceid}", &[], On::Device, || get(devices::one)),
    ApiCall { need: Need::Unbind, ..writes("DELETE", "/devices/{deviceid}", On::Device, || delete(devices::unbind)) },
    writes("POST", "/sessions", On::Open, || post(sessions::open)),
    writes("PATCH", "/sessions/close/{token_session}", On::Close, || patch(sessions::close)),
    reads("/sessions/device/{deviceid}", &["page", "limit"], On::Session, || get(sessions::list)),
    reads("/sessions/device/{deviceid}/active", &[], On::Active, || get(sessions::active)),
    reads("/sessions/{token_session}", &[], On::Session, || get(sessions::one)),
    writes("POST", "/passings", On::Insert, || post(inserts::insert)),
    reads("/passings/session/{token_session}", &["first", "last", "page"], On::HeldByNumber, || {
        get(passings::by_number)
    }),
    reads("/passings/device/{deviceid}", &["from", "to", "page"], On::HeldByTime, || get(passings::by_time)),
    reads("/passings/device2/{deviceid}", &["from", "to", "token_session", "last", "page"], On::Continuing, || {
        get(passings::continuing)
    }),
];

type MakeRoute = fn() -> MethodRouter<Arc<Inner>>;

const fn reads(path: &'static str, query: &'static [&'static str], on: On, route: MakeRoute) -> ApiCall {
    ApiCall { method: "GET", path, query, need: Need::Read, on, route }
}

const fn writes(method: &'static str, path: &'static str, on: On, route: MakeRoute) -> ApiCall {
    ApiCall { method, path, query: &[], need: Need::Write, on, route }
}

pub(super) async fn serve(entrance: Entrance, inner: Arc<Inner>, stop: CancellationToken) {
    let add = |router: Router<Arc<Inner>>, api: &'static ApiCall| {
        router.route(&format!("/v0{}", api.path), (api.route)().layer(Extension(api)))
    };
    let routes = CALLS
        .iter()
        .fold(Router::new(), add)
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(inner);
    let service = routes.into_make_service_with_connect_info::<Cut>();
    tokio::select! {
        () = stop.cancelled() => {}
        _ = async { axum::serve(entrance, service).await } => {}
    }
}

async fn unknown(Shared(inner): Shared<Arc<Inner>>, method: Method, uri: Uri) -> Response {
    let mut state = inner.lock();
    state.violation(format!("unknown call {method} {}", uri.path()));
    answers::spell(&state.config, Reply::Gateway { status: 404, message: "Not Found" }, &Answer::Usual)
}
