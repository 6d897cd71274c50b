//! Turns the bytes of an answer into a typed outcome. These functions are pure: their input is
//! status, headers and body. They have no sockets, no key and no clock.
//!
//! Two generations of answers exist, and the documents leave much open (no active session, an empty
//! list and a closed session have no documented status). So an answer is read by class, in this
//! order: whether it is from the cloud at all (HTML or a redirect is not), the status, which may be
//! *inside* the envelope, the words of the answer, and its fields. Words decide only between
//! failures and for "none". A success needs a documented text, or counts that add up.
//!
//! Two sentences are believed only in the cloud's own documented words, because their consequences
//! cannot be undone. *"Inserted"* settles passings. *"There is no active session"* lets a new
//! session close the running one. An answer in any other form is a doubt: the caller asks again, or
//! asks something else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::Offset;
use reqwest::header::{self, HeaderMap};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::outcome::{CallError, CloudPassing, Inserted, KeyFault, OutcomeDoubt, Page, Session};

pub(super) mod account;

/// Longest part of an answer that is kept, in bytes.
const ANSWER_KEPT: usize = 2048;
/// Longest name of a session or device that is kept, in characters.
const NAME_KEPT: usize = 200;
/// Longest session token, in bytes. The samples have 64.
const TOKEN_MAX: usize = 512;
/// Longest wait a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// If an answer contains one of these words, it reports a temporary trouble, whatever else it says.
const TROUBLE: &[&str] = &[
    "again",
    "busy",
    "denied",
    "error",
    "exceed",
    "exception",
    "fail",
    "later",
    "limit",
    "lock",
    "maintenance",
    "overload",
    "temporar",
    "throttl",
    "timed out",
    "timeout",
    "too many",
    "unavailable",
];
/// What the documents say that was done, before "succesfully".
const DONE: &[&str] = &["passings inserted", "session inserted", "session closed", "device binded", "device unbinded"];
/// Most nested envelopes that are opened (other gateways send `body` as a JSON string inside
/// `body`).
const ENVELOPES: usize = 3;

/// An answer as it was received.
pub(super) struct Reply<'a> {
    /// HTTP status.
    pub status: u16,
    /// HTTP headers.
    pub headers: &'a HeaderMap,
    /// Body, within its limit.
    pub body: &'a [u8],
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    #[serde(borrow, rename = "statusCode")]
    status: Option<&'a RawValue>,
}

/// Returns the body without its envelopes, and the status that an envelope holds instead of the
/// HTTP status.
fn unwrapped(body: &[u8]) -> (Option<u16>, Cow<'_, [u8]>) {
    let mut status = None;
    let mut inner = Cow::Borrowed(body.trim_ascii());
    for _ in 0..ENVELOPES {
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&inner) else { break };
        let told = envelope.status.and_then(|raw| raw.get().trim_matches('"').parse().ok());
        status = told.or(status);
        let Some(body) = envelope.body else { break };
        inner = Cow::Owned(match serde_json::from_str::<String>(body.get()) {
            Ok(text) => text.trim().as_bytes().to_vec(),
            Err(_) => body.get().as_bytes().to_vec(),
        });
    }
    (status, inner)
}

/// An answer of class 2xx that is JSON, without its envelopes.
struct Doc {
    value: Value,
    words: String,
    answer: Box<str>,
}

/// Returns every answer that is no success as an error, by its class. The remaining answers are
/// JSON with status 2xx.
fn open<'a>(reply: &Reply<'a>) -> Result<(Doc, Cow<'a, [u8]>), CallError> {
    open_as(reply, |inner| serde_json::from_slice(inner).ok())
}

/// Like [`open`], but `parse` parses the JSON of the answer.
fn open_as<'a>(
    reply: &Reply<'a>,
    parse: impl FnOnce(&[u8]) -> Option<Value>,
) -> Result<(Doc, Cow<'a, [u8]>), CallError> {
    let (told, inner) = unwrapped(reply.body);
    let status = told.filter(|_| reply.status < 300).unwrap_or(reply.status);
    let answer = kept(&inner);
    let value = parse(&inner);
    let words = value.as_ref().map_or_else(|| answer.to_lowercase(), words);
    match status {
        413 => return Err(CallError::TooLarge { answer }),
        429 => return Err(CallError::TooMany { retry_after: retry_after(reply.headers) }),
        300..=399 | 407 | 511 => return Err(CallError::Portal),
        408 | 425 | 500.. => {
            let why = OutcomeDoubt::Server { status, answer };
            return Err(CallError::Unknown { why, retry_after: retry_after(reply.headers) });
        }
        _ if is_web_page(reply) => return Err(CallError::Portal),
        400..=499 => return Err(refusal(status, &words, answer)),
        200..=299 => {}
        _ => return Err(unreadable(&answer)),
    }
    match value {
        Some(value) => Ok((Doc { value, words, answer }, inner)),
        None => Err(unreadable(&answer)),
    }
}

fn is_web_page(reply: &Reply<'_>) -> bool {
    let html = |value: &header::HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"text/html");
    let body = reply.body.trim_ascii_start();
    // Some gateways label JSON as HTML, so the body decides.
    body.starts_with(b"<") || (reply.headers.get(header::CONTENT_TYPE).is_some_and(html) && !body.starts_with(b"{"))
}

/// A 4xx, or a 2xx whose words are a refusal.
fn refusal(status: u16, words: &str, answer: Box<str>) -> CallError {
    match status {
        401 | 403 => key_refused(status, words, answer),
        _ if says_key(words) => key_refused(status, words, answer),
        _ if says_no_device(words) => CallError::DeviceUnknown { answer },
        404 | 410 => CallError::SessionGone { status, answer },
        _ if says_no_session(words) => CallError::SessionGone { status, answer },
        _ => CallError::BadRequest { status, answer },
    }
}

fn key_refused(status: u16, words: &str, answer: Box<str>) -> CallError {
    let wrong = ["access type", "access_type", "permission", "not allowed", "read", "write"];
    let fault = if has(words, &wrong) { KeyFault::WrongAccess } else { KeyFault::Rejected };
    CallError::KeyRefused { status, fault, answer }
}

fn has(words: &str, any: &[&str]) -> bool {
    any.iter().any(|word| words.contains(word))
}

fn says_no_session(words: &str) -> bool {
    words.contains("session")
        && has(words, &["not found", "closed", "not active", "inactive", "does not exist"])
        && !has(words, TROUBLE)
}

fn says_no_device(words: &str) -> bool {
    words.contains("device")
        && !words.contains("session")
        && has(words, &["not found", "does not exist", "unknown", "not bound"])
}

fn says_key(words: &str) -> bool {
    has(words, &["api key", "api_key", "apikey", "access type", "forbidden", "unauthorized", "not authorized"])
}

/// Checks for the texts that the documents define for a success. The cloud spells "successfully"
/// with one letter less, and both spellings count.
fn says_success(words: &str) -> bool {
    let plain = words.trim().trim_end_matches(['.', '!']);
    let ends = |what: &str| {
        let rest = plain.strip_prefix(what).map(str::trim_start);
        matches!(rest, Some("succesfully" | "successfully"))
    };
    plain == "success" || DONE.iter().any(|what| ends(what))
}

/// Returns the failure that a 2xx without the fields of a success reports, if it reports one.
fn hidden_failure(doc: &Doc) -> Option<CallError> {
    let answer = doc.answer.clone();
    if says_success(&doc.words) {
        None
    } else if has(&doc.words, TROUBLE) {
        Some(unreadable(&doc.answer))
    } else if says_no_session(&doc.words) || says_no_device(&doc.words) || says_key(&doc.words) {
        Some(refusal(200, &doc.words, answer))
    } else if has(&doc.words, &["missing", "required", "invalid", "bad request", "validation"]) {
        Some(CallError::BadRequest { status: 200, answer })
    } else {
        None
    }
}

/// `POST /passings` of `sent` passings into the session `token`.
///
/// A success has a documented text, or counts that account for everything that was sent. Of the
/// failures that a 2xx may report, only "session not found or closed" is certain. Every other 2xx
/// leaves open whether the passings were stored.
pub(super) fn inserted(reply: &Reply<'_>, token: &str, sent: usize) -> Result<Inserted, CallError> {
    let (doc, _) = open(reply)?;
    let counts = Inserted {
        inserted: doc.value.get("inserted_count").and_then(number),
        duplicates: doc.value.get("duplicate_count").and_then(number),
    };
    let other = self::token(&doc.value).is_some_and(|theirs| !theirs.eq_ignore_ascii_case(token));
    let counted = counts.inserted.unwrap_or(0).saturating_add(counts.duplicates.unwrap_or(0));
    if !other && (says_success(&doc.words) || (counted == sent as u64 && counts.inserted.is_some())) {
        return Ok(counts);
    }
    match hidden_failure(&doc) {
        Some(gone @ CallError::SessionGone { .. }) if counted == 0 => Err(gone),
        _ => Err(unreadable(&doc.answer)),
    }
}

/// `POST /sessions`
pub(super) fn created(reply: &Reply<'_>, alias: &str) -> Result<Session, CallError> {
    let (doc, _) = open(reply)?;
    let token = token(&doc.value).or_else(|| token(listed(&doc.value).first()?));
    match token {
        Some(token) => Ok(Session { token, alias: Some(alias.into()), passings: Some(0) }),
        None => Err(hidden_failure(&doc).unwrap_or_else(|| unreadable(&doc.answer))),
    }
}

/// `GET /sessions/device/{device}/active`. The result is `None` only in the cloud's own words: the
/// documented "not found", or a `result` that is empty, null, or lists only sessions that are not
/// active. Every other answer counts as not understood.
pub(super) fn active(reply: &Reply<'_>) -> Result<Option<Session>, CallError> {
    let doc = match open(reply) {
        Ok((doc, _)) => doc,
        Err(CallError::SessionGone { answer, .. }) if says_no_session(&answer.to_lowercase()) => return Ok(None),
        Err(CallError::SessionGone { answer, .. }) => return Err(unreadable(&answer)),
        Err(error) => return Err(error),
    };
    let list = listed(&doc.value);
    let is_active = |one: &&Value| one.get("active").is_none_or(|flag| !is_false(flag));
    if let Some(session) = list.iter().filter(is_active).find_map(read_session) {
        return Ok(Some(session));
    }
    match hidden_failure(&doc) {
        Some(CallError::SessionGone { .. }) => return Ok(None),
        Some(failure) => return Err(failure),
        None => {}
    }
    let over = |one: &Value| one.get("active").is_some_and(is_false) && token(one).is_some();
    // If there is no `result`, `listed` takes the answer itself for the session.
    if result(&doc.value).is_some() && list.iter().all(over) { Ok(None) } else { Err(unreadable(&doc.answer)) }
}

/// `GET /sessions/{token}`. The result is `None` only in the cloud's own words, because passings
/// get new numbers when it is.
pub(super) fn session(reply: &Reply<'_>, token: &str) -> Result<Option<Session>, CallError> {
    let doc = match open(reply) {
        Ok((doc, _)) => doc,
        Err(CallError::SessionGone { answer, .. }) if says_no_session(&answer.to_lowercase()) => return Ok(None),
        Err(CallError::SessionGone { answer, .. }) => return Err(unreadable(&answer)),
        Err(error) => return Err(error),
    };
    let same = |session: &Session| session.token.eq_ignore_ascii_case(token);
    if let Some(session) = listed(&doc.value).iter().filter_map(read_session).find(same) {
        return Ok(Some(session));
    }
    match hidden_failure(&doc) {
        Some(CallError::SessionGone { .. }) => Ok(None),
        Some(failure) => Err(failure),
        None => Err(unreadable(&doc.answer)),
    }
}

#[derive(Deserialize)]
struct HeldBody<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    passings: Option<&'a RawValue>,
    pagination: Option<Value>,
}

/// `GET /passings/session/{token}` and `GET /passings/device/{device}`.
pub(super) fn held(reply: &Reply<'_>) -> Result<Page, CallError> {
    let PassingList { passings, more, .. } = passings(reply)?;
    Ok(Page { passings, more })
}

/// An answer with a list of passings.
struct PassingList<T> {
    passings: Vec<T>,
    /// Whether more pages follow, if the answer says.
    more: Option<bool>,
    /// The answer without the list.
    rest: Value,
}

impl<T> PassingList<T> {
    fn none() -> Self {
        Self { passings: Vec::new(), more: Some(false), rest: Value::Null }
    }
}

/// Reads an answer with a list of passings. "No passings" may be a 404 of its own. Its words
/// distinguish it from "no session". A page has up to 5,000 passings, so only one at a time is in
/// memory as JSON.
fn passings<T: DeserializeOwned>(reply: &Reply<'_>) -> Result<PassingList<T>, CallError> {
    let no_passings =
        |words: &str| words.contains("passing") && words.contains("not found") && !words.contains("session not");
    let (doc, inner) = match open_as(reply, outline) {
        Err(CallError::SessionGone { answer, .. } | CallError::BadRequest { answer, .. })
            if no_passings(&answer.to_lowercase()) =>
        {
            return Ok(PassingList::none());
        }
        other => other?,
    };
    let list = match serde_json::from_slice::<HeldBody<'_>>(&inner) {
        Ok(body) => {
            let more = body.pagination.as_ref().and_then(has_more);
            body.result.or(body.passings).map(|list| (Cow::Borrowed(list.get()), more))
        }
        // The answer is the bare list.
        Err(_) if doc.value.is_array() => Some((String::from_utf8_lossy(&inner), None)),
        Err(_) => return Err(unreadable(&doc.answer)),
    };
    let Some((list, more)) = list else {
        // The answer has no list. It is an empty page if it says so or names `result`. Otherwise it
        // is no answer to this question.
        let told = doc.value.get("result").is_some() || says_success(&doc.words) || no_passings(&doc.words);
        let empty = told && !has(&doc.words, TROUBLE);
        let failure = || hidden_failure(&doc).unwrap_or_else(|| unreadable(&doc.answer));
        return if empty { Ok(PassingList { rest: doc.value, ..PassingList::none() }) } else { Err(failure()) };
    };
    // The list may be a string that holds the list.
    let list = serde_json::from_str::<String>(&list).map_or(list, Cow::Owned);
    if list.trim().is_empty() || has(&doc.words, TROUBLE) {
        return Err(unreadable(&doc.answer));
    }
    let passings = if list.trim_start().starts_with('{') {
        serde_json::from_str::<T>(&list).map(|one| vec![one])
    } else {
        serde_json::from_str::<Vec<T>>(&list)
    };
    Ok(PassingList { passings: passings.map_err(|_| unreadable(&doc.answer))?, more, rest: doc.value })
}

/// Returns whether more pages follow, if `pagination` says.
fn has_more(pagination: &Value) -> Option<bool> {
    pagination.get("has_more")?.as_bool()
}

impl<'de> Deserialize<'de> for CloudPassing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            num_passing: Option<Value>,
            timestamp: Option<Value>,
            bib: Option<Value>,
            chip: Option<Value>,
            token_session: Option<Value>,
        }
        let wire = Wire::deserialize(deserializer)?;
        Ok(Self {
            num: wire.num_passing.as_ref().and_then(number),
            time_ms: wire.timestamp.as_ref().and_then(instant),
            bib: wire.bib.as_ref().and_then(scalar),
            chip: wire.chip.as_ref().and_then(scalar),
            session: wire.token_session.as_ref().and_then(scalar),
        })
    }
}

/// Returns an answer without its list of passings, so that a whole page is never in memory as JSON.
fn outline(inner: &[u8]) -> Option<Value> {
    match inner.first()? {
        b'[' => serde_json::from_slice::<IgnoredAny>(inner).ok().map(|_| Value::Array(Vec::new())),
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(inner).ok()?;
            let short = |name: &str, field: &RawValue| match field.get().as_bytes() {
                [b'[', ..] if name == "result" || name == "passings" => Ok(Value::Array(Vec::new())),
                field => serde_json::from_slice(field),
            };
            let fields = fields.into_iter().map(|(name, field)| {
                let short = short(&name, field)?;
                Ok((name, short))
            });
            fields.collect::<Result<_, serde_json::Error>>().ok().map(Value::Object)
        }
        _ => serde_json::from_slice(inner).ok(),
    }
}

/// Returns `result`. If it is a string that holds JSON, that JSON is parsed.
fn result(value: &Value) -> Option<Cow<'_, Value>> {
    Some(match value.get("result")? {
        Value::String(text) => Cow::Owned(serde_json::from_str(text).ok()?),
        other => Cow::Borrowed(other),
    })
}

/// Returns `result` as a list (it may be an array, one object, null or missing), or the answer
/// itself if it has no `result`.
fn listed(value: &Value) -> Vec<Value> {
    match result(value).map(Cow::into_owned) {
        Some(Value::Array(list)) => list,
        Some(Value::Null) => Vec::new(),
        Some(Value::Object(fields)) if fields.is_empty() => Vec::new(),
        Some(one) => vec![one],
        None => match value {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        },
    }
}

fn read_session(one: &Value) -> Option<Session> {
    let token = token(one)?;
    Some(Session { token, alias: text(one, "alias"), passings: one.get("passings").and_then(number) })
}

fn is_false(flag: &Value) -> bool {
    match flag {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => matches!(text.to_lowercase().as_str(), "false" | "0" | "no"),
        _ => false,
    }
}

/// Returns a string or number as text. An empty string is `None`.
fn scalar(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// Returns a name as one line, cut to a limit.
fn text(value: &Value, key: &str) -> Option<Box<str>> {
    let text = scalar(value.get(key)?)?;
    Some(crate::model::text::printable(&text).chars().take(NAME_KEPT).collect::<String>().into())
}

/// Returns a `token_session` that can be valid. It is written into every batch line, path and
/// answer exactly as it is.
fn token(value: &Value) -> Option<Box<str>> {
    let fits = |text: &str| text.len() <= TOKEN_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    scalar(value.get("token_session")?).filter(|text| fits(text) && !matches!(&**text, "." | ".."))
}

/// Returns a number from 0 up that JSON can carry exactly. New numbers start above the highest
/// number found, so a larger value (a 64-bit identifier) must not be taken for a number.
fn number(value: &Value) -> Option<u64> {
    const EXACT: u64 = 1 << 53;
    let number = match value {
        Value::Number(number) => {
            let whole = |float: &f64| float.fract() == 0.0 && (0.0..=EXACT as f64).contains(float);
            number.as_u64().or_else(|| number.as_f64().filter(whole).map(|float| float as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| *number <= EXACT)
}

/// Parses an instant as the cloud may write it: with any offset, or without one (then UTC), with
/// `T` or a space.
fn instant(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    let local: DateTime = text.parse().ok()?;
    Some(Offset::UTC.to_timestamp(local).ok()?.as_millisecond())
}

/// Returns the words of an answer in lower case: its texts, or the answer itself if it is a text.
fn words(value: &Value) -> String {
    let keys =
        ["description", "message", "Message", "error", "errorMessage", "errorType", "detail", "details", "errors"];
    let words = match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => keys
            .iter()
            .filter_map(|key| match value.get(key)? {
                Value::String(text) => Some(text.clone()),
                Value::Null | Value::Bool(_) => None,
                Value::Array(list) if list.is_empty() => None,
                // A failure may be an object or a list of objects.
                other => Some(format!("error {other}")),
            })
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    };
    words.to_lowercase()
}

fn unreadable(answer: &str) -> CallError {
    let seen = if answer.is_empty() { "empty" } else { answer };
    CallError::Unknown { why: OutcomeDoubt::Unreadable(seen.into()), retry_after: None }
}

/// Returns the part of an answer that is stored: text without control characters, cut to a limit.
fn kept(body: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(&body[..body.len().min(ANSWER_KEPT)]);
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while text.len() > ANSWER_KEPT {
        text.pop(); // bytes that were no text became longer when they were replaced
    }
    text.trim().into()
}

/// Returns `Retry-After`, which is in seconds or a date. A date counts from the answer's own `Date`
/// header, because the box's clock may be wrong and never drives a timer.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = rfc2822::parse(value).ok()?.timestamp();
            let now = rfc2822::parse(headers.get(header::DATE)?.to_str().ok()?).ok()?.timestamp();
            Duration::from_millis(u64::try_from(until.as_millisecond() - now.as_millisecond()).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}
