//! The layers of the configuration. Crate `config` merges them, and this part reads them key by key
//! so that an error can name each mistake.
//!
//! What must hold: an error names the place (file and line, environment variable or flag), the key,
//! the value and what is allowed, in one line. It never repeats a value that may be a secret,
//! wherever the value is.
//!
//! Hidden: crate `config` merges but forgets positions, so the file is parsed once more for its
//! lines ([`super::toml_text`]). A variable whose name is no plain key would reach into a list of
//! the file (`DECODER[0]__ADDRESS`), so it is refused by its name before the crate sees it.
//! Rejected: serde with `deny_unknown_fields`, because its messages name neither the line nor what
//! a value may be.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Value, ValueKind};

use super::nearest::did_you_mean;
use super::secret::{looks_like_key, without_keys};
use super::toml_text::{self, Spot};
use crate::model::text::printable;

/// Every variable of passbridge begins with this. `__` separates section and key.
pub(super) const PREFIX: &str = "PASSBRIDGE__";
/// A configuration is written by hand, so a file that is larger than this is another file.
pub(super) const FILE_LIMIT: u64 = 1 << 20;
/// At most this many characters of a value are repeated in an error.
const SHOWN: usize = 80;

/// What is wrong with the configuration: one line with the place, the key, the value and what is
/// allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    what: String,
}

impl ConfigError {
    pub(super) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }

    /// Whether the mistake is in a flag of the command line.
    pub fn is_of_a_flag(&self) -> bool {
        self.place.starts_with("flag ")
    }

    /// Whether the mistake is in a variable of the environment.
    pub fn is_of_the_environment(&self) -> bool {
        self.place.starts_with("environment ")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages of libraries may have several lines, but a log line and a line of `check` must
        // not.
        let text = format!("{}: {}", self.place, self.what);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        f.write_str(&printable(&without_keys(&line)))
    }
}

impl std::error::Error for ConfigError {}

/// The merged layers, and the position of each key in the file.
pub(super) struct Layers {
    file: PathBuf,
    spots: HashMap<String, Spot>,
    root: config::Map<String, Value>,
    /// The errors for variables that are not taken.
    pub(super) refused: Vec<ConfigError>,
}

impl Layers {
    /// Takes `text` for the content of `file` and puts the environment and the flags (`key`, `flag`,
    /// value) over it.
    pub(super) fn read(
        file: &Path,
        text: &str,
        environment: &BTreeMap<String, String>,
        flags: &[(&'static str, &'static str, String)],
    ) -> Result<Self, ConfigError> {
        let shown = file.display().to_string();
        let positions = toml_text::positions(text)
            .map_err(|mistake| ConfigError::new(format!("{shown}:{}", mistake.line), mistake.what))?;
        let (mut variables, mut refused) = (environment.clone(), Vec::new());
        variables.retain(|name, _| match reaches_too_far(name) {
            None => true,
            Some(why) => {
                refused.push(ConfigError::new(format!("environment {name}"), why));
                false
            }
        });
        let variables = variables.into_iter().collect();
        let source = Environment::with_prefix(PREFIX.trim_end_matches('_')).separator("__").source(Some(variables));
        let mut builder =
            config::Config::builder().add_source(File::from_str(&positions.text, FileFormat::Toml)).add_source(source);
        for (key, flag, value) in flags {
            let value = Value::new(Some(&format!("flag {flag}")), value.as_str());
            builder = builder.set_override(*key, value).map_err(|error| ConfigError::new(*flag, error.to_string()))?;
        }
        let merged = builder.build().map_err(|error| ConfigError::new(shown.as_str(), error.to_string()))?;
        let root = merged.cache.into_table().map_err(|error| ConfigError::new(shown, error.to_string()))?;
        Ok(Self { file: file.to_owned(), spots: positions.spots, root, refused })
    }

    /// The top level, and an error for each of its keys that is not among `known`.
    pub(super) fn root(&self, known: &'static [&'static str]) -> (Section<'_>, Vec<ConfigError>) {
        let root = Section { layers: self, path: String::new(), values: self.root.clone(), known };
        let strangers = root.strangers();
        (root, strangers)
    }

    /// The line of a key. For a key that is not in the file it is the line of the nearest section
    /// around it.
    fn line(&self, mut path: &str) -> Option<usize> {
        loop {
            if let Some(spot) = self.spots.get(path) {
                return Some(spot.line);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    fn place(&self, path: &str, origin: Option<&str>) -> String {
        match origin {
            Some(flag) if flag.starts_with("flag ") => flag.to_owned(),
            Some(_) => format!("environment {PREFIX}{}", path.to_uppercase().replace('.', "__")),
            None => match self.line(path) {
                Some(line) => format!("{}:{line}", self.file.display()),
                None => self.file.display().to_string(),
            },
        }
    }
}

/// The variables of passbridge, by their name in capitals.
pub(super) fn our_variables(all: &[(OsString, OsString)]) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut ours = BTreeMap::new();
    for (name, value) in all {
        let Some(name) = name.to_str().map(str::to_uppercase).filter(|name| name.starts_with(PREFIX)) else { continue };
        let Some(value) = value.to_str() else {
            return Err(ConfigError::new(format!("environment {name}"), "the value is no UTF-8 text"));
        };
        ours.insert(name, value.to_owned());
    }
    Ok(ours)
}

/// The text of the configuration file.
pub(super) fn read_text(file: &Path) -> Result<String, ConfigError> {
    let shown = file.display().to_string();
    let read = || {
        let metadata = std::fs::metadata(file)?;
        if metadata.is_dir() {
            return Err(std::io::Error::other("it is a directory"));
        }
        if metadata.len() > FILE_LIMIT {
            return Err(std::io::Error::other("it is larger than a megabyte"));
        }
        std::fs::read(file)
    };
    let bytes = read().map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "no such configuration file. To write it: sudo passbridge setup. For another one: --config FILE"
                    .to_owned()
            }
            _ => format!("the configuration file cannot be read: {error}"),
        };
        ConfigError::new(shown.as_str(), hint)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        ConfigError::new(format!("{shown}:{line}"), "this line is no UTF-8 text")
    })
}

/// Why a variable is not taken, if its name reaches into a list or is not a plain path of keys.
fn reaches_too_far(variable: &str) -> Option<&'static str> {
    let path = &variable[PREFIX.len()..];
    if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let why = "the name of a variable has letters, digits and _ only, and reaches a key of a section, such as \
                   PASSBRIDGE__UPLOAD__BATCH_MAX; it is not taken";
        return Some(why);
    }
    match path.split("__").next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "decoder" => Some("decoders are set in the configuration file only, not in the environment; it is not taken"),
        "expect" => Some("[[expect]] is set in the configuration file only, not in the environment; it is not taken"),
        _ => None,
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// One table of the configuration, with the keys that it may have.
pub(super) struct Section<'a> {
    layers: &'a Layers,
    path: String,
    values: config::Map<String, Value>,
    known: &'static [&'static str],
}

impl<'a> Section<'a> {
    fn open(
        layers: &'a Layers,
        path: String,
        values: config::Map<String, Value>,
        known: &'static [&'static str],
    ) -> Result<Self, ConfigError> {
        let section = Self { layers, path, values, known };
        match section.strangers().into_iter().next() {
            Some(stranger) => Err(stranger),
            None => Ok(section),
        }
    }

    /// An error for each key that is not among the known ones, in the order of the file.
    fn strangers(&self) -> Vec<ConfigError> {
        let line = |key: &str| self.layers.spots.get(&joined(&self.path, key)).map(|spot| spot.line);
        let mut strangers: Vec<_> = self.values.iter().filter(|(key, _)| !self.known.contains(&key.as_str())).collect();
        strangers.sort_by_key(|(key, _)| line(key));
        let tell = |(key, value): (&String, &Value)| {
            let full = joined(&self.path, key);
            let meant = did_you_mean(key, self.known.iter().copied());
            let what = format!("unknown key `{full}`{meant}; allowed here: {}", self.known.join(", "));
            ConfigError::new(self.layers.place(&full, leaf_origin(value)), what)
        };
        strangers.into_iter().map(tell).collect()
    }

    /// Fails if a key is not among the known ones.
    pub(super) fn only_known(&self) -> Result<(), ConfigError> {
        self.strangers().into_iter().next().map_or(Ok(()), Err)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        debug_assert!(self.known.contains(&key), "`{key}` is read but not among the known keys");
        self.values.get(key)
    }

    /// Whether the key is given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The sub-table `key`, if given.
    pub(super) fn section(
        &self,
        key: &str,
        known: &'static [&'static str],
    ) -> Result<Option<Section<'a>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let path = joined(&self.path, key);
        match &value.kind {
            ValueKind::Table(table) => Self::open(self.layers, path, table.clone(), known).map(Some),
            _ => Err(self.wrong(key, format!("must be a section: [{path}]"))),
        }
    }

    /// The section `key`. If it is not given, it is empty, so that every key has its default.
    pub(super) fn section_or_empty(
        &self,
        key: &str,
        known: &'static [&'static str],
    ) -> Result<Section<'a>, ConfigError> {
        Ok(self.section(key, known)?.unwrap_or_else(|| Section {
            layers: self.layers,
            path: joined(&self.path, key),
            values: config::Map::new(),
            known,
        }))
    }

    /// The tables of the list `key` in order, whatever keys they have ([`Section::only_known`]
    /// checks those). It is empty if the list is not given.
    pub(super) fn sections(&self, key: &str, known: &'static [&'static str]) -> Result<Vec<Section<'a>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let path = joined(&self.path, key);
        let must = format!("must be a list of sections: [[{path}]]");
        let ValueKind::Array(items) = &value.kind else { return Err(self.wrong(key, must)) };
        let open = |(index, item): (usize, &Value)| match &item.kind {
            ValueKind::Table(table) => {
                Ok(Section { layers: self.layers, path: format!("{path}[{index}]"), values: table.clone(), known })
            }
            _ => Err(self.wrong(key, must.clone())),
        };
        items.iter().enumerate().map(open).collect()
    }

    /// The text of `key`, parsed by `parse`. The error of `parse` says what is allowed.
    pub(super) fn parse<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        match self.get(key).map(|value| &value.kind) {
            None => Ok(None),
            // Otherwise the key would be shown wherever this value is shown.
            Some(ValueKind::String(text)) if looks_like_key(text) => Err(self
                .wrong(key, "holds the key itself, which belongs alone into the file that cloud.api_key_file names")),
            Some(ValueKind::String(text)) => parse(text).map(Some).map_err(|allowed| self.wrong(key, allowed)),
            Some(_) => Err(self.wrong(key, self.in_quotes(key, ""))),
        }
    }

    /// How a value without quotes has to be written with quotes. `unit` is the unit that a bare
    /// number lacks too.
    fn in_quotes(&self, key: &str, unit: &str) -> String {
        let bare = self.layers.spots.get(&joined(&self.path, key)).and_then(|spot| spot.bare.as_deref());
        match bare {
            Some(bare) => format!("must be text in quotes: write it as {key} = \"{bare}{unit}\""),
            None => "must be text in quotes".to_owned(),
        }
    }

    /// The text of `key` like [`Section::parse`]. The error for a bare number shows it with quotes
    /// and this unit.
    pub(super) fn parse_with_unit<T>(
        &self,
        key: &str,
        unit: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        match self.get(key).map(|value| &value.kind) {
            Some(ValueKind::I64(_) | ValueKind::Float(_)) => Err(self.wrong(key, self.in_quotes(key, unit))),
            _ => self.parse(key, parse),
        }
    }

    /// The whole number of `key`, within `allowed`.
    pub(super) fn number(&self, key: &str, allowed: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let number = match self.get(key).map(|value| &value.kind) {
            None => return Ok(None),
            Some(ValueKind::I64(number)) => u64::try_from(*number).ok(),
            // The environment and the flags have only text.
            Some(ValueKind::String(text)) if !self.in_file(key) => text.parse().ok(),
            Some(_) => None,
        };
        match number.filter(|number| allowed.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                Err(self.wrong(key, format!("must be a whole number from {} to {}", allowed.start(), allowed.end())))
            }
        }
    }

    /// The value true or false of `key`.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.get(key).map(|value| &value.kind) {
            None => Ok(None),
            Some(ValueKind::Boolean(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "must be true or false, without quotes")),
        }
    }

    /// The options of the table `key` as text, whatever their names are. Whole numbers and
    /// true/false may be written without quotes. A number with a point or an exponent, and a date,
    /// can be written in more than one way, so it is not known what was meant.
    pub(super) fn options(&self, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        self.table(key, |value| matches!(value, ValueKind::I64(_) | ValueKind::Boolean(_)))
    }

    /// The table `key` as text. Every value must be in quotes, because `65E2` without them would be
    /// the number 6500.
    pub(super) fn texts(&self, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        self.table(key, |_| false)
    }

    fn table(
        &self,
        key: &str,
        may_be_bare: impl Fn(&ValueKind) -> bool,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let table = match self.get(key).map(|value| &value.kind) {
            None => return Ok(BTreeMap::new()),
            Some(ValueKind::Table(table)) => table,
            Some(_) => return Err(self.wrong(key, "must be a section of options, such as [decoder.set]")),
        };
        let mut texts = BTreeMap::new();
        for (option, value) in table {
            let path = format!("{}.{option}", joined(&self.path, key));
            let bare = self.layers.spots.get(&path).and_then(|spot| spot.bare.as_deref());
            let what = match (&value.kind, bare) {
                (ValueKind::String(text), None) => Ok(text.clone()),
                (kind, Some(bare)) if may_be_bare(kind) => Ok(bare.to_owned()),
                (_, Some(bare)) => Err(format!("must be text in quotes: write it as {option} = \"{bare}\"")),
                (ValueKind::Table(_), None) => {
                    Err("must be text in quotes; a name with a point in it stands in quotes, too".to_owned())
                }
                (_, None) => Err("must be text in quotes".to_owned()),
            };
            let text = what.map_err(|what| {
                ConfigError::new(self.layers.place(&path, leaf_origin(value)), format!("{path}: {what}"))
            })?;
            texts.insert(option.clone(), text);
        }
        Ok(texts)
    }

    /// The path of `key`. A path from the file is relative to the directory of the file, because
    /// the current directory of a daemon means nothing.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let path = self.parse(key, |text| match text {
            "" => Err("must name a file or directory".to_owned()),
            _ => Ok(PathBuf::from(text)),
        })?;
        let base = self.layers.file.parent().unwrap_or(Path::new(""));
        Ok(path.map(|path| if self.in_file(key) { base.join(path) } else { path }))
    }

    /// Like [`Section::wrong_secret`] for the option `inner` of the table `key`. The error names
    /// the place of the option.
    pub(super) fn wrong_inside(&self, key: &str, inner: &str, what: impl fmt::Display) -> ConfigError {
        let path = format!("{}.{inner}", joined(&self.path, key));
        ConfigError::new(self.layers.place(&path, None), format!("{path}: {what}"))
    }

    /// The path of this section, such as `decoder[0]`.
    pub(super) fn path_text(&self) -> &str {
        &self.path
    }

    /// The text of `key` as it is written. `None`: it is not given, or is no text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key).map(|value| &value.kind) {
            Some(ValueKind::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether the text of `key` contains `wanted`.
    pub(super) fn text_has(&self, key: &str, wanted: char) -> bool {
        self.get(key).is_some_and(|value| matches!(&value.kind, ValueKind::String(text) if text.contains(wanted)))
    }

    fn in_file(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.origin().is_none())
    }

    /// An error: the value of `key` is not allowed. `allowed` says what is allowed.
    pub(super) fn wrong(&self, key: &str, allowed: impl fmt::Display) -> ConfigError {
        let bare =
            self.in_file(key).then(|| self.layers.spots.get(&joined(&self.path, key))?.bare.as_deref()).flatten();
        let shown = self.get(key).map_or_else(String::new, |value| match bare {
            Some(bare) => format!(" = {bare}"),
            None => format!(" = {}", shown(value)),
        });
        self.error(key, format!("{}{shown}: {allowed}", joined(&self.path, key)))
    }

    /// Like [`Section::wrong`], but without the value, which may be a secret.
    pub(super) fn wrong_secret(&self, key: &str, allowed: impl fmt::Display) -> ConfigError {
        self.error(key, format!("{}: {allowed}", joined(&self.path, key)))
    }

    /// An error: `key` is needed and is not given.
    pub(super) fn missing(&self, key: &str, needed: impl fmt::Display) -> ConfigError {
        let place = self.layers.place(&self.path, None);
        ConfigError::new(place, format!("{} is missing: {needed}", joined(&self.path, key)))
    }

    fn error(&self, key: &str, what: String) -> ConfigError {
        let path = joined(&self.path, key);
        ConfigError::new(self.layers.place(&path, self.get(key).and_then(Value::origin)), what)
    }
}

/// The origin of a value. For a table it is the origin of its content, because a merged table has
/// no layer of its own.
fn leaf_origin(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::Table(table) => table.values().find_map(leaf_origin),
        _ => value.origin(),
    }
}

fn shown(value: &Value) -> String {
    let text = match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Table(_) | ValueKind::Array(_) => return "(a list or section)".to_owned(),
        _ => value.to_string(),
    };
    if text.chars().count() > SHOWN { text.chars().take(SHOWN).chain("…".chars()).collect() } else { text }
}
