//! The list of the passings whose time is not right, or that were sent again: for people, as lines
//! of JSON, or as a table. It is written while the log is read, so it may be of any length.

use std::io::{self, BufWriter, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::commands::args::stdout;
use crate::export::Reading;
use crate::export::corrected::{InSession, WalkedRead};

/// Lines that people get. More are in the table.
const LINES_MAX: u64 = 20;

/// How the list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
    Csv,
    /// It is not written.
    Counted,
}

/// A passing of the list.
pub(super) struct ListedPassing<'a> {
    pub read: &'a WalkedRead<'a>,
    pub passing: InSession<'a>,
    /// The cloud has it. Otherwise it is on its way.
    pub arrived: bool,
    /// Its time is not right.
    pub wrong: bool,
    /// The right time.
    pub right: Timestamp,
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    decoder: &'a str,
    chip: &'a str,
    bib: &'a str,
    device_id: &'a str,
    token_session: &'a str,
    num_passing: u64,
    /// `sent`, or `pending` while it is on its way.
    state: &'static str,
    /// Its time is not the right one.
    wrong: bool,
    sent_time: String,
    time: String,
    replaces_session: Option<&'a str>,
    replaces_num_passing: Option<u64>,
}

/// The columns of the table: the fields of a line.
const COLUMNS: [&str; 13] = [
    "seq",
    "decoder",
    "chip",
    "bib",
    "device_id",
    "token_session",
    "num_passing",
    "state",
    "wrong",
    "sent_time",
    "time",
    "replaces_session",
    "replaces_num_passing",
];

/// The list while it is written.
pub(super) struct List {
    out: Out,
    reading: Reading,
    lines: u64,
}

enum Out {
    Text(String),
    Json(Box<dyn Write>),
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Nowhere,
}

impl List {
    pub(super) fn new(form: Form, reading: &Reading) -> io::Result<Self> {
        let out = match form {
            Form::Text => Out::Text(String::new()),
            Form::Json => Out::Json(Box::new(BufWriter::new(stdout()))),
            Form::Csv => {
                let mut table = csv::WriterBuilder::new().has_headers(false).from_writer(stdout());
                table.write_record(COLUMNS).map_err(io::Error::other)?;
                Out::Csv(Box::new(table))
            }
            Form::Counted => Out::Nowhere,
        };
        Ok(Self { out, reading: reading.clone(), lines: 0 })
    }

    pub(super) fn add(&mut self, listed: &ListedPassing<'_>) -> io::Result<()> {
        let ListedPassing { read, passing, arrived, wrong, right } = listed;
        let sent = Timestamp::from_millisecond(passing.item.time_ms).unwrap_or(*right);
        let line = Line {
            seq: read.seq,
            decoder: read.source,
            chip: &passing.item.chip,
            bib: &passing.item.bib,
            device_id: passing.device,
            token_session: passing.session,
            num_passing: passing.item.num,
            state: if *arrived { "sent" } else { "pending" },
            wrong: *wrong,
            sent_time: self.reading.shown(sent),
            time: self.reading.shown(*right),
            replaces_session: passing.replaces.map(|(session, _)| session),
            replaces_num_passing: passing.replaces.map(|(_, num)| num),
        };
        self.lines += 1;
        match &mut self.out {
            Out::Json(out) => {
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")
            }
            Out::Csv(table) => table.serialize(&line).map_err(io::Error::other),
            Out::Text(text) => {
                if self.lines <= LINES_MAX {
                    text.push_str(&line.in_words(self.lines == 1));
                }
                Ok(())
            }
            Out::Nowhere => Ok(()),
        }
    }

    /// Writes what is left. Returns the lines for people.
    pub(super) fn finish(self) -> io::Result<String> {
        match self.out {
            Out::Text(mut text) => {
                if self.lines > LINES_MAX {
                    text += &format!("  … and {} more: --csv and --json list all\n", self.lines - LINES_MAX);
                }
                return Ok(text);
            }
            Out::Json(mut out) => out.flush()?,
            Out::Csv(mut table) => table.flush()?,
            Out::Nowhere => {}
        }
        Ok(String::new())
    }
}

impl Line<'_> {
    fn in_words(&self, is_first: bool) -> String {
        let mut text = String::new();
        if is_first {
            text += "  number  chip          in the cloud as                right\n";
        }
        let Line { num_passing, chip, sent_time, time, .. } = self;
        let told = if self.wrong { time.as_str() } else { "so it is" };
        text += &format!("  {num_passing:>6}  {chip:<12}  {sent_time:<29}  {told}");
        if let Some(num) = self.replaces_num_passing {
            text += &format!("  (sent again: replaces number {num})");
        }
        text + "\n"
    }
}
