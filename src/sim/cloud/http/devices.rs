//! `/devices`: bind, list, one, unbind.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::response::Response;
use jiff::Timestamp;
use serde_json::json;

use crate::sim::cloud::answers::{self, About, Reply};
use crate::sim::cloud::call::{Call, list_page, malformed, no_device, own_device};
use crate::sim::cloud::config::{BindType, Rebind};
use crate::sim::cloud::pages::Shown;
use crate::sim::cloud::requests::{self, Pages};
use crate::sim::cloud::store::{Bound, Device};

pub(super) async fn bind(call: Call, body: Bytes) -> Response {
    let api = call.api;
    call.answer(|state, company| {
        let request = match requests::bind(&body) {
            Ok(request) => request,
            Err(error) => return malformed(state, api, &error),
        };
        // Versions of the documents contradict each other, so neither is a mistake of the client.
        match (state.config.bind_type, &request.kind) {
            (BindType::Required, None) => return Reply::refusal(400, "Parameter type is missing"),
            (BindType::Refused, Some(_)) => return Reply::refusal(400, "Parameter type is not allowed"),
            _ => {}
        }
        let bound = state.store.bind(Device {
            id: Default::default(),
            company,
            alias: request.alias.unwrap_or_default(),
            kind: request.kind.unwrap_or_default(),
            model: request.model,
            serial_number: request.serial_number,
            firmware: request.firmware,
            created_ms: Timestamp::now().as_millisecond(),
        });
        let (status, description, id) = match (bound, state.config.rebind) {
            (Bound::New(id), _) => (201, "Device binded succesfully", id),
            (Bound::Already(id), Rebind::Conflict) => (409, "Device already binded", id),
            (Bound::Already(id), Rebind::Success) => (200, "Device binded succesfully", id),
            (Bound::Full, _) => return Reply::refusal(507, "The simulated cloud is full"),
        };
        Reply::object(status, &json!({ "description": description, "deviceid": &*id }))
    })
    .await
}

pub(super) async fn list(call: Call, query: Result<Query<Pages>, QueryRejection>) -> Response {
    let api = call.api;
    call.answer(|state, company| {
        let Ok(Query(pages)) = query else { return malformed(state, api, "query") };
        let Some(page) = list_page(&pages) else { return malformed(state, api, "page or limit") };
        let (config, store) = (&state.config, &state.store);
        let all: Vec<&Device> = store.devices(company).collect();
        let range = page.range(all.len());
        let (has_more, total) = (range.end < all.len(), all.len());
        let list = all[range].iter().map(|device| answers::device(config, device, store.counts(&device.id))).collect();
        answers::listed(config, Shown { list, page: page.number, size: page.size, total, has_more })
    })
    .await
}

pub(super) async fn one(call: Call, Path(id): Path<String>) -> Response {
    call.answer(|state, company| match own_device(state, company, &id) {
        None => no_device(id),
        Some(device) => {
            let result = answers::device(&state.config, device, state.store.counts(&id));
            Reply::object(200, &json!({ "description": "Success", "result": result }))
        }
    })
    .await
}

/// Erases the device, its sessions and their passings. A key without the right that tries it is
/// noted, because passbridge never sends this call with such a key.
pub(super) async fn unbind(call: Call, Path(id): Path<String>) -> Response {
    call.answer(|state, company| {
        if own_device(state, company, &id).is_none() {
            return no_device(id);
        }
        state.store.unbind(&id);
        state.config.forget_device(&id);
        Reply::Refusal { status: 200, description: "Device unbinded succesfully", about: About::Device(id) }
    })
    .await
}
