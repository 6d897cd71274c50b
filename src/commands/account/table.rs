//! A list in one of three forms: a table for people, JSON, or CSV.
//!
//! Must hold: JSON and CSV have the same names, and times in UTC. A person gets times with their
//! zone. Text from the cloud cannot control the terminal.

use clap::Args;
use comfy_table::{CellAlignment, Table as Drawn, presets};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::config::failure::Failure;
use crate::model::shown::ShownIn;
use crate::model::text::{printable, tail};

/// The form in which a list is written.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Form {
    /// As JSON, times in UTC.
    #[arg(long)]
    pub json: bool,
    /// As CSV with a header, times in UTC.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// A column: its name in JSON and CSV, and its heading in the table for people. Without a heading
/// the column is for programs only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Name in JSON and CSV.
    pub name: &'static str,
    /// Heading in the table for people.
    pub heading: Option<&'static str>,
}

/// A column that everybody gets.
pub(crate) const fn column(name: &'static str, heading: &'static str) -> Column {
    Column { name, heading: Some(heading) }
}

/// A column for programs only.
pub(crate) const fn detail(name: &'static str) -> Column {
    Column { name, heading: None }
}

/// A value in a list. `None` is an unknown one: null in JSON, empty elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    /// A text.
    Text(Option<String>),
    /// An identity or a token. A person gets its end in a list.
    Token(Option<String>),
    /// A count or a number.
    Number(Option<u64>),
    /// Yes or no.
    Flag(Option<bool>),
    /// A time in UTC milliseconds since 1970.
    Time(Option<i64>),
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(str::to_owned))
    }
}

impl Cell {
    /// An identity or a token.
    pub(crate) fn token(text: &str) -> Self {
        Self::Token(Some(text.to_owned()))
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) | Self::Token(text) => text.as_deref().into(),
            Self::Number(number) => (*number).into(),
            Self::Flag(flag) => (*flag).into(),
            Self::Time(time) => time.and_then(utc).into(),
        }
    }

    fn csv(&self) -> String {
        match self {
            Self::Text(text) | Self::Token(text) => text.clone().unwrap_or_default(),
            Self::Number(number) => number.map(|number| number.to_string()).unwrap_or_default(),
            Self::Flag(flag) => flag.map(|flag| flag.to_string()).unwrap_or_default(),
            Self::Time(time) => time.and_then(utc).unwrap_or_default(),
        }
    }

    fn shown(&self, times: &ShownIn) -> String {
        match self {
            Self::Text(text) => printable(text.as_deref().unwrap_or_default()),
            Self::Token(token) => token.as_deref().map(|token| printable(&tail(token))).unwrap_or_default(),
            Self::Flag(flag) => flag.map(|flag| if flag { "yes" } else { "no" }).unwrap_or_default().to_owned(),
            Self::Time(time) => {
                let instant = time.and_then(|time| Timestamp::from_millisecond(time).ok());
                instant.map(|instant| times.second(instant)).unwrap_or_default()
            }
            Self::Number(_) => self.csv(),
        }
    }
}

/// Writes a time as programs read it. `None` if no calendar has it.
pub(crate) fn utc(time_ms: i64) -> Option<String> {
    Timestamp::from_millisecond(time_ms).ok().map(|instant| format!("{instant:.3}"))
}

/// Writes the list in its form. `empty` is what a person reads if there are no rows.
///
/// # Errors
/// Data (65): a row cannot be written.
pub(crate) fn list(
    form: Form,
    columns: &[Column],
    rows: &[Vec<Cell>],
    times: &ShownIn,
    empty: &str,
) -> Result<String, Failure> {
    if form.json {
        let rows: Vec<Value> = rows.iter().map(|row| object(columns, row)).collect();
        return Ok(format!("{}\n", Value::from(rows)));
    }
    if form.csv {
        return csv(columns, rows).map_err(|error| Failure::data(format!("the list cannot be written: {error}")));
    }
    if rows.is_empty() {
        return Ok(format!("{empty}\n"));
    }
    Ok(drawn(columns, rows, times))
}

/// Returns a row as an object.
pub(crate) fn object(columns: &[Column], row: &[Cell]) -> Value {
    columns.iter().zip(row).map(|(column, cell)| (column.name.to_owned(), cell.json())).collect::<Map<_, _>>().into()
}

fn csv(columns: &[Column], rows: &[Vec<Cell>]) -> Result<String, Box<dyn std::error::Error>> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(columns.iter().map(|column| column.name))?;
    for row in rows {
        out.write_record(row.iter().map(Cell::csv))?;
    }
    Ok(String::from_utf8(out.into_inner()?)?)
}

fn drawn(columns: &[Column], rows: &[Vec<Cell>], times: &ShownIn) -> String {
    let mut table = Drawn::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().filter_map(|column| column.heading));
    for row in rows {
        let cells = columns.iter().zip(row).filter(|(column, _)| column.heading.is_some());
        table.add_row(cells.map(|(_, cell)| {
            let side = if matches!(cell, Cell::Number(_)) { CellAlignment::Right } else { CellAlignment::Left };
            comfy_table::Cell::new(cell.shown(times)).set_alignment(side)
        }));
    }
    lines(table)
}

fn lines(mut table: Drawn) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Writes one thing as lines of name and value for people, or as one object.
///
/// # Errors
/// Data (65): it cannot be written.
pub(crate) fn one(form: Form, columns: &[Column], row: &[Cell], times: &ShownIn) -> Result<String, Failure> {
    if form.json {
        return Ok(format!("{}\n", object(columns, row)));
    }
    if form.csv {
        return list(form, columns, &[row.to_vec()], times, "");
    }
    let mut table = Drawn::new();
    table.load_style(presets::NOTHING);
    for (column, cell) in columns.iter().zip(row) {
        let shown = match cell {
            Cell::Token(token) => printable(token.as_deref().unwrap_or_default()),
            _ => cell.shown(times),
        };
        if !shown.is_empty() {
            table.add_row([column.heading.unwrap_or(column.name), &shown]);
        }
    }
    Ok(lines(table))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    const COLUMNS: [Column; 4] =
        [column("alias", "NAME"), column("passings", "PASSINGS"), column("created", "OPENED"), detail("token")];

    fn rows() -> Vec<Vec<Cell>> {
        let row = |name: &str, count, time, token: &str| {
            vec![Some(name).into(), Cell::Number(count), Cell::Time(time), Some(token).into()]
        };
        vec![row("5K \"fun\" 🏃, \x1b[31m", Some(7), Some(1_780_000_000_123), "A"), row("", None, None, "B")]
    }

    fn text(form: Form) -> String {
        list(form, &COLUMNS, &rows(), &ShownIn::zone(TimeZone::UTC), "none").unwrap()
    }

    #[test]
    fn a_person_sees_headings_zones_and_nothing_that_controls_the_terminal() {
        let shown = text(Form::default());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3, "{shown}");
        assert!(
            lines[0].starts_with("NAME") && lines[0].contains("PASSINGS") && !lines[0].contains("token"),
            "{shown}"
        );
        assert!(lines[1].contains("2026-05-28 20:26:40 UTC") && lines[1].contains("🏃, \u{fffd}[31m"), "{shown}");
        assert_eq!(list(Form::default(), &COLUMNS, &[], &ShownIn::of_the_box(), "none").unwrap(), "none\n");
    }

    #[test]
    fn programs_get_the_same_names_in_both_forms_and_times_in_utc() {
        let json: Value = serde_json::from_str(&text(Form { json: true, csv: false })).unwrap();
        assert_eq!(json[0]["alias"], "5K \"fun\" 🏃, \x1b[31m");
        assert_eq!((&json[0]["passings"], &json[0]["created"]), (&7.into(), &"2026-05-28T20:26:40.123Z".into()));
        assert!(json[1]["passings"].is_null() && json[1]["created"].is_null());
        let csv = text(Form { json: false, csv: true });
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        assert_eq!(reader.headers().unwrap(), vec!["alias", "passings", "created", "token"]);
        let first = reader.records().next().unwrap().unwrap();
        assert_eq!(&first[0], "5K \"fun\" 🏃, \x1b[31m");
        assert_eq!((&first[1], &first[2], &first[3]), ("7", "2026-05-28T20:26:40.123Z", "A"));
    }
}
