//! `/sessions`: open, close, list, the active one, one.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::response::Response;
use serde_json::json;

use crate::sim::cloud::answers::{self, Reply};
use crate::sim::cloud::call::{Call, device_of_own, list_page, malformed, no_device, no_session_at_all, own_device};
use crate::sim::cloud::habits::{Stale, ago};
use crate::sim::cloud::requests::{OpenSession, Pages};
use crate::sim::cloud::state::State;
use crate::sim::cloud::store::SessionView;

pub(super) async fn open(call: Call, body: Bytes) -> Response {
    let api = call.api;
    call.answer(|state, company| {
        let request: OpenSession = match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => return malformed(state, api, &error.to_string()),
        };
        if own_device(state, company, &request.deviceid).is_none() {
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

pub(super) async fn close(call: Call, Path(token): Path<String>) -> Response {
    call.answer(|state, company| {
        if device_of_own(state, company, &token).is_none() {
            return no_session_at_all(token);
        }
        state.store.close(&token);
        Reply::object(200, &json!({ "description": "Session closed succesfully", "token_session": token }))
    })
    .await
}

pub(super) async fn list(
    call: Call,
    Path(device): Path<String>,
    query: Result<Query<Pages>, QueryRejection>,
) -> Response {
    let api = call.api;
    call.answer(|state, company| {
        let Ok(Query(pages)) = query else { return malformed(state, api, "query") };
        let Some(page) = list_page(&pages) else { return malformed(state, api, "page or limit") };
        if own_device(state, company, &device).is_none() {
            return no_device(device);
        }
        let at = ago(state.config.habits.lag_sessions);
        answers::sessions(&state.config, &device, &state.store.sessions(&device, at), page)
    })
    .await
}

pub(super) async fn active(call: Call, Path(device): Path<String>) -> Response {
    call.answer(|state, company| {
        if own_device(state, company, &device).is_none() {
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

pub(super) async fn one(call: Call, Path(token): Path<String>) -> Response {
    call.answer(|state, company| {
        let own = device_of_own(state, company, &token).is_some();
        let at = ago(state.config.habits.lag_sessions);
        match state.store.session(&token, at).filter(|_| own) {
            Some(view) => answers::session(&state.config, &view),
            None => no_session_at_all(token),
        }
    })
    .await
}
