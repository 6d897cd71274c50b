//! One request, from its key to its answer: what all calls have in common.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::MethodRouter;
use futures_util::{StreamExt, stream};

use super::answers::{self, About, Reply};
use super::config::{Forbidden, Need};
use super::faults::{Answer, Apply, CloudFault, On};
use super::requests::Pages;
use super::state::{Inner, State};
use super::store::{Device, ListPage};
use super::wire::Cut;

/// Most entries on a page of devices or sessions, and the number of them if the client names none.
const LIST_LIMIT: usize = 5000;

/// One call of the API.
pub(super) struct ApiCall {
    pub(super) method: &'static str,
    /// Path below the base URL.
    pub(super) path: &'static str,
    /// The parameters that the query may have. Any other one is refused.
    pub(super) query: &'static [&'static str],
    /// The right that a key needs.
    pub(super) need: Need,
    /// Class of the request, for faults and habits.
    pub(super) on: On,
    pub(super) route: fn() -> MethodRouter<Arc<Inner>>,
}

/// One request, with its key and its connection.
pub(super) struct Call {
    pub(super) inner: Arc<Inner>,
    pub(super) api: &'static ApiCall,
    cut: Cut,
    key: Option<String>,
    /// A parameter of the query that the call does not have.
    stray: Option<String>,
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
        let api = parts.extensions.get::<&'static ApiCall>().copied();
        let what = format!("{} {}", parts.method, parts.uri);
        let call = cut.zip(api).map(|(cut, api)| {
            let names = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
            let mut names = names.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
            let stray = names.find(|name| !api.query.contains(name)).map(str::to_owned);
            Self { inner: Arc::clone(inner), api, cut, key, stray, what }
        });
        std::future::ready(call.ok_or(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

impl Call {
    /// Handles a whole call that is not an insert: its fault, its key, its work, its answer. The
    /// work gets the company of the key.
    pub(super) async fn answer(self, work: impl FnOnce(&mut State, usize) -> Reply) -> Response {
        let fault = self.meet().await;
        let reply = {
            let mut state = self.inner.lock();
            if matches!(fault.apply, Apply::Nothing | Apply::Later(_)) {
                Reply::refusal(500, "not applied")
            } else {
                match self.admit(&mut state) {
                    Err(reply) => reply,
                    Ok(company) => work(&mut state, company),
                }
            }
        };
        self.inner.changed();
        self.finish(reply, &fault.answer).await
    }

    /// Returns the fault of this request (without one, the usual behaviour), after its delay.
    pub(super) async fn meet(&self) -> CloudFault {
        let (fault, latency) = {
            let mut guard = self.inner.lock();
            let state = &mut *guard;
            let by_habit = || state.config.habits.fault(&mut state.chooser, self.api.on);
            (state.script.next(self.api.on).unwrap_or_else(by_habit), state.config.latency)
        };
        let wait = latency + fault.delay;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        fault
    }

    /// Returns the company of the key. `Err`: the refusal of a key without the right, or of
    /// a parameter that the call does not have.
    pub(super) fn admit(&self, state: &mut State) -> Result<usize, Reply> {
        let known = self.key.as_deref().and_then(|key| state.config.access(key));
        let Some((company, _)) = known.filter(|(_, access)| access.allows(self.api.need)) else {
            if self.api.need == Need::Unbind {
                state.violation(format!("{} with a key that may not unbind", self.what));
            }
            return Err(match state.config.forbidden {
                Forbidden::Message => Reply::Gateway { status: 403, message: "Forbidden" },
                Forbidden::Description => Reply::refusal(403, "Access type not allowed"),
                Forbidden::Unauthorized => Reply::Gateway { status: 401, message: "Unauthorized" },
            });
        };
        match &self.stray {
            Some(name) => Err(malformed(state, self.api, &format!("unknown parameter `{name}`"))),
            None => Ok(company),
        }
    }

    pub(super) async fn finish(self, reply: Reply, answer: &Answer) -> Response {
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

/// The device with this id, if it belongs to the company.
pub(super) fn own_device<'a>(state: &'a State, company: usize, id: &str) -> Option<&'a Device> {
    state.store.device(id).filter(|device| device.company == company)
}

/// The device of the session with this token, if it belongs to the company.
pub(super) fn device_of_own(state: &State, company: usize, token: &str) -> Option<Arc<str>> {
    state.store.device_of(token).filter(|device| state.store.company_of(device) == company)
}

/// The page with this number, if there can be one.
pub(super) fn page(number: Option<usize>, size: usize) -> Option<ListPage> {
    let number = number.unwrap_or(1);
    (number >= 1).then_some(ListPage { number, size })
}

/// The page of devices or sessions that is asked for, if there can be one.
pub(super) fn list_page(pages: &Pages) -> Option<ListPage> {
    let limit = pages.limit.unwrap_or(LIST_LIMIT);
    page(pages.page, limit).filter(|_| (1..=LIST_LIMIT).contains(&limit))
}

/// Notes that a request is not as documented, and refuses it.
pub(super) fn malformed(state: &mut State, api: &ApiCall, error: &str) -> Reply {
    state.violation(format!("{} {} is malformed: {error}", api.method, api.path));
    Reply::refusal(400, "Parameter missing or not allowed")
}

pub(super) fn no_device(id: String) -> Reply {
    Reply::Refusal { status: 404, description: "Device not found", about: About::Device(id) }
}

pub(super) fn no_session_at_all(token: String) -> Reply {
    Reply::Refusal { status: 404, description: "Session not found", about: About::Session(token) }
}
