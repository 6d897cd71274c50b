//! One drawing of the page, in parts, and what has changed since an earlier one.
//!
//! Must hold: what is sent follows from the number that the client has, and from nothing else. So a
//! slow client gets fewer events, and each has the newest text of each part.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

/// A part of the page: one element with an id.
#[derive(Clone, Debug)]
pub(super) struct PagePart {
    /// The id of the element.
    pub id: String,
    /// The element.
    pub html: Arc<str>,
    /// The part in which it is. If that changed too, it alone is sent.
    pub within: Option<&'static str>,
    /// What decides whether it changed: its text, or for a part with parts in it their ids.
    key: Arc<str>,
    /// The drawing in which it changed last.
    since: u64,
}

/// A row of the last reads.
#[derive(Clone, Debug)]
pub(super) struct PageRow {
    /// Its entry in the journal.
    pub seq: u64,
    /// The row.
    pub html: Arc<str>,
    since: u64,
}

/// The clocks of the box at the moment of a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beat {
    /// Time since the start of the process, by the monotonic clock.
    pub uptime_ms: u64,
    /// The wall clock, in ms since 1970.
    pub wall_ms: i64,
    /// How far the zone of the box is ahead of UTC, in seconds.
    pub ahead_s: i32,
}

/// One drawing.
#[derive(Clone, Debug, Default)]
pub(super) struct PageFrame {
    /// Its number, from 1.
    pub number: u64,
    /// The clocks.
    pub beat: Beat,
    /// The version of the page.
    pub version: Arc<str>,
    /// The parts, in the order of the page.
    pub parts: Vec<PagePart>,
    /// The rows, the newest first.
    pub rows: Vec<PageRow>,
    /// What changed since the drawing before, as an event.
    pub step: Arc<str>,
}

/// A part, as it is drawn.
pub(super) struct Drawn {
    pub id: String,
    pub html: String,
    pub within: Option<&'static str>,
    /// The ids of the parts in it. `None`: there are none.
    pub holds: Option<String>,
}

impl PageFrame {
    /// The next drawing. `parts` and `rows`: `None` if they are as before.
    pub(super) fn next(&self, beat: Beat, parts: Option<Vec<Drawn>>, rows: Option<Vec<(u64, String)>>) -> Self {
        let number = self.number + 1;
        let parts = match parts {
            None => self.parts.clone(),
            Some(drawn) => {
                let known: HashMap<&str, &PagePart> = self.parts.iter().map(|part| (part.id.as_str(), part)).collect();
                drawn.into_iter().map(|drawn| part(drawn, &known, number)).collect()
            }
        };
        let rows = match rows {
            None => self.rows.clone(),
            Some(drawn) => {
                let known: HashMap<u64, &PageRow> = self.rows.iter().map(|row| (row.seq, row)).collect();
                let row = |(seq, html): (u64, String)| match known.get(&seq) {
                    Some(row) if *row.html == *html => (*row).clone(),
                    _ => PageRow { seq, html: html.into(), since: number },
                };
                drawn.into_iter().map(row).collect()
            }
        };
        let mut frame = Self { number, beat, version: Arc::clone(&self.version), parts, rows, step: Arc::default() };
        frame.step = frame.event_since(number - 1).into();
        frame
    }

    /// The element of a part.
    pub(super) fn html(&self, id: &str) -> &str {
        self.parts.iter().find(|part| part.id == id).map_or("", |part| &part.html)
    }

    /// An event with all that changed after the drawing `number`.
    pub(super) fn event_since(&self, number: u64) -> String {
        let anew = |id: &str| self.parts.iter().any(|part| part.id == id && part.since > number);
        let changed = self.parts.iter().filter(|part| part.since > number && !part.within.is_some_and(anew));
        let parts: Vec<Value> = changed.map(|part| json!([part.id, &*part.html])).collect();
        let rows: Vec<Value> =
            self.rows.iter().filter(|row| row.since > number).map(|row| json!([row.seq, &*row.html])).collect();
        let mut event =
            json!({"t": self.beat.uptime_ms, "w": self.beat.wall_ms, "z": self.beat.ahead_s, "v": &*self.version});
        if !parts.is_empty() {
            event["parts"] = parts.into();
        }
        if !rows.is_empty() {
            event["rows"] = rows.into();
            event["oldest"] = self.rows.last().map_or(0, |row| row.seq).into();
        }
        // JSON has no line ends, so an event is one line of data.
        format!("data: {event}\n\n")
    }
}

fn part(drawn: Drawn, known: &HashMap<&str, &PagePart>, number: u64) -> PagePart {
    let Drawn { id, html, within, holds } = drawn;
    let html: Arc<str> = html.into();
    let key: Arc<str> = holds.map_or_else(|| Arc::clone(&html), Into::into);
    let since = match known.get(id.as_str()) {
        Some(before) if before.key == key => before.since,
        _ => number,
    };
    PagePart { id, html, within, key, since }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(id: &str, html: &str) -> Drawn {
        Drawn { id: id.to_owned(), html: html.to_owned(), within: None, holds: None }
    }

    fn inner(id: &str, html: &str) -> Drawn {
        Drawn { within: Some("chain"), ..plain(id, html) }
    }

    fn chain(html: &str, holds: &str) -> Drawn {
        Drawn { holds: Some(holds.to_owned()), ..plain("chain", html) }
    }

    fn ids(event: &str) -> Vec<String> {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap().trim_end()).unwrap();
        let parts = event["parts"].as_array().cloned().unwrap_or_default();
        let rows = event["rows"].as_array().cloned().unwrap_or_default();
        parts.iter().chain(&rows).map(|one| one[0].to_string().replace('"', "")).collect()
    }

    fn next(frame: &PageFrame, parts: Vec<Drawn>, rows: Vec<(u64, String)>) -> PageFrame {
        frame.next(Beat::default(), Some(parts), Some(rows))
    }

    #[test]
    fn what_changed_is_sent_and_what_did_not_is_not() {
        let first =
            next(&PageFrame::default(), vec![plain("state", "a"), plain("sum", "1")], vec![(1, "x".to_owned())]);
        assert_eq!(ids(&first.step), ["state", "sum", "1"]);
        let second = next(&first, vec![plain("state", "a"), plain("sum", "2")], vec![(1, "x".to_owned())]);
        assert_eq!(ids(&second.step), ["sum"]);
        let third =
            next(&second, vec![plain("state", "a"), plain("sum", "2")], vec![(2, "y".to_owned()), (1, "z".to_owned())]);
        assert_eq!(ids(&third.step), ["2", "1"]);
        assert_eq!(ids(&third.next(Beat::default(), None, None).step), [""; 0], "an event that only beats");
    }

    #[test]
    fn a_slow_client_gets_the_newest_text_of_each_part_once() {
        let mut frame = next(&PageFrame::default(), vec![plain("state", "a"), plain("sum", "0")], Vec::new());
        let seen = frame.number;
        for sum in 1..100 {
            frame = next(&frame, vec![plain("state", "a"), plain("sum", &sum.to_string())], Vec::new());
        }
        let event = frame.event_since(seen);
        assert_eq!(ids(&event), ["sum"]);
        assert!(event.contains(r#"["sum","99"]"#), "{event}");
    }

    #[test]
    fn a_part_that_holds_others_is_sent_whole_only_when_they_are_others() {
        let first = next(&PageFrame::default(), vec![chain("<m0 1>", "m0"), inner("m0", "1")], Vec::new());
        assert_eq!(ids(&first.step), ["chain"]);
        let second = next(&first, vec![chain("<m0 2>", "m0"), inner("m0", "2")], Vec::new());
        assert_eq!(ids(&second.step), ["m0"]);
        let third = next(&second, vec![chain("<m0 2><m1 1>", "m0 m1"), inner("m0", "2"), inner("m1", "1")], Vec::new());
        assert_eq!(ids(&third.step), ["chain"]);
        assert_eq!(ids(&third.event_since(first.number)), ["chain"], "the parts in it are in its text");
    }
}
