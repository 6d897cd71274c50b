//! Changes the configuration file in place, for commands that write an answer into it.
//!
//! What must hold: only the keys that are set change. Comments, order and every other key stay as
//! they are, because a person wrote them. The text is not checked here: who writes it loads it first
//! ([`LoadOptions::of_text`](super::LoadOptions::of_text)).

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, Value};

use super::layers::ConfigError;
use super::load::{KEY_VARIABLE, LoadOptions};
use super::toml_text;
use crate::decoders::Settings;

/// The head of a file that did not exist before.
const HEAD: &str = "\
# passbridge: what this box is, what it reads and where it sends. `passbridge setup` wrote this file, and it may be changed by
# hand. After a change: `passbridge check --connect`, then `systemctl restart passbridge`.
";

/// The text of a configuration file, and the changes to it.
#[derive(Clone, Debug)]
pub(crate) struct ConfigText {
    /// What a new file begins with.
    head: &'static str,
    document: DocumentMut,
    /// Every line of the file ended as on Windows, and will.
    crlf: bool,
}

/// A `[[decoder]]` section as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecoderText {
    /// The unique name. A section with this name is changed, else a new one is added.
    pub(crate) name: String,
    /// The name of the protocol in the registry.
    pub(crate) protocol: String,
    /// The address in the form of the configuration.
    pub(crate) address: String,
    /// The zone of the decoder's clock, or `None` if its times need none.
    pub(crate) timezone: Option<String>,
    /// Options of the protocol.
    pub(crate) set: Settings,
}

impl ConfigText {
    /// The text of a file that does not exist yet.
    pub(crate) fn new() -> Self {
        Self { head: HEAD, document: DocumentMut::new(), crlf: false }
    }

    /// Reads the text of `file`.
    ///
    /// # Errors
    /// The first mistake of the text, with its line.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let at = |line: usize, what: String| ConfigError::new(format!("{}:{line}", file.display()), what);
        // This tells a mistake in words; the editing crate has the words of a parser.
        toml_text::positions(text).map_err(|mistake| at(mistake.line, mistake.what))?;
        let document = text.parse().map_err(|error: toml_edit::TomlError| at(1, error.message().to_owned()))?;
        let crlf = text.contains('\n') && text.matches('\n').count() == text.matches("\r\n").count();
        Ok(Self { head: "", document, crlf })
    }

    /// The text at `key` of `section` (the top of the file if it is empty).
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&str> {
        let table: &dyn TableLike = match section {
            "" => self.document.as_table(),
            _ => self.document.get(section)?.as_table_like()?,
        };
        table.get(key)?.as_str()
    }

    /// Whether the file has this section.
    pub(crate) fn has(&self, section: &str) -> bool {
        self.document.contains_key(section)
    }

    /// The names of the decoders, in the order of the file.
    pub(crate) fn decoder_names(&self) -> Vec<String> {
        let name = |table: &dyn TableLike| table.get("name").and_then(Item::as_str).map(str::to_owned);
        match self.document.get("decoder") {
            Some(Item::ArrayOfTables(sections)) => sections.iter().filter_map(|table| name(table)).collect(),
            Some(Item::Value(Value::Array(list))) => {
                list.iter().filter_map(Value::as_inline_table).filter_map(|table| name(table)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Sets `key` of `section` (the top of the file if it is empty), and makes the section if it is
    /// not there.
    pub(crate) fn set(&mut self, section: &str, key: &str, text: &str) {
        if section.is_empty() {
            return put(self.document.as_table_mut(), key, text);
        }
        if !self.has(section) {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            self.document.insert(section, Item::Table(table));
        }
        if let Some(table) = self.document.get_mut(section).and_then(Item::as_table_like_mut) {
            put(table, key, text);
        }
    }

    /// Writes a decoder: over the section of its name, or as a new section behind the others.
    pub(crate) fn set_decoder(&mut self, decoder: &DecoderText) {
        if !self.has("decoder") {
            self.document.insert("decoder", Item::ArrayOfTables(ArrayOfTables::new()));
        }
        let named = |table: &dyn TableLike| table.get("name").and_then(Item::as_str) == Some(&decoder.name);
        match self.document.get_mut("decoder") {
            Some(Item::ArrayOfTables(sections)) => {
                let at = sections.iter().position(|table| named(table));
                let at = at.unwrap_or_else(|| {
                    let mut table = Table::new();
                    table.decor_mut().set_prefix("\n");
                    sections.push(table);
                    sections.len() - 1
                });
                if let Some(table) = sections.get_mut(at) {
                    write(table, decoder);
                }
            }
            // `decoder = [{ name = "…", … }]`
            Some(Item::Value(Value::Array(list))) => {
                let at = list.iter().position(|value| value.as_inline_table().is_some_and(|table| named(table)));
                let at = at.unwrap_or_else(|| {
                    list.push(toml_edit::InlineTable::new());
                    list.len() - 1
                });
                if let Some(table) = list.get_mut(at).and_then(Value::as_inline_table_mut) {
                    write(table, decoder);
                }
            }
            _ => {} // something else, which the check of the text refuses
        }
    }
}

impl LoadOptions {
    /// Checks `text` before it becomes the content of `file`. With `has_key`, the API key is taken
    /// to be there, and its file is not looked at. Of the environment only systemd's credentials
    /// count, because the service has no other variables.
    pub(crate) fn of_text(file: impl Into<PathBuf>, text: String, has_key: bool) -> Self {
        let credentials = "CREDENTIALS_DIRECTORY";
        let mut environment: Vec<(OsString, OsString)> =
            std::env::var_os(credentials).map(|dir| (credentials.into(), dir)).into_iter().collect();
        if has_key {
            environment.push((KEY_VARIABLE.into(), "(given)".into()));
        }
        Self { environment, text: Some(text), ..Self::new(file) }
    }
}

impl fmt::Display for ConfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}{}", self.head, self.document);
        f.write_str(&if self.crlf { text.replace("\r\n", "\n").replace('\n', "\r\n") } else { text })
    }
}

/// Sets a key and keeps the comment behind its value.
fn put(table: &mut dyn TableLike, key: &str, text: &str) {
    let mut value = Value::from(text);
    match table.get_mut(key) {
        Some(item) => {
            if let Some(old) = item.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *item = Item::Value(value);
        }
        None => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// Writes the keys of a decoder. A zone or an option that is there and is not given stays.
fn write(table: &mut dyn TableLike, decoder: &DecoderText) {
    put(table, "name", &decoder.name);
    put(table, "protocol", &decoder.protocol);
    put(table, "address", &decoder.address);
    if let Some(zone) = &decoder.timezone {
        put(table, "timezone", zone);
    }
    if decoder.set.is_empty() {
        return;
    }
    if table.get("set").is_none_or(|set| !set.is_table_like()) {
        table.insert("set", Item::Table(Table::new()));
    }
    if let Some(set) = table.get_mut("set").and_then(Item::as_table_like_mut) {
        decoder.set.iter().for_each(|(key, value)| put(set, key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> ConfigText {
        ConfigText::parse(Path::new("passbridge.toml"), text).unwrap()
    }

    fn mat(name: &str) -> DecoderText {
        DecoderText {
            name: name.to_owned(),
            protocol: "ipico".to_owned(),
            address: "tcp://192.168.1.60:10000".to_owned(),
            timezone: Some("Europe/Madrid".to_owned()),
            set: Settings::new(),
        }
    }

    #[test]
    fn only_the_keys_that_are_set_change_and_every_comment_stays() {
        let text = include_str!("../../config/passbridge.toml");
        let mut edited = parse(text);
        edited.set("cloud", "device_id", "NEW");
        edited.set("", "name", "start");
        let edited = edited.to_string();
        let changed: Vec<_> = text.lines().zip(edited.lines()).filter(|(old, new)| old != new).collect();
        assert_eq!(changed.len(), 2, "{changed:#?}");
        assert_eq!(text.lines().count(), edited.lines().count());
        assert_eq!(changed[0].1, "name = \"start\"");
        assert_eq!(changed[1].1, "device_id = \"NEW\"");
        let kept = parse("[cloud]\ndevice_id = \"a\"   # the one of the finish\nurl = 'x'\n");
        let mut kept = kept.clone();
        kept.set("cloud", "device_id", "b");
        assert_eq!(kept.to_string(), "[cloud]\ndevice_id = \"b\"   # the one of the finish\nurl = 'x'\n");
        assert_eq!((kept.get("cloud", "url"), kept.get("keep", "days"), kept.get("", "name")), (Some("x"), None, None));
    }

    #[test]
    fn a_new_file_begins_with_its_head_and_is_a_right_configuration() {
        let mut text = ConfigText::new();
        text.set("", "name", "Ziel \"Süd\" 🏁");
        text.set("", "data_dir", "data");
        text.set_decoder(&mat("finish-mat"));
        text.set_decoder(&DecoderText { timezone: None, ..mat("start") });
        text.set("cloud", "url", "https://api.runonrufus.com/v0");
        text.set("cloud", "device_id", "D");
        let text = text.to_string();
        let expected = format!(
            "{HEAD}name = {}\ndata_dir = \"data\"\n\n[[decoder]]\nname = \"finish-mat\"\nprotocol = \"ipico\"\naddress = \
             \"tcp://192.168.1.60:10000\"\ntimezone = \"Europe/Madrid\"\n\n[[decoder]]\nname = \"start\"\nprotocol = \
             \"ipico\"\naddress = \"tcp://192.168.1.60:10000\"\n\n[cloud]\nurl = \
             \"https://api.runonrufus.com/v0\"\ndevice_id = \"D\"\n",
            r#"'Ziel "Süd" 🏁'"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_decoder_is_changed_where_it_stands_and_a_new_one_comes_behind_the_others() {
        for old in [
            "[[decoder]]\nname = \"a\" # one\nprotocol = \"p3\"\naddress = \"tcp://1.2.3.4:5\"\nrewind = false\n\n[keep]\ndays = 3\n",
            "decoder = [{ name = \"a\", protocol = \"p3\", address = \"tcp://1.2.3.4:5\", rewind = false }]\n[keep]\ndays = 3\n",
        ] {
            let mut text = parse(old);
            let set = Settings::from([("dialect".to_owned(), "v2".to_owned())]);
            text.set_decoder(&DecoderText { protocol: "ipico".to_owned(), ..mat("a") });
            text.set_decoder(&DecoderText {
                address: "tcp://10.0.0.9:1".to_owned(),
                protocol: "one4all".to_owned(),
                set,
                ..mat("b")
            });
            let text = text.to_string();
            assert!(text.contains("days = 3"), "{text}");
            assert_eq!(text.contains("# one"), old.contains("# one"), "{text}");
            let options =
                LoadOptions { environment: Vec::new(), text: Some(text.clone()), ..LoadOptions::new("x.toml") };
            let config = Config::load_what_is_right(&options).unwrap().config;
            let names: Vec<_> =
                config.decoders.iter().map(|it| (it.name.as_str(), it.protocol.name, it.rewind)).collect();
            assert_eq!(names, [("a", "ipico", false), ("b", "one4all", true)], "{text} {:?}", config.faults);
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_in_words() {
        let error = ConfigText::parse(Path::new("my.toml"), "name = \"a\"\nname = \"b\"\n").unwrap_err().to_string();
        assert!(error.starts_with("my.toml:2: ") && error.contains("here twice"), "{error}");
    }

    #[test]
    fn a_file_from_windows_keeps_its_line_ends() {
        let before = "name = \"a\" # mine\r\n\r\n[cloud]\r\nurl = \"x\"\r\n";
        let mut text = ConfigText::parse(Path::new("p.toml"), before).unwrap();
        assert_eq!(text.to_string(), before);
        text.set("cloud", "device_id", "D");
        assert_eq!(text.to_string(), format!("{before}device_id = \"D\"\r\n"));
    }
}
