//! Answers of the fake, in the spelling of its generation.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::config::{Closed, Generation, NoSession, OneForm, SimCloudConfig};
use super::faults::Answer;
use super::pages::Shown;
use super::store::{Continued, Counts, Device, ListPage, SessionView, StoredPassing};
use super::words::Said;

/// The subject of an answer, for the field that names it.
pub(super) enum About {
    Nothing,
    Device(String),
    Session(String),
}

/// The content of an answer, before it is put into the spelling of the generation.
pub(super) enum Reply {
    /// An insert took effect.
    Inserted { token: Arc<str>, counts: Counts },
    /// A refusal with the documented text.
    Refusal { status: u16, description: &'static str, about: About },
    /// An object that is put into the generation's envelope.
    Object { status: u16, json: String },
    /// An answer of a gateway in front of the cloud, never in an envelope.
    Gateway { status: u16, message: &'static str },
}

impl Reply {
    pub(super) fn refusal(status: u16, description: &'static str) -> Self {
        Self::Refusal { status, description, about: About::Nothing }
    }

    pub(super) fn object(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(json) => Self::Object { status, json },
            Err(_) => Self::refusal(500, "not serialisable"),
        }
    }

    /// Token of the session that the answer is about.
    fn token(&self) -> Option<&str> {
        match self {
            Self::Inserted { token, .. } => Some(token),
            Self::Refusal { about: About::Session(token), .. } => Some(token),
            _ => None,
        }
    }

    fn status(&self, generation: Generation) -> u16 {
        match self {
            // Neither code is documented. One known client accepts both.
            Self::Inserted { .. } if generation == Generation::Legacy => 200,
            Self::Inserted { .. } => 201,
            Self::Refusal { status, .. } | Self::Object { status, .. } | Self::Gateway { status, .. } => *status,
        }
    }
}

/// Returns the status that the client sees. `None`: the client gets no whole answer.
pub(super) fn status(config: &SimCloudConfig, reply: &Reply, answer: &Answer) -> Option<u16> {
    match answer {
        Answer::Usual | Answer::NoCounts | Answer::Counts(_) => Some(reply.status(config.generation)),
        Answer::Status(status) | Answer::RetryAfter(status, _) | Answer::Text { status, .. } => Some(*status),
        Answer::Redirect(_) => Some(302),
        Answer::Odd(words) => match words.say(None, reply.status(config.generation), "{}") {
            Said::Bare(status, _) | Said::Wrapped(status, _) => Some(status),
        },
        Answer::Never | Answer::Cut | Answer::CutInside => None,
    }
}

/// Returns the beginning of an answer, for the trace.
pub(super) fn told(config: &SimCloudConfig, reply: &Reply, answer: &Answer) -> String {
    const SHOWN: usize = 240;
    match (status(config, reply, answer), answer) {
        (Some(status), Answer::Usual | Answer::Counts(_) | Answer::NoCounts) => {
            let beginning = |text: &str| text.chars().take(SHOWN).collect::<String>();
            let said = if let Reply::Object { json, .. } = reply {
                beginning(json) // a page of passings is long
            } else {
                beginning(&bare(config, reply, answer))
            };
            format!("{status} {said}")
        }
        _ => format!("{answer:?}"),
    }
}

/// Returns the whole answer. [`Answer::Never`], [`Answer::Cut`] and [`Answer::CutInside`] are
/// spelled as usual, and the caller withholds or cuts them.
pub(super) fn spell(config: &SimCloudConfig, reply: Reply, answer: &Answer) -> Response {
    let plain = |status: u16, content_type: &'static str, body: String, extra: Option<(HeaderName, &str)>| {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some((name, value)) = extra
            && let Ok(value) = HeaderValue::from_str(value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    };
    const JSON: &str = "application/json";
    let generation = config.generation;
    match answer {
        Answer::Text { status, content_type, body } => plain(*status, content_type, body.clone(), None),
        Answer::Redirect(to) => plain(302, "text/html", String::new(), Some((header::LOCATION, to))),
        Answer::Status(status) => {
            plain(*status, JSON, envelope(generation, *status, &failure(generation, *status)), None)
        }
        Answer::RetryAfter(status, value) => {
            let body = json!({ "message": "Too Many Requests" }).to_string();
            plain(*status, JSON, body, Some((header::RETRY_AFTER, value)))
        }
        Answer::Odd(words) => {
            let status = reply.status(generation);
            match words.say(reply.token(), status, &bare(config, &reply, answer)) {
                Said::Bare(status, value) => plain(status, JSON, value.to_string(), None),
                Said::Wrapped(status, value) => {
                    plain(status, JSON, envelope(generation, status, &value.to_string()), None)
                }
            }
        }
        Answer::Usual | Answer::NoCounts | Answer::Counts(_) | Answer::Never | Answer::Cut | Answer::CutInside => {
            let status = reply.status(generation);
            let bare = bare(config, &reply, answer);
            let wrapped = !matches!(reply, Reply::Gateway { .. });
            plain(status, JSON, if wrapped { envelope(generation, status, &bare) } else { bare }, None)
        }
    }
}

/// Returns the usual answer without its envelope.
fn bare(config: &SimCloudConfig, reply: &Reply, answer: &Answer) -> String {
    match reply {
        Reply::Gateway { message, .. } => json!({ "message": message }).to_string(),
        Reply::Object { json, .. } => json.clone(),
        Reply::Refusal { status: 500, .. } => failure(config.generation, 500),
        Reply::Refusal { description, about, .. } => refusal(description, about),
        Reply::Inserted { token, counts } => inserted(config, token, *counts, answer),
    }
}

fn envelope(generation: Generation, status: u16, json: &str) -> String {
    match generation {
        Generation::Legacy => json.to_owned(),
        Generation::OpenApi => format!("{{\"body\":{json}}}"),
        Generation::Gateway => json!({ "statusCode": status, "body": json }).to_string(),
    }
}

fn failure(generation: Generation, status: u16) -> String {
    if generation != Generation::Legacy && status == 500 {
        return "null".to_owned();
    }
    json!({ "description": format!("Simulated error {status}") }).to_string()
}

fn refusal(description: &str, about: &About) -> String {
    match about {
        About::Nothing => json!({ "description": description }),
        About::Device(id) => json!({ "description": description, "deviceid": id }),
        About::Session(token) => json!({ "description": description, "token_session": token }),
    }
    .to_string()
}

/// A number, or the same number as text.
#[derive(Serialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn new(text: bool, number: u64) -> Self {
        if text { Self::Text(number.to_string()) } else { Self::Plain(number) }
    }

    fn count(config: &SimCloudConfig, count: usize) -> Self {
        Self::new(config.habits.text_counts, count as u64)
    }
}

fn inserted(config: &SimCloudConfig, token: &str, counts: Counts, answer: &Answer) -> String {
    #[derive(Serialize)]
    struct Inserted<'a> {
        description: &'a str,
        token_session: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        inserted_count: Option<Number>,
        #[serde(skip_serializing_if = "Option::is_none")]
        duplicate_count: Option<Number>,
    }
    let counts = match answer {
        Answer::NoCounts => None,
        Answer::Counts(n) => Some((*n, 0)),
        _ => Some((counts.inserted, counts.duplicates)),
    };
    let number = |count| Number::count(config, count);
    let body = Inserted {
        description: "Passings inserted succesfully",
        token_session: token,
        inserted_count: counts.map(|(inserted, _)| number(inserted)),
        // The answers of the legacy generation have no count of duplicates.
        duplicate_count: counts
            .filter(|_| config.generation != Generation::Legacy)
            .map(|(_, duplicates)| number(duplicates)),
    };
    serde_json::to_string(&body).unwrap_or_default()
}

/// The answer to an insert into a session that is closed or unknown.
pub(super) fn closed(config: &SimCloudConfig, token: &str) -> Reply {
    let status = match config.closed {
        Closed::NotFound => 404,
        Closed::BadRequest => 400,
        Closed::OkText => 200,
    };
    let about = About::Session(token.to_owned());
    Reply::Refusal { status, description: "Session not found or closed", about }
}

/// The answer that the device has no active session. `last` is the session that closed last.
pub(super) fn no_session(config: &SimCloudConfig, device: &str, last: Option<&SessionView>) -> Reply {
    let value = match config.no_session {
        NoSession::NotFound => {
            let about = About::Device(device.to_owned());
            return Reply::Refusal { status: 404, description: "Session not found", about };
        }
        NoSession::Empty => json!({ "description": "Success", "result": [] }),
        NoSession::Null => json!({ "description": "Success", "result": null }),
        NoSession::Absent => json!({ "description": "Success" }),
        NoSession::Text => json!({ "description": "Sessions not found", "deviceid": device }),
        NoSession::Inactive => {
            json!({ "description": "Success", "result": last.map(|last| one(config, last)).into_iter().collect::<Vec<_>>() })
        }
    };
    Reply::object(200, &value)
}

/// The answer about one session.
pub(super) fn session(config: &SimCloudConfig, view: &SessionView) -> Reply {
    let result = match config.one {
        OneForm::Array => json!([one(config, view)]),
        OneForm::Object => one(config, view),
    };
    Reply::object(200, &json!({ "description": "Success", "result": result }))
}

/// The answer about the sessions of a device.
pub(super) fn sessions(config: &SimCloudConfig, device: &str, views: &[SessionView], page: ListPage) -> Reply {
    if views.is_empty() {
        let result = match config.no_sessions {
            NoSession::NotFound => {
                let about = About::Device(device.to_owned());
                return Reply::Refusal { status: 404, description: "Sessions not found", about };
            }
            NoSession::Empty | NoSession::Inactive => None,
            NoSession::Null => Some(json!({ "description": "Success", "result": null })),
            NoSession::Absent => Some(json!({ "description": "Success" })),
            NoSession::Text => Some(json!({ "description": "Sessions not found", "deviceid": device })),
        };
        if let Some(result) = result {
            return Reply::object(200, &result);
        }
    }
    let range = page.range(views.len());
    let has_more = range.end < views.len();
    let list: Vec<Value> = views[range]
        .iter()
        .map(|view| {
            json!({ "token_session": &*view.token, "alias": view.alias.as_deref(),
                    "creation_date": stamp(view.created_ms), "active": view.active,
                    "passings": Number::count(config, view.passings) })
        })
        .collect();
    listed(config, Shown { list, page: page.number, size: page.size, total: views.len(), has_more })
}

fn one(config: &SimCloudConfig, view: &SessionView) -> Value {
    let (first, last) = view.span_ms.unzip();
    json!({ "token_session": &*view.token, "alias": view.alias.as_deref(), "creation_date": stamp(view.created_ms),
            // The documents call it a length, but define it as a date.
            "duration": stamp(last.unwrap_or(view.created_ms)),
            "active": view.active, "passings": Number::count(config, view.passings), "first": first.map(stamp), "last": last.map(stamp) })
}

#[derive(Serialize)]
struct Pagination {
    page: Number,
    limit: Number,
    total: Number,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_more: Option<bool>,
}

impl Pagination {
    /// The description of the page, if the generation has one.
    fn of<T>(config: &SimCloudConfig, shown: &Shown<T>) -> Option<Self> {
        // Without `has_more`, a page without passings means the end. The legacy form has no such
        // field, so with the habit of empty pages it gets one.
        let paged = config.generation != Generation::Legacy || config.habits.empty_pages.is_some();
        let number = |count| Number::count(config, count);
        paged.then(|| Self {
            page: number(shown.page),
            limit: number(shown.size),
            total: number(shown.total),
            has_more: (!config.habits.no_has_more).then_some(shown.has_more),
        })
    }
}

/// The answer with a list, with `pagination` if the generation has it.
pub(super) fn listed<T: Serialize>(config: &SimCloudConfig, shown: Shown<T>) -> Reply {
    #[derive(Serialize)]
    struct Listed<T> {
        description: &'static str,
        result: Vec<T>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pagination: Option<Pagination>,
    }
    let pagination = Pagination::of(config, &shown);
    Reply::object(200, &Listed { description: "Success", result: shown.list, pagination })
}

/// The answer to a continuing pull.
pub(super) fn continued(
    config: &SimCloudConfig,
    device: &str,
    found: &Continued<'_>,
    shown: Shown<PassingItem<'_>>,
) -> Reply {
    #[derive(Serialize)]
    struct Pulled<'a> {
        description: &'static str,
        deviceid: &'a str,
        session_used: &'a str,
        session_label: &'a str,
        resumed_from: Number,
        passings: Vec<PassingItem<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        pagination: Option<Pagination>,
    }
    let pagination = Pagination::of(config, &shown);
    let pulled = Pulled {
        description: "Success",
        deviceid: device,
        session_used: &found.token,
        session_label: found.alias.as_deref().unwrap_or_default(),
        resumed_from: Number::new(config.habits.text_ids, found.from.unwrap_or(0)),
        passings: shown.list,
        pagination,
    };
    Reply::object(200, &pulled)
}

/// The answer to a continuing pull of a device that never had a session.
pub(super) fn nothing_to_continue(config: &SimCloudConfig, device: &str) -> Reply {
    if config.no_session == NoSession::NotFound {
        let about = About::Device(device.to_owned());
        return Reply::Refusal { status: 404, description: "Session not found", about };
    }
    let value = json!({ "description": "Success", "deviceid": device, "session_used": null, "session_label": null,
                        "resumed_from": 0, "passings": [] });
    Reply::object(200, &value)
}

/// A passing as a reading call returns it.
#[derive(Serialize)]
pub(super) struct PassingItem<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token_session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deviceid: Option<&'a str>,
    timestamp: String,
    num_passing: Number,
    bib: &'a str,
    chip: Option<&'a str>,
    participant_id: Option<&'a str>,
    status: Option<&'a str>,
    timezone: Option<&'a str>,
    latitude: &'a str,
    longitude: &'a str,
}

impl<'a> PassingItem<'a> {
    /// `place`: device and token. A continuing pull names them once for all passings.
    pub(super) fn new(config: &SimCloudConfig, place: Option<(&'a str, &'a str)>, stored: &'a StoredPassing) -> Self {
        let (deviceid, token_session) = place.unzip();
        Self {
            token_session,
            deviceid,
            timestamp: stamp(stored.time_ms),
            num_passing: Number::new(config.habits.text_ids, stored.num),
            bib: &stored.bib,
            chip: stored.chip.as_deref(),
            participant_id: None,
            status: None,
            timezone: None,
            // These are text in every sample of stored passings.
            latitude: "",
            longitude: "",
        }
    }
}

/// A device as the generation shows it.
/// `counts`: its sessions, and the passings in them.
pub(super) fn device(config: &SimCloudConfig, device: &Device, (sessions, passings): (usize, usize)) -> Value {
    let mut value = json!({
        "deviceid": &*device.id, "type": device.kind, "model": device.model, "alias": device.alias,
        "firmware": device.firmware, "serial_number": device.serial_number,
        "creation_date": stamp(device.created_ms), "sessions": sessions,
    });
    if let Value::Object(fields) = &mut value {
        match config.generation {
            Generation::Legacy => {
                fields.insert("passings".to_owned(), passings.into());
                fields.insert("last_seen".to_owned(), Value::Null);
            }
            Generation::OpenApi | Generation::Gateway => {
                fields.insert("last_login".to_owned(), Value::Null);
                fields.insert("device_status".to_owned(), Value::Null);
            }
        }
    }
    value
}

/// Milliseconds since 1970 in the documented form.
fn stamp(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|instant| format!("{instant:.3}")).unwrap_or_default()
}
