//! The header of a capture file: which box wrote it, with which options, and when.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::config::{self, DecoderConfig};
use crate::decoders::{Settings, Spec};

/// At most this many lines of a header are kept.
const LINES_MAX: usize = 200;
/// Prefix of an option of the protocol.
const SET: &str = "set.";
/// Stands for the protocol of a decoder that is not supported.
const NONE: &str = "none";

/// `key: value` pairs, in the order of the file. If a key is there twice, the first one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header(Vec<(String, String)>);

/// A value of the header is not in the form that it must have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`# {key}: {value}` in the header of the capture: {why}")]
pub struct HeaderError {
    /// The key of the line.
    pub key: &'static str,
    /// The value of the line.
    pub value: String,
    /// What is allowed.
    pub why: String,
}

impl Header {
    /// The header of a capture of this decoder. This part knows nothing else of the configuration.
    pub fn of(decoder: &DecoderConfig) -> Self {
        let mut header = Self::program();
        header.add("decoder", &decoder.name);
        header.add("protocol", decoder.protocol.name);
        header.add("address", decoder.address.to_string());
        header.add("timezone", decoder.timezone.iana_name().unwrap_or("UTC"));
        header.add_settings(&decoder.set);
        header
    }

    /// A header with only the version of this program.
    pub fn program() -> Self {
        let mut header = Self::default();
        header.add("passbridge", env!("CARGO_PKG_VERSION"));
        header
    }

    /// Adds a line. A key is made of lower-case letters, digits, `.`, `_` and `-`. A line with
    /// another key is not kept.
    pub fn add(&mut self, key: &str, value: impl Into<String>) {
        if is_key(key) && self.0.len() < LINES_MAX {
            self.0.push((key.to_owned(), value.into()));
        }
    }

    /// Adds the options of a protocol.
    pub fn add_settings(&mut self, settings: &Settings) {
        for (key, value) in settings {
            self.add(&format!("{SET}{key}"), value);
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The protocol, if it is known. `none` stands for an unsupported decoder.
    ///
    /// # Errors
    /// The header names a protocol that is not in the registry.
    pub fn protocol(&self) -> Result<Option<&'static Spec>, HeaderError> {
        self.value("protocol", |name| match name {
            NONE => Ok(None),
            name => config::protocol(name).map(Some),
        })
        .map(Option::flatten)
    }

    /// The time zone of the decoder's clock.
    ///
    /// # Errors
    /// The value is not a time zone.
    pub fn zone(&self) -> Result<Option<TimeZone>, HeaderError> {
        self.value("timezone", config::zone)
    }

    /// When the capture began. A record arrived [`super::Record::at`] later.
    ///
    /// # Errors
    /// The value is not a time.
    pub fn began(&self) -> Result<Option<Timestamp>, HeaderError> {
        let must = "must be a time in UTC, such as 2026-03-06T10:00:00Z";
        self.value("began", |text| text.parse().map_err(|_| must.to_owned()))
    }

    /// The options for a protocol: those of the file, unless they are for another protocol.
    pub fn settings_for(&self, spec: &Spec) -> Settings {
        match self.get("protocol") {
            Some(named) if named != spec.name && named != NONE => Settings::new(),
            _ => self.settings(),
        }
    }

    /// The options of the protocol.
    pub fn settings(&self) -> Settings {
        let option = |(key, value): &(String, String)| Some((key.strip_prefix(SET)?.to_owned(), value.clone()));
        self.0.iter().rev().filter_map(option).collect() // of two equal keys the first counts
    }

    fn value<T>(&self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, HeaderError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).map_err(|why| HeaderError { key, value: value.to_owned(), why })
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(key, value)| format!("# {key}: {}", quoted(value)))
    }

    /// Takes a line of the file. A line that is no pair is a remark.
    pub(super) fn take(&mut self, line: &str) {
        if let Some((key, value)) = line.strip_prefix("# ").and_then(|line| line.split_once(": ")) {
            self.add(key, unquoted(value));
        }
    }
}

fn is_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    !key.is_empty() && key.bytes().all(plain)
}

/// The value as it is, or as a JSON string if the plain text would not be read back unchanged.
fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && value.trim() == value
        && !value.starts_with('"')
        && !value.contains(|character: char| character.is_control());
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    match text.starts_with('"') {
        true => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
        false => text.to_owned(),
    }
}
