//! Answers to the calls that a timer makes by hand: devices, lists of sessions, and stored passings
//! with all of their fields.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::outcome::{Bound, CallError, Device, FullPage, FullPassing, ListPage, Pulled, SessionInfo};
use super::{
    Doc, PassingList, Reply, has_more, hidden_failure, instant, is_false, listed, number, open, passings, read_session,
    result, says_no_session, says_success, scalar, text, unreadable, unwrapped,
};

/// `GET /devices/{device}`
pub(in super::super) fn device(reply: &Reply<'_>) -> Result<Device, CallError> {
    let (doc, _) = match open(reply) {
        Err(CallError::SessionGone { answer, .. }) => return Err(CallError::DeviceUnknown { answer }),
        other => other?,
    };
    let known = |one: &Value| ["deviceid", "model", "serial_number", "alias"].iter().any(|key| one.get(key).is_some());
    match listed(&doc.value).into_iter().find(known) {
        Some(one) => Ok(read_device(&one)),
        None => Err(failure(&doc)),
    }
}

fn read_device(one: &Value) -> Device {
    let time = |key: &str| one.get(key).and_then(instant);
    let flag = |value: &Value| value.as_bool().or_else(|| is_false(value).then_some(false));
    Device {
        id: one.get("deviceid").and_then(scalar).filter(|id| fits_a_path(id)),
        alias: text(one, "alias"),
        kind: text(one, "type"),
        model: text(one, "model"),
        serial_number: text(one, "serial_number"),
        firmware: text(one, "firmware"),
        created_ms: time("creation_date"),
        seen_ms: time("last_seen").or_else(|| time("last_login")),
        sessions: one.get("sessions").and_then(number),
        passings: one.get("passings").and_then(number),
        status: text(one, "device_status"),
        battery: one.get("battery_percentage").and_then(number),
        charging: one.get("charging").and_then(flag),
    }
}

/// Checks that an identity can stand in a path and in a configuration.
fn fits_a_path(id: &str) -> bool {
    id.len() <= super::TOKEN_MAX && id.bytes().all(|byte| byte.is_ascii_graphic()) && !matches!(id, "." | "..")
}

/// `GET /devices`. `result` may be missing when there is no device.
pub(in super::super) fn devices(reply: &Reply<'_>) -> Result<ListPage<Device>, CallError> {
    let (doc, _) = match open(reply) {
        // A company without devices.
        Err(CallError::DeviceUnknown { answer }) if answer.to_lowercase().contains("devices not found") => {
            return Ok(ListPage::none());
        }
        Err(CallError::SessionGone { answer, .. }) => return Err(unreadable(&answer)),
        other => other?,
    };
    page(&doc, |one| Some(read_device(one)).filter(|device| device.id.is_some()))
}

/// `GET /sessions/device/{device}`. A device without sessions may be answered with 404.
pub(in super::super) fn sessions(reply: &Reply<'_>) -> Result<ListPage<SessionInfo>, CallError> {
    let (doc, _) = match open(reply) {
        Err(CallError::SessionGone { answer, .. }) if says_no_session(&answer.to_lowercase()) => {
            return Ok(ListPage::none());
        }
        Err(CallError::SessionGone { answer, .. }) => return Err(unreadable(&answer)),
        other => other?,
    };
    page(&doc, session_info)
}

/// Reads a page of a list. Every item must be understood, because a list with a hole would be shown
/// as if it were whole.
fn page<T>(doc: &Doc, read: impl Fn(&Value) -> Option<T>) -> Result<ListPage<T>, CallError> {
    let pagination = doc.value.get("pagination").filter(|pagination| pagination.is_object());
    let page = |items| ListPage {
        items,
        more: pagination.and_then(has_more),
        total: pagination.and_then(|pagination| pagination.get("total")).and_then(number),
        is_paged: pagination.is_some(),
    };
    if result(&doc.value).is_none() && !doc.value.is_array() {
        return match hidden_failure(doc) {
            Some(CallError::SessionGone { .. }) => Ok(ListPage::none()),
            Some(failure) => Err(failure),
            None if says_success(&doc.words) => Ok(page(Vec::new())),
            None => Err(unreadable(&doc.answer)),
        };
    }
    let items = listed(&doc.value).iter().map(read).collect::<Option<Vec<T>>>();
    Ok(page(items.ok_or_else(|| unreadable(&doc.answer))?))
}

impl<T> ListPage<T> {
    fn none() -> Self {
        Self { items: Vec::new(), more: Some(false), total: None, is_paged: false }
    }
}

fn session_info(one: &Value) -> Option<SessionInfo> {
    let time = |key: &str| one.get(key).and_then(instant);
    Some(SessionInfo {
        session: read_session(one)?,
        active: one.get("active").map(|flag| !is_false(flag)),
        created_ms: time("creation_date"),
        first_ms: time("first"),
        last_ms: time("last"),
    })
}

/// `GET /sessions/{token}`, with all that the cloud tells about the session `token`.
pub(in super::super) fn one_session(reply: &Reply<'_>, token: &str) -> Result<Option<SessionInfo>, CallError> {
    let Some(found) = super::session(reply, token)? else { return Ok(None) };
    let (doc, _) = open(reply)?;
    Ok(listed(&doc.value).iter().filter_map(session_info).find(|info| info.session == found))
}

/// `POST /devices`. A serial number that is bound already is answered with 409, or with a success,
/// and its device.
pub(in super::super) fn bound(reply: &Reply<'_>) -> Result<Bound, CallError> {
    let (told, inner) = unwrapped(reply.body);
    let status = told.filter(|_| reply.status < 300).unwrap_or(reply.status);
    let value: Value = serde_json::from_slice(&inner).unwrap_or_default();
    let id = |value: &Value| value.get("deviceid").and_then(scalar).filter(|id| fits_a_path(id));
    let device = id(&value).or_else(|| id(listed(&value).first()?));
    if let (409, Some(device)) = (status, &device) {
        return Ok(Bound { device: device.clone(), before: true });
    }
    let (doc, _) = open(reply)?;
    let device = device.ok_or_else(|| failure(&doc))?;
    Ok(Bound { device, before: doc.words.contains("already") })
}

/// `DELETE /devices/{device}`
pub(in super::super) fn unbound(reply: &Reply<'_>) -> Result<(), CallError> {
    let (doc, _) = match open(reply) {
        Err(CallError::SessionGone { answer, .. }) => return Err(CallError::DeviceUnknown { answer }),
        other => other?,
    };
    done(&doc)
}

/// `PATCH /sessions/close/{token}`
pub(in super::super) fn closed(reply: &Reply<'_>) -> Result<(), CallError> {
    let (doc, _) = open(reply)?;
    done(&doc)
}

/// A success has a documented text.
fn done(doc: &Doc) -> Result<(), CallError> {
    if says_success(&doc.words) { Ok(()) } else { Err(failure(doc)) }
}

fn failure(doc: &Doc) -> CallError {
    hidden_failure(doc).unwrap_or_else(|| unreadable(&doc.answer))
}

/// `GET /passings/session/{token}` and `GET /passings/device/{device}`, with every field.
pub(in super::super) fn held_in_full(reply: &Reply<'_>) -> Result<FullPage, CallError> {
    let PassingList { passings, more, .. } = passings(reply)?;
    Ok(FullPage { passings, more })
}

/// `GET /passings/device2/{device}`
pub(in super::super) fn pulled(reply: &Reply<'_>) -> Result<Pulled, CallError> {
    let PassingList { passings, more, rest } = match passings(reply) {
        // A device without a session has no passings yet.
        Err(CallError::SessionGone { answer, .. }) if says_no_session(&answer.to_lowercase()) => {
            return Ok(Pulled::default());
        }
        other => other?,
    };
    Ok(Pulled {
        session: rest.get("session_used").and_then(scalar),
        label: text(&rest, "session_label"),
        resumed_from: rest.get("resumed_from").and_then(number),
        passings,
        more,
    })
}

impl<'de> Deserialize<'de> for FullPassing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if !value.is_object() {
            return Err(serde::de::Error::custom("a passing is an object"));
        }
        let field = |key: &str| text(&value, key);
        Ok(Self {
            timestamp: field("timestamp"),
            time_ms: value.get("timestamp").and_then(instant),
            num_passing: value.get("num_passing").and_then(number),
            bib: field("bib"),
            chip: field("chip"),
            participant_id: field("participant_id"),
            latitude: field("latitude"),
            longitude: field("longitude"),
            status: field("status"),
            timezone: field("timezone"),
            gender: field("gender"),
            token_session: value.get("token_session").and_then(scalar),
            deviceid: value.get("deviceid").and_then(scalar),
        })
    }
}
