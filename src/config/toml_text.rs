//! The configuration file as text: the position of each key, how its value is written, and TOML
//! mistakes in words.
//!
//! What must hold: a mistake is one line that shows the line of the file and how to write it, for a
//! person who does not know TOML. A line that may contain a secret is not shown.
//!
//! Hidden: crate `config` forgets positions and how a value was written. If a number is too large,
//! it stops without saying where the number is. So the file is parsed here first.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::secret::without_keys;

/// At most this many characters of a line are repeated in an error.
const SHOWN: usize = 100;
/// Parts of key names whose values are not shown.
const SECRETS: [&str; 4] = ["pass", "key", "token", "secret"];

/// The position of a key, and how its value is written.
pub(super) struct Spot {
    pub(super) line: usize,
    /// A value that is not in quotes and is no list or section, as it is written: `65E2`, `0x1F`,
    /// `true`.
    pub(super) bare: Option<String>,
}

/// The file, read once for its positions.
pub(super) struct Positions {
    /// The spots by path, such as `cloud.url` or `decoder[0].set.password`.
    pub(super) spots: HashMap<String, Spot>,
    /// The text for crate `config`: the file as it is, except for numbers that are too large for
    /// the crate.
    pub(super) text: String,
}

/// A mistake of the file: its line, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: usize,
    pub(super) what: String,
}

/// Reads the positions of all keys, or returns the first mistake.
pub(super) fn positions(text: &str) -> Result<Positions, Mistake> {
    let lines = Lines::of(text);
    let parsed = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        lines.mistake(at, error.message())
    })?;
    let mut walk = Walk { text, lines: &lines, spots: HashMap::new(), too_large: Vec::new() };
    for (key, value) in parsed.get_ref().iter() {
        let name: &str = key.get_ref();
        // Crate `config` would treat such a name as a path, and reach into a section or a list.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
            let what = format!("unknown key `{name}`: a key of a section stands in its section, such as [cloud]");
            return Err(Mistake { line: lines.number(key.span().start), what });
        }
        walk.key(name, key.span().start, value);
    }
    let (spots, too_large) = (walk.spots, walk.too_large);
    let mut plain = text.to_owned();
    for span in too_large.into_iter().rev() {
        // No key allows such a large number. So it is refused with the range of the key, and shown
        // as it is written.
        plain.replace_range(span, &i64::MAX.to_string());
    }
    Ok(Positions { spots, text: plain })
}

struct Walk<'a> {
    text: &'a str,
    lines: &'a Lines<'a>,
    spots: HashMap<String, Spot>,
    /// The positions of numbers that crate `config` cannot represent, in the order of the file.
    too_large: Vec<Range<usize>>,
}

impl Walk<'_> {
    fn key(&mut self, path: &str, at: usize, value: &toml::Spanned<DeValue<'_>>) {
        let written = self.text.get(value.span()).unwrap_or_default();
        let bare = match value.get_ref() {
            DeValue::Integer(number) => {
                if i64::from_str_radix(number.as_str(), number.radix()).is_err() {
                    self.too_large.push(value.span());
                    self.too_large.sort_by_key(|span| span.start);
                }
                true
            }
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
            DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => false,
        };
        let spot = Spot { line: self.lines.number(at), bare: bare.then(|| written.to_owned()) };
        self.spots.insert(path.to_owned(), spot);
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table.iter() {
                    self.key(&format!("{path}.{}", key.get_ref()), key.span().start, value);
                }
            }
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.key(&format!("{path}[{index}]"), item.span().start, item);
                }
            }
            _ => {}
        }
    }
}

struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1);
        Self { text, starts: std::iter::once(0).chain(ends).collect() }
    }

    /// The number of the line that contains this byte, counted from 1.
    fn number(&self, at: usize) -> usize {
        self.starts.partition_point(|&start| start <= at)
    }

    /// The line with this number, without the space around it.
    fn get(&self, number: usize) -> &'a str {
        let start = self.starts.get(number.wrapping_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.starts.get(number).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default().trim()
    }

    /// The mistake at this byte. `library` is the message of the parser.
    fn mistake(&self, at: usize, library: &str) -> Mistake {
        // If something is missing at the end of a line, the parser reports the end of the file or
        // the line after it.
        let mut number = self.number(at.min(self.text.len()));
        while number > 1 && self.get(number).is_empty() {
            number -= 1;
        }
        let line = self.get(number);
        if library.contains("duplicate") {
            return Mistake { line: number, what: self.twice(number) };
        }
        let cure = cure(line).unwrap_or_else(|| library.to_owned());
        Mistake { line: number, what: format!("{}: {cure}", shown(line)) }
    }

    /// The message for a section or a key that is there a second time.
    fn twice(&self, number: usize) -> String {
        let line = self.get(number);
        let head = |line: &str| {
            line.split('#').next().unwrap_or_default().split('=').next().unwrap_or_default().trim().to_owned()
        };
        let this = head(line);
        if this == "[decoder]" {
            return "[decoder] is here twice: each decoder begins with [[decoder]], in two pairs of brackets"
                .to_owned();
        }
        let first = (1..number).rev().find(|&before| head(self.get(before)) == this);
        let before = first.map_or_else(String::new, |line| format!(" (first in line {line})"));
        match this.starts_with('[') {
            true => format!("{this} is here twice{before}: put all of it under one {this}"),
            false => format!("`{this}` is here twice{before}: take one of them away"),
        }
    }
}

/// A line as an error shows it. Its value is left out if it may be a secret.
fn shown(line: &str) -> String {
    let key = line.split(['=', ':']).next().unwrap_or_default().trim();
    let lower = key.to_lowercase();
    // The address of a webhook may be in an inline table, behind another key.
    let clean = match SECRETS.iter().any(|word| lower.contains(word)) || line.to_lowercase().contains("webhook") {
        true => format!("{} = (hidden)", key.split_whitespace().next().unwrap_or_default()),
        false => without_keys(line),
    };
    if clean.chars().count() > SHOWN { clean.chars().take(SHOWN).chain("…".chars()).collect() } else { clean }
}

/// How a line that cannot be read should be written, if the mistake is clear.
fn cure(line: &str) -> Option<String> {
    let curly = |c: char| matches!(c, '“' | '”' | '„' | '‟' | '‘' | '’' | '‚' | '«' | '»' | '″' | '´' | '`');
    if let Some(wrong) = line.chars().find(|c| curly(*c)) {
        let straight: String = line.chars().map(|c| if curly(c) { '"' } else { c }).collect();
        return Some(format!("{wrong} is no straight quote: write it as {}", shown(&straight)));
    }
    if line.starts_with('[') {
        let name = line.trim_matches(|c: char| matches!(c, '[' | ']') || c.is_whitespace());
        let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        let whole =
            if line.starts_with("[[") || name == "decoder" { format!("[[{name}]]") } else { format!("[{name}]") };
        return plain.then(|| format!("the name of a section stands in brackets: write it as {whole}"));
    }
    let Some((key, value)) = line.split_once('=') else { return no_equals(line) };
    let (key, value) = (key.trim(), value.trim());
    let write = |value: &str| format!("write it as {}", shown(&format!("{key} = {value}")));
    if is_name_without_quotes(key) {
        let value = if value.starts_with(['"', '\'']) { value.to_owned() } else { format!("\"{value}\"") };
        let whole = shown(&format!("\"{key}\" = {value}"));
        return Some(format!("a name with a space or a letter beyond a to z stands in quotes: write it as {whole}"));
    }
    if value.is_empty() || value.starts_with('#') {
        return Some(format!("the value is missing: {}", write("\"…\"")));
    }
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        return quoted(quote, value, &write);
    }
    let bare = value.split('#').next().unwrap_or_default().trim_end();
    let before_comma = bare.trim_end_matches([',', ';']).trim_end();
    let is_number = before_comma.parse::<f64>().is_ok();
    if before_comma.len() < bare.len() && (is_number || matches!(before_comma, "true" | "false")) {
        return Some(format!("nothing may follow the value, so take the comma away: {}", write(before_comma)));
    }
    match before_comma.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => return Some(write("true")),
        "false" | "no" | "off" => return Some(write("false")),
        _ => {}
    }
    if before_comma.len() > 1 && before_comma.bytes().all(|byte| byte.is_ascii_digit()) && before_comma.starts_with('0')
    {
        let number = before_comma.trim_start_matches('0');
        let number = if number.is_empty() { "0" } else { number };
        return Some(format!("a number begins with no 0: {}, or as text in quotes: \"{before_comma}\"", write(number)));
    }
    if before_comma.contains(['"', '[', '{']) {
        return None;
    }
    Some(format!("text stands in quotes: {}", write(&format!("\"{before_comma}\""))))
}

/// Whether it is the name of a timing point, such as `10 km`, that lacks its quotes.
fn is_name_without_quotes(key: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let of_a_name = |c: char| c.is_alphanumeric() || " _-.,/+&()".contains(c);
    !key.is_empty() && key.chars().all(of_a_name) && !key.chars().all(plain)
}

/// The cure for a line without `=`.
fn no_equals(line: &str) -> Option<String> {
    let at = line.find([':', ' ', '\t'])?;
    let (key, value) = (line[..at].trim(), line[at..].trim_start_matches([':', ' ', '\t']).trim());
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    (is_key && !value.is_empty())
        .then(|| format!("the = between key and value is missing: write it as {}", shown(&format!("{key} = {value}"))))
}

/// The cure for a value that begins with a quote.
fn quoted(quote: char, value: &str, write: &impl Fn(&str) -> String) -> Option<String> {
    let rest = &value[1..];
    let mut escaped = false;
    let end = rest.char_indices().find(|&(_, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped && quote == '"';
        ends
    });
    let Some((end, _)) = end else {
        let text = rest.split('#').next().unwrap_or_default().trim_end().trim_end_matches(['"', '\'', ',']);
        return Some(format!("the closing quote is missing: {}", write(&format!("\"{text}\""))));
    };
    let (text, after) = (&value[..end + 2], rest[end + 1..].trim());
    if !after.is_empty() && !after.starts_with('#') {
        let what = if after.starts_with([',', ';']) { "take the comma away" } else { "take the rest away" };
        return Some(format!("nothing may follow the value, so {what}: {}", write(text)));
    }
    text.contains('\\').then(|| {
        let doubled = text.replace('\\', "\\\\");
        format!("a backslash stands twice within quotes: {}", write(&doubled))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> Mistake {
        positions(text).map(|_| ()).expect_err(text)
    }

    #[test]
    fn a_mistake_of_toml_is_told_with_its_line_and_how_to_write_it() {
        for (line, said) in [
            ("dead_time = 5s", "dead_time = 5s: text stands in quotes: write it as dead_time = \"5s\""),
            ("name = finish", "write it as name = \"finish\""),
            ("name = finish mat # at the end", "write it as name = \"finish mat\""),
            ("address = tcp://192.168.1.50:3601", "write it as address = \"tcp://192.168.1.50:3601\""),
            ("device_id = 65A1", "write it as device_id = \"65A1\""),
            ("name = \"finish\",", "take the comma away: write it as name = \"finish\""),
            ("days = 30,", "take the comma away: write it as days = 30"),
            ("rewind = true;", "take the comma away: write it as rewind = true"),
            (
                "name = \"finish\" mat",
                "nothing may follow the value, so take the rest away: write it as name = \"finish\"",
            ),
            ("10 km = \"65A2\"", "stands in quotes: write it as \"10 km\" = \"65A2\""),
            ("10 km = 65A2", "write it as \"10 km\" = \"65A2\""),
            ("Água Sul = '65A2'", "write it as \"Água Sul\" = '65A2'"),
            ("5/10 = \"65A2\"", "write it as \"5/10\" = \"65A2\""),
            ("name = “finish-mat”", "“ is no straight quote: write it as name = \"finish-mat\""),
            ("name = „finish-mat“", "write it as name = \"finish-mat\""),
            ("name = ‘finish-mat’", "write it as name = \"finish-mat\""),
            ("name = «finish-mat»", "write it as name = \"finish-mat\""),
            ("name = ”finish-mat\"", "write it as name = \"finish-mat\""),
            ("name = \"finish", "the closing quote is missing: write it as name = \"finish\""),
            ("name = 'finish # mat", "the closing quote is missing: write it as name = \"finish\""),
            ("name =", "the value is missing: write it as name = \"…\""),
            ("name = # the box", "the value is missing"),
            ("rewind = True", "rewind = True: write it as rewind = true"),
            ("rewind = yes", "write it as rewind = true"),
            ("rewind = off", "write it as rewind = false"),
            ("days = 030", "a number begins with no 0: write it as days = 30"),
            ("[keep", "write it as [keep]"),
            ("[[decoder]", "write it as [[decoder]]"),
            ("[decoder", "write it as [[decoder]]"),
            ("name \"finish\"", "the = between key and value is missing: write it as name = \"finish\""),
            ("name: \"finish\"", "the = between key and value is missing: write it as name = \"finish\""),
            ("bibs = \"C:\\Users\\bibs.csv\"", "a backslash stands twice within quotes"),
        ] {
            for after in ["", "\n", "\nlevel = 1\n", "\n\n\n[log]\n"] {
                let found = mistake(&format!("zero = 0\n{line}{after}"));
                assert_eq!(found.line, 2, "{line:?} {after:?}: {}", found.what);
                assert!(found.what.contains(said), "{line}: {}", found.what);
                assert!(found.what.contains(line.split(['=', ':', ' ']).next().unwrap()), "{}", found.what);
            }
        }
    }

    #[test]
    fn what_stands_there_twice_is_told_with_the_line_of_the_first() {
        let two = "[decoder]\nname = \"a\"\n\n[decoder]\nname = \"b\"\n";
        assert_eq!(mistake(two).line, 4);
        assert!(mistake(two).what.contains("each decoder begins with [[decoder]]"), "{}", mistake(two).what);
        let keep = mistake("[keep]\ndays = 1\n[log]\n[keep]\n");
        assert_eq!(
            (keep.line, keep.what.as_str()),
            (4, "[keep] is here twice (first in line 1): put all of it under one [keep]")
        );
        let name = mistake("name = \"a\"\ndata_dir = \"x\"\nname = \"b\"\n");
        assert_eq!(
            (name.line, name.what.as_str()),
            (3, "`name` is here twice (first in line 1): take one of them away")
        );
    }

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        for line in [
            "set.password = hunter2",
            "api_key = ror-0123456789abcdef0123",
            "api_key = “hunter2”",
            "password: hunter2",
            "token = \"hunter2",
            "note = ror-0123456789abcdef0123",
        ] {
            let what = mistake(line).what;
            assert!(!what.contains("hunter2") && !what.contains("0123456789abcdef0123"), "{line}: {what}");
        }
    }

    #[test]
    fn each_key_has_its_line_and_a_bare_value_is_known_as_it_is_written() {
        let found =
            positions("[[decoder]]\nname = \"a\"\n[decoder.locations]\nStart = 65E2\nEnd = \"65E2\"\n").unwrap();
        let spot = |path: &str| found.spots.get(path).map(|spot| (spot.line, spot.bare.as_deref()));
        assert_eq!(spot("decoder[0].name"), Some((2, None)));
        assert_eq!(spot("decoder[0].locations.Start"), Some((4, Some("65E2"))));
        assert_eq!(spot("decoder[0].locations.End"), Some((5, None)));
        let large = positions("[keep]\ndays = 99999999999999999999\nmore = -99999999999999999999 # so\n").unwrap();
        assert_eq!(large.spots["keep.days"].bare.as_deref(), Some("99999999999999999999"));
        assert_eq!(large.text, format!("[keep]\ndays = {0}\nmore = {0} # so\n", i64::MAX));
    }

    #[test]
    fn a_quoted_name_never_reaches_into_a_section_or_a_list() {
        for name in ["cloud.url", "decoder[0].address", "decoder[-1]", "a b", ""] {
            let found = mistake(&format!("x = 1\n\"{name}\" = \"tcp://1.2.3.4:5\"\n"));
            assert_eq!((found.line, found.what.contains("unknown key")), (2, true), "{}", found.what);
        }
    }
}
