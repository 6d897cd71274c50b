//! What `watch` shows: a line for each passing and each session, for people or as JSON. CSV has the
//! passings only, a row each.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::delays::Figures;
use crate::cloud::list::known::{BoxSide, Whose};
use crate::cloud::rufus::FullPassing;
use crate::commands::account::counted;
use crate::commands::account::table::{Form, utc};
use crate::commands::args::stdout;
use crate::config::failure::Failure;
use crate::model::shown::ShownIn;
use crate::model::text::{printable, tail};

/// The columns of CSV, by their names in JSON.
const COLUMNS: [&str; 12] = [
    "timestamp",
    "num_passing",
    "bib",
    "chip",
    "token_session",
    "box_ours",
    "box_decoder",
    "box_seq",
    "received",
    "seen",
    "delay_ms",
    "delay_since",
];

/// From which moment the time until the cloud is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// This box received the read.
    Read,
    /// The stamp of the passing.
    Stamp,
}

/// A passing, when it was seen in the cloud.
pub(super) struct Arrival<'a> {
    row: &'a FullPassing,
    side: &'a BoxSide,
    token: Option<&'a str>,
    seen: Timestamp,
    /// Milliseconds until it was seen. Less than 0 if a clock is wrong.
    delay: Option<(i64, Since)>,
}

impl<'a> Arrival<'a> {
    /// A passing of the session `token` that was seen in the cloud at `seen`.
    pub(super) fn new(row: &'a FullPassing, side: &'a BoxSide, token: Option<&'a str>, seen: Timestamp) -> Self {
        let until = |from: i64| seen.as_millisecond().saturating_sub(from);
        let received = side.received.filter(|_| side.whose == Whose::Ours);
        let delay = match (received, row.time_ms) {
            (Some(received), _) => Some((until(received.as_millisecond()), Since::Read)),
            (None, Some(stamp)) => Some((until(stamp), Since::Stamp)),
            (None, None) => None,
        };
        Self { row, side, token: row.token_session.as_deref().or(token), seen, delay }
    }

    /// How long it took from the read on this box. `None`: that is not known.
    pub(super) fn since_read(&self) -> Option<Duration> {
        match self.delay? {
            (ms, Since::Read) => u64::try_from(ms).ok().map(Duration::from_millis),
            (_, Since::Stamp) => None,
        }
    }

    fn json(&self) -> Value {
        let (delay, since) = self.delay.unzip();
        json!({
            "event": "passing",
            "num_passing": self.row.num_passing,
            "timestamp": self.row.timestamp,
            "bib": self.row.bib,
            "chip": self.row.chip,
            "token_session": self.token,
            "box_ours": self.side.whose.word(),
            "box_decoder": self.side.decoder.as_deref(),
            "box_seq": self.side.item.as_ref().map(|item| item.seq.0),
            "received": self.side.received.and_then(|received| utc(received.as_millisecond())),
            "seen": utc(self.seen.as_millisecond()),
            "delay_ms": delay,
            "delay_since": since.map(|since| match since {
                Since::Read => "read",
                Since::Stamp => "stamp",
            }),
        })
    }

    fn text(&self, times: &ShownIn) -> String {
        let instant = self.row.time_ms.and_then(|time| Timestamp::from_millisecond(time).ok());
        let stamp = || self.row.timestamp.as_deref().unwrap_or_default().to_owned();
        let time = instant.map_or_else(stamp, |instant| times.milli(instant));
        let some = |text: &'a Option<Box<str>>| text.as_deref().unwrap_or_default();
        let number = self.row.num_passing.map(|num| num.to_string()).unwrap_or_default();
        let decoder = match (&self.side.decoder, self.side.whose) {
            (Some(decoder), _) => &**decoder,
            (None, Whose::Foreign | Whose::Different) => "not of this box",
            (None, _) => "",
        };
        let delay = match self.delay {
            Some((ms, Since::Read)) => seconds(ms),
            Some((ms, Since::Stamp)) => format!("{} by its stamp", seconds(ms)),
            None => String::new(),
        };
        line([&number, &time, some(&self.row.bib), some(&self.row.chip), decoder, &delay])
    }
}

fn seconds(ms: i64) -> String {
    format!("{:.2} s", ms as f64 / 1000.0)
}

fn line([number, time, bib, chip, decoder, delay]: [&str; 6]) -> String {
    let line = format!("{number:>9}  {time:<29}  {bib:<8}  {chip:<24}  {decoder:<16}  {delay}");
    printable(line.trim_end())
}

/// Standard output.
pub(super) struct Screen {
    to: BufWriter<Box<dyn Write>>,
    form: Form,
    times: ShownIn,
    interval: Duration,
    headed: bool,
    /// The header of CSV is written.
    rows: bool,
}

impl Screen {
    /// For people, with times in `times`, or for programs. `interval`: the time between two looks.
    pub(super) fn new(form: Form, times: ShownIn, interval: Duration) -> Self {
        Self { to: BufWriter::new(stdout()), form, times, interval, headed: false, rows: false }
    }

    fn put(&mut self, text: &str, json: &Value) -> Result<(), Failure> {
        let put = match self.form {
            Form { json: true, .. } => writeln!(self.to, "{json}"),
            Form { csv: true, .. } => Ok(()), // only passings are rows
            _ => writeln!(self.to, "{text}"),
        };
        put.map_err(|error| Failure::output(&error))
    }

    /// Lets everything be seen.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        io::Write::flush(&mut self.to).map_err(|error| Failure::output(&error))
    }

    /// No session is active.
    pub(super) fn no_session(&mut self) -> Result<(), Failure> {
        self.put("no session is active: waiting for one", &json!({ "event": "no_session" }))?;
        self.flush()
    }

    /// The passings of this session follow.
    pub(super) fn session(&mut self, token: &str, alias: Option<&str>) -> Result<(), Failure> {
        let named = alias.map(|alias| format!(" {}", printable(alias))).unwrap_or_default();
        let text = format!("session{named} …{}", tail(token));
        self.put(&text, &json!({ "event": "session", "token_session": token, "alias": alias }))?;
        if !self.form.json && !std::mem::replace(&mut self.headed, true) {
            let heading = line(["NUMBER", "TIME", "BIB", "CHIP", "DECODER", "READ TO CLOUD"]);
            self.put(&heading, &Value::Null)?;
        }
        self.flush()
    }

    /// A passing.
    pub(super) fn passing(&mut self, arrival: &Arrival<'_>) -> Result<(), Failure> {
        match self.form {
            Form { json: true, .. } => self.put("", &arrival.json()),
            Form { csv: true, .. } => self.row(&arrival.json()),
            _ => self.put(&arrival.text(&self.times), &Value::Null),
        }
    }

    /// A passing as a row, after the header if it is the first one.
    fn row(&mut self, passing: &Value) -> Result<(), Failure> {
        let field = |name: &&str| match &passing[*name] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut rows = csv::Writer::from_writer(&mut self.to);
        let header = match std::mem::replace(&mut self.rows, true) {
            true => Ok(()),
            false => rows.write_record(COLUMNS),
        };
        let written = header.and_then(|()| rows.write_record(COLUMNS.iter().map(field)));
        let flushed = written.map_err(io::Error::from).and_then(|()| rows.flush());
        flushed.map_err(|error| Failure::output(&error))
    }

    /// The times of the last minute, if anything arrived in it.
    pub(super) fn minute(&mut self, figures: Option<Figures>) -> Result<(), Failure> {
        let Some(figures) = figures else { return Ok(()) };
        let text = format!("in the last minute: {}", self.told(figures));
        self.put(&text, &told_json("minute", None, Some(figures), self.interval))?;
        self.flush()
    }

    /// The end: how many passings were seen, and how long those of this box took.
    pub(super) fn summary(&mut self, seen: u64, figures: Option<Figures>) -> Result<(), Failure> {
        let of_this_box =
            figures.map_or_else(|| "none whose read this box knows".to_owned(), |figures| self.told(figures));
        let text = format!("{}; {of_this_box}", counted(seen, "passing"));
        self.put(&text, &told_json("summary", Some(seen), figures, self.interval))?;
        self.flush()
    }

    fn told(&self, Figures { median, p95, worst, passings }: Figures) -> String {
        let s = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        format!(
            "from the read to the cloud: median {}, 95 % within {}, worst {} ({passings} passings of this box; up to {} of it \
             is the time until the next look)",
            s(median),
            s(p95),
            s(worst),
            s(self.interval),
        )
    }
}

fn told_json(event: &str, seen: Option<u64>, figures: Option<Figures>, interval: Duration) -> Value {
    let ms = |time: fn(&Figures) -> Duration| figures.as_ref().map(|figures| time(figures).as_millis() as u64);
    json!({
        "event": event,
        "passings": seen,
        "of_this_box": figures.map_or(0, |figures| figures.passings),
        "median_ms": ms(|figures| figures.median),
        "p95_ms": ms(|figures| figures.p95),
        "worst_ms": ms(|figures| figures.worst),
        "interval_ms": interval.as_millis() as u64,
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn the_delay_is_told_from_the_read_of_this_box_or_else_from_the_stamp_and_marked() {
        let seen: Timestamp = "2026-07-05T08:42:10.350Z".parse().unwrap();
        let row = FullPassing { num_passing: Some(3), time_ms: Some(1_783_240_927_350), ..Default::default() };
        let received = Some("2026-07-05T08:42:09.100Z".parse().unwrap());
        let ours = BoxSide { whose: Whose::Ours, received, decoder: Some("mat".into()), ..BoxSide::unknown() };
        let foreign = BoxSide { whose: Whose::Foreign, ..BoxSide::unknown() };
        let times = ShownIn::zone(TimeZone::UTC);

        let arrival = Arrival::new(&row, &ours, Some("A"), seen);
        assert_eq!(arrival.since_read(), Some(Duration::from_millis(1250)));
        let text = arrival.text(&times);
        assert!(text.contains("mat") && text.ends_with("  1.25 s"), "{text}");
        let json = arrival.json();
        assert_eq!((&json["delay_ms"], &json["delay_since"]), (&1250.into(), &"read".into()));
        assert_eq!((&json["token_session"], &json["received"]), (&"A".into(), &"2026-07-05T08:42:09.100Z".into()));

        let arrival = Arrival::new(&row, &foreign, Some("A"), seen);
        assert_eq!(arrival.since_read(), None);
        let text = arrival.text(&times);
        assert!(text.contains("not of this box") && text.ends_with("  3.00 s by its stamp"), "{text}");
        assert_eq!(arrival.json()["delay_since"], "stamp");

        let no_time = FullPassing { num_passing: Some(4), ..Default::default() };
        assert_eq!(Arrival::new(&no_time, &foreign, None, seen).json()["delay_ms"], Value::Null);
    }
}
