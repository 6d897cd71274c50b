//! A list of passings in one of three forms. Each is written line by line.

use std::io::{self, BufWriter, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::cloud::list::known::{BoxSide, Whose};
use crate::cloud::rufus::{FullPassing, Session};
use crate::commands::account::table::Form;
use crate::commands::args::stdout;
use crate::config::failure::Failure;
use crate::model::shown::ShownIn;
use crate::model::text::{printable, tail};

/// Columns of the CSV: the cloud's own names, in the order in which the cloud documents them, and
/// then what the box knows. The lines of JSON have the same names.
const COLUMNS: [&str; 17] = [
    "timestamp",
    "num_passing",
    "bib",
    "chip",
    "participant_id",
    "latitude",
    "longitude",
    "status",
    "timezone",
    "gender",
    "token_session",
    "deviceid",
    "box_ours",
    "box_decoder",
    "box_seq",
    "box_chip",
    "box_bib",
];

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    stored: &'a FullPassing,
    box_ours: &'static str,
    box_decoder: Option<&'a str>,
    box_seq: Option<u64>,
    box_chip: Option<&'a str>,
    box_bib: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn new(stored: &'a FullPassing, side: &'a BoxSide) -> Self {
        Self {
            stored,
            box_ours: side.whose.word(),
            box_decoder: side.decoder.as_deref(),
            box_seq: side.item.as_ref().map(|item| item.seq.0),
            box_chip: side.chip.as_deref(),
            box_bib: side.item.as_ref().map(|item| &*item.bib).filter(|bib| !bib.is_empty()),
        }
    }
}

/// A count of passings, and how many of them this box sent.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    ours: u64,
    unknown: u64,
}

impl Counted {
    fn count(&mut self, whose: Whose) {
        match whose {
            Whose::Ours => self.ours += 1,
            Whose::Unknown => self.unknown += 1,
            Whose::Different | Whose::Foreign => {}
        }
    }
}

enum Out {
    Table { to: BufWriter<Box<dyn Write>>, times: ShownIn, sessions: bool },
    Json(BufWriter<Box<dyn Write>>),
    Csv(Box<csv::Writer<Box<dyn Write>>>),
}

/// The list on standard output.
pub(super) struct Sheet {
    out: Out,
    head: Option<String>,
    counted: Counted,
    /// Passings that were written.
    pub count: u64,
}

impl Sheet {
    /// A list in this form. `session`: all of them are of this one.
    pub(super) fn new(form: Form, times: ShownIn, session: Option<&Session>) -> Self {
        Self::to(stdout(), form, times, session)
    }

    fn to(to: Box<dyn Write>, form: Form, times: ShownIn, session: Option<&Session>) -> Self {
        let mut head = None;
        let out = match form {
            Form { json: true, .. } => Out::Json(BufWriter::new(to)),
            Form { csv: true, .. } => Out::Csv(Box::new(csv::Writer::from_writer(to))),
            _ => {
                let named = session.map(|session| {
                    let alias = session.alias.as_deref().map(|alias| format!(" {}", printable(alias)));
                    format!("session{} …{}\n", alias.unwrap_or_default(), tail(&session.token))
                });
                head = Some(named.unwrap_or_default());
                Out::Table { to: BufWriter::new(to), times, sessions: session.is_none() }
            }
        };
        Self { out, head, counted: Counted::default(), count: 0 }
    }

    /// Writes a passing.
    ///
    /// # Errors
    /// I/O (74): it cannot be written.
    pub(super) fn row(&mut self, row: &FullPassing, side: &BoxSide) -> Result<(), Failure> {
        self.try_row(row, side).map_err(|error| Failure::output(&error))
    }

    fn try_row(&mut self, row: &FullPassing, side: &BoxSide) -> io::Result<()> {
        self.begin()?;
        self.count += 1;
        self.counted.count(side.whose);
        let line = Line::new(row, side);
        match &mut self.out {
            Out::Json(to) => {
                serde_json::to_writer(&mut *to, &line)?;
                to.write_all(b"\n")
            }
            Out::Csv(to) => Ok(to.write_record(cells(&line).iter().map(String::as_bytes))?),
            Out::Table { to, times, sessions } => {
                let number = row.num_passing.map(|num| num.to_string()).unwrap_or_default();
                let instant = row.time_ms.and_then(|time| Timestamp::from_millisecond(time).ok());
                let stamp = || row.timestamp.as_deref().map(printable).unwrap_or_default();
                let time = instant.map_or_else(stamp, |instant| times.milli(instant));
                let mut text = table_line([
                    &number,
                    &time,
                    some(&row.bib),
                    some(&row.chip),
                    line.box_decoder.unwrap_or(""),
                    line.box_ours,
                ]);
                if *sessions {
                    text = format!("{text}  {}", row.token_session.as_deref().map(tail).unwrap_or_default());
                }
                writeln!(to, "{}", printable(text.trim_end()))
            }
        }
    }

    /// Writes what stands above the first passing.
    fn begin(&mut self) -> io::Result<()> {
        if self.count > 0 {
            return Ok(());
        }
        match &mut self.out {
            Out::Json(_) => Ok(()),
            Out::Csv(to) => Ok(to.write_record(COLUMNS)?),
            Out::Table { to, sessions, .. } => {
                let mut heading = table_line(["NUMBER", "TIME", "BIB", "CHIP", "DECODER", "OURS"]);
                if *sessions {
                    heading = format!("{heading}  SESSION");
                }
                writeln!(to, "{}{}", self.head.take().unwrap_or_default(), heading.trim_end())
            }
        }
    }

    /// Writes what stands below the last passing.
    ///
    /// # Errors
    /// I/O (74): it cannot be written.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.try_finish().map_err(|error| Failure::output(&error))
    }

    fn try_finish(&mut self) -> io::Result<()> {
        let (count, Counted { ours, unknown }) = (self.count, self.counted);
        match &mut self.out {
            Out::Json(to) => to.flush(),
            Out::Csv(to) => {
                if count == 0 {
                    to.write_record(COLUMNS)?;
                }
                to.flush()
            }
            Out::Table { to, .. } => {
                if count == 0 {
                    write!(to, "{}", self.head.take().unwrap_or_default())?;
                    writeln!(to, "the cloud holds no passings there")?;
                } else if unknown > 0 {
                    writeln!(
                        to,
                        "{count} passings; {ours} of this box, {unknown} of which the log of this box knows nothing"
                    )?;
                } else {
                    writeln!(to, "{count} passings; {ours} of this box")?;
                }
                to.flush()
            }
        }
    }
}

fn some(text: &Option<Box<str>>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// A line of the table. A text that is wider than its column moves the rest to the right.
fn table_line([number, time, bib, chip, decoder, ours]: [&str; 6]) -> String {
    format!("{number:>9}  {time:<29}  {bib:<8}  {chip:<24}  {decoder:<16}  {ours:<9}")
}

fn cells(line: &Line<'_>) -> [String; 17] {
    let stored = line.stored;
    let text = |text: &Option<Box<str>>| some(text).to_owned();
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    [
        text(&stored.timestamp),
        number(stored.num_passing),
        text(&stored.bib),
        text(&stored.chip),
        text(&stored.participant_id),
        text(&stored.latitude),
        text(&stored.longitude),
        text(&stored.status),
        text(&stored.timezone),
        text(&stored.gender),
        text(&stored.token_session),
        text(&stored.deviceid),
        line.box_ours.to_owned(),
        line.box_decoder.unwrap_or_default().to_owned(),
        number(line.box_seq),
        line.box_chip.unwrap_or_default().to_owned(),
        line.box_bib.unwrap_or_default().to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use jiff::tz::TimeZone;
    use serde_json::Value;

    use super::*;
    use crate::journal::UploadItem;
    use crate::model::chip::Seq;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(form: Form, session: Option<&Session>, rows: &[(FullPassing, BoxSide)]) -> String {
        let paper = Paper::default();
        let zone = ShownIn::zone(TimeZone::get("Europe/Madrid").unwrap());
        let mut sheet = Sheet::to(Box::new(paper.clone()), form, zone, session);
        for (row, side) in rows {
            sheet.row(row, side).unwrap();
        }
        sheet.finish().unwrap();
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn rows() -> Vec<(FullPassing, BoxSide)> {
        let ours = FullPassing {
            timestamp: Some("2026-07-05T08:42:07.350Z".into()),
            time_ms: Some(1_783_240_927_350),
            num_passing: Some(7),
            bib: Some("12".into()),
            chip: Some("C0FFEE".into()),
            token_session: Some("TOKEN-A".into()),
            ..Default::default()
        };
        let item = UploadItem {
            seq: Seq(41),
            num: 7,
            time_ms: 1_783_240_927_350,
            corrected_ms: 0,
            bib: "12".into(),
            chip: "C0FFEE".into(),
        };
        let side = BoxSide {
            whose: Whose::Ours,
            item: Some(item),
            decoder: Some("finish-mat".into()),
            chip: Some("0xC0FFEE".into()),
            received: None,
        };
        let other = FullPassing {
            timestamp: Some("soon".into()),
            num_passing: Some(8),
            bib: Some("Élan, \"x\"".into()),
            ..Default::default()
        };
        vec![(ours, side), (other, BoxSide::unknown())]
    }

    const JSON: Form = Form { json: true, csv: false };
    const CSV: Form = Form { json: false, csv: true };

    #[test]
    fn the_table_has_times_in_a_zone_and_says_how_many_are_of_this_box() {
        let session = Session { token: "TOKEN-A".into(), alias: Some("5K".into()), passings: None };
        let text = written(Form::default(), Some(&session), &rows());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "session 5K …OKEN-A");
        assert!(lines[1].trim_start().starts_with("NUMBER"), "{text}");
        for told in ["7  2026-07-05 10:42:07.350 CEST", "12", "C0FFEE", "finish-mat", "yes"] {
            assert!(lines[2].contains(told), "{told}: {text}");
        }
        assert!(lines[3].contains("soon") && lines[3].ends_with("unknown"), "{text}");
        assert_eq!(lines[4], "2 passings; 1 of this box, 1 of which the log of this box knows nothing");
        let text = written(Form::default(), None, &rows());
        assert!(text.lines().nth(1).unwrap().ends_with("yes        OKEN-A"), "{text}");
        assert_eq!(written(Form::default(), Some(&session), &[]).lines().count(), 2);
    }

    #[test]
    fn json_and_csv_have_the_clouds_names_and_then_those_of_the_box() {
        let text = written(JSON, None, &rows());
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for column in COLUMNS {
            assert!(lines[0].get(column).is_some(), "{column}");
        }
        assert_eq!(lines[0].as_object().unwrap().len(), COLUMNS.len());
        assert_eq!((&lines[0]["box_seq"], &lines[0]["box_chip"]), (&41.into(), &"0xC0FFEE".into()));
        assert_eq!((&lines[1]["box_ours"], &lines[1]["chip"]), (&"unknown".into(), &Value::Null));
        let text = written(CSV, None, &rows());
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), COLUMNS.to_vec());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        for (at, column) in COLUMNS.into_iter().enumerate() {
            let value = &lines[0][column];
            let expected =
                value.as_str().map_or_else(|| value.as_u64().map(|n| n.to_string()).unwrap_or_default(), str::to_owned);
            assert_eq!(rows[0][at], expected, "{column}");
        }
        assert_eq!(&rows[1][2], "Élan, \"x\"");
        assert_eq!(written(CSV, None, &[]).trim_end(), COLUMNS.join(","));
        assert_eq!(written(JSON, None, &[]), "");
    }
}
