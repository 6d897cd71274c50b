//! Requests as the fake parses them: exactly the documented fields, and no others.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};

/// Text that is borrowed from the request if it has no escapes (serde borrows inside an `Option`
/// only in this way).
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Body of `POST /passings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Insert<'a> {
    #[serde(borrow)]
    pub(super) token_session: Text<'a>,
    #[serde(borrow)]
    pub(super) passings_list: Vec<Passing<'a>>,
}

/// One passing of the insert. Fields that are only checked for their type are not stored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Passing<'a> {
    #[serde(deserialize_with = "stamp")]
    pub(super) timestamp: i64,
    pub(super) num_passing: u64,
    #[serde(borrow)]
    pub(super) bib: Text<'a>,
    #[serde(borrow, default)]
    pub(super) chip: Option<Text<'a>>,
    #[serde(borrow, default, rename = "participant_id")]
    _participant_id: Option<Text<'a>>,
    #[serde(default, rename = "latitude")]
    _latitude: Option<f64>,
    #[serde(default, rename = "longitude")]
    _longitude: Option<f64>,
    #[serde(borrow, default, rename = "status")]
    _status: Option<Text<'a>>,
    #[serde(borrow, default, rename = "timezone")]
    _timezone: Option<Text<'a>>,
    #[serde(borrow, default, rename = "gender")]
    _gender: Option<Text<'a>>,
}

/// Body of `POST /sessions`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenSession {
    pub(super) deviceid: String,
    #[serde(default)]
    pub(super) alias: Option<String>,
}

/// Body of `POST /devices`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BindDevice {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) model: String,
    pub(super) serial_number: String,
    #[serde(default)]
    pub(super) alias: Option<String>,
    #[serde(default)]
    pub(super) firmware: Option<String>,
}

/// Query of `GET /passings/session/{token}`. Both ends belong to the range.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NumberRange {
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) page: Option<usize>,
}

/// Query of `GET /passings/device/{device}`. Both ends belong to the range.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeRange {
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    pub(super) page: Option<usize>,
}

/// Query of `GET /passings/device2/{device}`. Both times belong to the range, and the number `last`
/// does not: the answer begins after it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContinueFrom {
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    pub(super) token_session: Option<String>,
    pub(super) last: Option<u64>,
    pub(super) page: Option<usize>,
}

/// Query of `GET /devices` and `GET /sessions/device/{device}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pages {
    pub(super) page: Option<usize>,
    pub(super) limit: Option<usize>,
}

/// Parses a bind, or returns what is wrong with it.
pub(super) fn bind(body: &[u8]) -> Result<BindDevice, String> {
    let bind: BindDevice = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if bind.model.is_empty() || bind.serial_number.is_empty() {
        return Err("model or serial_number is empty".to_owned());
    }
    Ok(bind)
}

/// Parses an insert, or returns what is wrong with it.
pub(super) fn insert(body: &[u8]) -> Result<Insert<'_>, String> {
    let insert: Insert<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if insert.token_session.0.is_empty() {
        return Err("token_session is empty".to_owned());
    }
    if insert.passings_list.is_empty() {
        return Err("passings_list is empty".to_owned());
    }
    if let Some(passing) = insert.passings_list.iter().find(|passing| passing.bib.0.is_empty()) {
        return Err(format!("number {} has an empty bib", passing.num_passing));
    }
    Ok(insert)
}

/// Converts `YYYY-MM-DDTHH:mm:ss.sssZ` to milliseconds since 1970. It is the only form that both
/// generations document.
fn stamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let Text(text) = Text::deserialize(deserializer)?;
    let bytes = text.as_bytes();
    let form = bytes.len() == 24 && bytes[10] == b'T' && bytes[19] == b'.' && bytes[23] == b'Z';
    let instant: Option<Timestamp> = if form { text.parse().ok() } else { None };
    instant
        .map(Timestamp::as_millisecond)
        .ok_or_else(|| de::Error::custom(format_args!("timestamp `{text}` is not YYYY-MM-DDTHH:mm:ss.sssZ")))
}
