//! Reads `[[expect]]`: when a mat must give reads.

use std::time::Duration;

use jiff::civil::{DateTime, Time};

use super::layers::{ConfigError, Section};
use super::nearest::did_you_mean;
use super::value;
use super::window::{ExpectConfig, TimeWindow};

pub(super) const EXPECT: &[&str] = &["decoder", "from", "to", "quiet"];
/// More than a race has mats and legs.
const EXPECTATIONS: usize = 32;
const QUIET: Duration = Duration::from_secs(600);

/// One end of a window, as it is written.
#[derive(Clone, Copy)]
enum Edge {
    Daily(Time),
    Once(DateTime),
}

fn edge(text: &str) -> Result<Edge, String> {
    let time = ["%H:%M", "%H:%M:%S"].iter().find_map(|form| Time::strptime(form, text).ok());
    let day = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
    let day = || day.iter().find_map(|form| DateTime::strptime(form, text).ok());
    let must = "must be a time of day such as \"09:00\", or a day with a time such as \"2026-12-06 09:00\", in the zone of \
                this box";
    time.map(Edge::Daily).or_else(|| day().map(Edge::Once)).ok_or_else(|| must.to_owned())
}

/// Reads each `[[expect]]`. `sources` are the names of all decoders and of their locations.
/// A mistake is about its own section only.
pub(super) fn read_expect(root: &Section<'_>, sources: &[String]) -> (Vec<ExpectConfig>, Vec<ConfigError>) {
    let mut sections = match root.sections("expect", EXPECT) {
        Ok(sections) => sections,
        Err(error) => return (Vec::new(), vec![error]),
    };
    let (mut expected, mut wrong) = (Vec::new(), Vec::new());
    if sections.len() > EXPECTATIONS {
        let must = format!("must be at most {EXPECTATIONS} sections; those after them do not count");
        wrong.push(root.wrong("expect", must));
        sections.truncate(EXPECTATIONS);
    }
    for section in sections {
        match read_one(&section, sources) {
            Ok(one) => expected.push(one),
            Err(error) => wrong.push(error),
        }
    }
    (expected, wrong)
}

fn read_one(section: &Section<'_>, sources: &[String]) -> Result<ExpectConfig, ConfigError> {
    section.only_known()?;
    let source = section.parse("decoder", |name| match sources.iter().any(|known| known == name) {
        true => Ok(name.to_owned()),
        false => {
            let meant = did_you_mean(name, sources.iter().map(String::as_str));
            Err(format!("must be the name of a decoder of this file: {}{meant}", sources.join(", ")))
        }
    })?;
    let source = source.ok_or_else(|| section.missing("decoder", "the name of the decoder that must not be silent"))?;
    let from = section.parse("from", edge)?;
    let from = from.ok_or_else(|| section.missing("from", "from when on reads are expected, such as \"09:00\""))?;
    let to = section.parse("to", edge)?;
    let to = to.ok_or_else(|| section.missing("to", "until when reads are expected, such as \"13:00\""))?;
    let window = match (from, to) {
        (Edge::Daily(from), Edge::Daily(to)) if from == to => {
            return Err(
                section.wrong("to", "must not be the same as `from`; a whole day is from \"00:00\" to \"23:59:59\"")
            );
        }
        (Edge::Daily(from), Edge::Daily(to)) => TimeWindow::Daily { from, to },
        (Edge::Once(from), Edge::Once(to)) if from < to => TimeWindow::Once { from, to },
        (Edge::Once(_), Edge::Once(_)) => return Err(section.wrong("to", "must be after `from`")),
        _ => return Err(section.wrong("to", "must be written like `from`: both as times of day, or both with a day")),
    };
    let allowed = Duration::from_secs(10)..=Duration::from_secs(86_400);
    let quiet = section.parse_with_unit("quiet", "m", |text| value::duration(text, &allowed))?;
    Ok(ExpectConfig { source, window, quiet: quiet.unwrap_or(QUIET) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    fn window(from: &str, to: &str) -> TimeWindow {
        match (edge(from).unwrap(), edge(to).unwrap()) {
            (Edge::Daily(from), Edge::Daily(to)) => TimeWindow::Daily { from, to },
            (Edge::Once(from), Edge::Once(to)) => TimeWindow::Once { from, to },
            _ => panic!("{from} {to}"),
        }
    }

    #[test]
    fn a_window_of_each_day_may_go_over_midnight() {
        let day = window("09:00", "13:00");
        for (now, inside) in [("08:59:59", false), ("09:00:00", true), ("12:59:59", true), ("13:00:00", false)] {
            assert_eq!(day.contains(at(&format!("2026-12-06T{now}"))), inside, "{now}");
        }
        let night = window("22:00", "02:30");
        for (now, inside) in
            [("21:59:59", false), ("22:00:00", true), ("00:00:00", true), ("02:29:59", true), ("02:30:00", false)]
        {
            assert_eq!(night.contains(at(&format!("2026-12-06T{now}"))), inside, "{now}");
        }
        assert_eq!(night.to_string(), "from 22:00 to 02:30");
    }

    #[test]
    fn a_window_with_days_is_once() {
        let once = window("2026-12-06 22:00", "2026-12-07T02:00:30");
        assert!(once.contains(at("2026-12-07T01:00:00")) && !once.contains(at("2026-12-08T01:00:00")));
        assert_eq!(once.to_string(), "from 2026-12-06 22:00 to 2026-12-07 02:00:30");
        for wrong in ["", "9", "25:00", "2026-12-06", "2026-13-06 09:00", "09:00 CET", "noon"] {
            assert!(edge(wrong).is_err(), "{wrong}");
        }
    }
}
