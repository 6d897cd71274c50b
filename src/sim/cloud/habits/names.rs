//! The names of the habits, what each one does, and how its text is parsed.

use std::time::Duration;

use super::kinds::{EmptyPages, Habits, Lag, Lost, Miscount, Order, SecondWriter, Stale};
use super::when::{LONGEST, When};
use crate::config::duration;
use crate::sim::cloud::faults::On;
use crate::sim::cloud::store::{Dedup, MAX_LAG};
use crate::sim::cloud::words::Words;

/// One habit that a cloud may have.
pub(crate) struct CloudHabit {
    /// Name of the habit.
    pub name: &'static str,
    /// Form of the value. Empty: the habit has no value.
    pub value: &'static str,
    /// The text may say when the habit applies.
    pub timed: bool,
    /// What the cloud then does, in one sentence.
    pub says: &'static str,
    take: fn(&mut Habits, &str, When) -> Result<(), String>,
}

const TIME: &str = "TIME";
const TIMES: &str = "TIME[..TIME]";

const fn habit(
    name: &'static str,
    value: &'static str,
    says: &'static str,
    take: fn(&mut Habits, &str, When) -> Result<(), String>,
) -> CloudHabit {
    CloudHabit { name, value, timed: false, says, take }
}

const fn timed(
    name: &'static str,
    value: &'static str,
    says: &'static str,
    take: fn(&mut Habits, &str, When) -> Result<(), String>,
) -> CloudHabit {
    CloudHabit { timed: true, ..habit(name, value, says, take) }
}

/// Every habit.
pub const HABITS: &[CloudHabit] = &[
    habit(
        "lag",
        TIMES,
        "A question by number shows an insert only so long after the cloud took it; with two times each question draws \
         its own delay, so that a later one may show less than an earlier one.",
        |habits, value, _| {
            habits.lag = lag(value)?;
            Ok(())
        },
    ),
    habit(
        "lag-by-time",
        TIMES,
        "The same for questions by device and time, which otherwise lag as those by number do.",
        |habits, value, _| {
            habits.lag_by_time = Some(lag(value)?);
            Ok(())
        },
    ),
    habit(
        "lag-sessions",
        TIME,
        "The list of sessions, and a session that is asked for, are shown as they were so long ago.",
        |habits, value, _| {
            habits.lag_sessions = time(value, MAX_LAG)?;
            Ok(())
        },
    ),
    habit("lag-active", TIME, "The active session is the one that was active so long ago.", |habits, value, _| {
        habits.lag_active = time(value, MAX_LAG)?;
        Ok(())
    }),
    timed(
        "stale-active",
        "before|none",
        "The active session is said to be the one before, or said to be none.",
        |habits, value, when| {
            habits.stale_active.push((one_of(value, &[("before", Stale::Before), ("none", Stale::None)])?, when));
            Ok(())
        },
    ),
    habit("first-exclusive", "", "The number given as `first` does not belong to the range.", |habits, _, _| {
        habits.first_exclusive = true;
        Ok(())
    }),
    habit("last-exclusive", "", "The number given as `last` does not belong to the range.", |habits, _, _| {
        habits.last_exclusive = true;
        Ok(())
    }),
    habit("last-required", "", "A question by number without `last` is refused with 400.", |habits, _, _| {
        habits.last_required = true;
        Ok(())
    }),
    habit("range-limit", "N", "A question for more than N numbers is refused with 400.", |habits, value, _| {
        habits.range_limit = Some(number(value)?);
        Ok(())
    }),
    habit("span-limit", TIME, "A question for a longer time is refused with 400.", |habits, value, _| {
        habits.span_limit = Some(time(value, Duration::from_secs(30 * 24 * 3600))?);
        Ok(())
    }),
    habit("none-404", "", "A question for passings that finds none is answered 404.", |habits, _, _| {
        habits.none_is_404 = true;
        Ok(())
    }),
    habit("page-ignored", "", "Every page of passings is the first one.", |habits, _, _| {
        habits.page_ignored = true;
        Ok(())
    }),
    habit("no-has-more", "", "Pages do not say whether there are more.", |habits, _, _| {
        habits.no_has_more = true;
        Ok(())
    }),
    habit(
        "empty-pages",
        "first|between",
        "A page without passings, with `has_more: true`, comes before each page, or between two.",
        |habits, value, _| {
            let which = one_of(value, &[("first", EmptyPages::First), ("between", EmptyPages::Between)])?;
            habits.empty_pages = Some(which);
            Ok(())
        },
    ),
    habit(
        "order",
        "newest|shuffled",
        "Passings are listed newest first, or in no order (the same one each time).",
        |habits, value, _| {
            habits.order = one_of(value, &[("newest", Order::Newest), ("shuffled", Order::Shuffled)])?;
            Ok(())
        },
    ),
    habit(
        "text-numbers",
        "ids|counts|all",
        "Passings' numbers, or counts, or both, are answered as texts (\"17\").",
        |habits, value, _| {
            let (ids, counts) =
                one_of(value, &[("ids", (true, false)), ("counts", (false, true)), ("all", (true, true))])?;
            habits.text_ids |= ids;
            habits.text_counts |= counts;
            Ok(())
        },
    ),
    timed(
        "refuse",
        "passings|times|active|sessions|devices|questions|inserts:STATUS",
        "These requests are refused with this status: passings by number, by device and time, the active session, sessions, \
         devices, all these questions together, or inserts.",
        |habits, value, when| {
            let (what, status) = value.split_once(':').ok_or("must be WHAT:STATUS, such as passings:403")?;
            let status = status.parse().ok().filter(|status| (400..=599).contains(status));
            habits.refused.push((asked(what)?, status.ok_or("the status must be from 400 to 599")?, when));
            Ok(())
        },
    ),
    timed(
        "words",
        "active|inserts:WORDS[:stored|lost]",
        "The active session, or inserts (which are stored all the same, or lost), are answered in words that no document has: \
         throttled, locked, rate, none-inserted, not-inserted, try-later, result-text, other-key, body-null, empty or \
         gateway-404.",
        |habits, value, when| {
            let mut parts = value.split(':');
            let (on, said, stored) = (parts.next(), parts.next(), parts.next());
            let on = one_of(on.unwrap_or_default(), &[("active", On::Active), ("inserts", On::Insert)])?;
            let said = one_of(said.unwrap_or_default(), Words::ALL)?;
            let stored = stored.map(|stored| one_of(stored, &[("stored", true), ("lost", false)])).transpose()?;
            if parts.next().is_some() || stored.is_some() != (on == On::Insert) {
                return Err("must be active:WORDS, inserts:WORDS:stored or inserts:WORDS:lost".to_owned());
            }
            habits.words.push((on, said, stored, when));
            Ok(())
        },
    ),
    timed(
        "counts",
        "zero-lost|zero-stored|missing|half",
        "An insert is answered as a success that inserted none (which is true, or not), or without counts, or it stores only \
         its first half and says so.",
        |habits, value, when| {
            let count = one_of(
                value,
                &[
                    ("zero-lost", Miscount::Zero { stored: false }),
                    ("zero-stored", Miscount::Zero { stored: true }),
                    ("missing", Miscount::Missing),
                    ("half", Miscount::Half),
                ],
            )?;
            habits.miscounts.push((count, when));
            Ok(())
        },
    ),
    habit(
        "duplicates",
        "none|number|number-time|chip-time[:per-device]",
        "This is what the cloud takes for a duplicate, which it counts and does not store: in one session, or in all sessions \
         of the device.",
        |habits, value, _| {
            let (rule, wide) = match value.split_once(':') {
                Some((rule, "per-device")) => (rule, true),
                Some(_) => return Err("must be RULE or RULE:per-device".to_owned()),
                None => (value, false),
            };
            habits.dedup = Some(one_of(
                rule,
                &[
                    ("none", Dedup::None),
                    ("number", Dedup::Number),
                    ("number-time", Dedup::NumberTime),
                    ("chip-time", Dedup::ChipTime),
                ],
            )?);
            habits.per_device = wide;
            Ok(())
        },
    ),
    timed(
        "second-writer",
        "above|copies",
        "Another sender puts passings of its own into the session when an insert arrives: above the highest number, or under \
         the very numbers of the insert.",
        |habits, value, when| {
            habits
                .writers
                .push((one_of(value, &[("above", SecondWriter::Above), ("copies", SecondWriter::Copies)])?, when));
            Ok(())
        },
    ),
    habit(
        "fails",
        "CHIP[:STATUS]",
        "Every insert with this chip (or bib) fails as a whole, with 500 or this status, while all others pass.",
        |habits, value, _| {
            let (chip, status) = match value.rsplit_once(':') {
                Some((chip, status)) => (chip, status.parse().map_err(|_| "the status must be a number")?),
                None => (value, 500),
            };
            habits.failing.push((chip.to_owned(), status));
            Ok(())
        },
    ),
    habit("slow-posts", TIME, "An insert takes so long.", |habits, value, _| {
        habits.slow_posts = time(value, LONGEST)?;
        Ok(())
    }),
    timed(
        "lost-answers",
        "stored|dropped|half|late:TIME",
        "The connection of an insert is cut before the answer; the insert is stored, or not, or its first half is, or it is \
         stored up to so long afterwards.",
        |habits, value, when| {
            habits.lost.push((lost(value)?, false, when));
            Ok(())
        },
    ),
    timed(
        "silence",
        "stored|dropped|half|late:TIME",
        "The same, but the connection stays open without an answer until the client gives up.",
        |habits, value, when| {
            habits.lost.push((lost(value)?, true, when));
            Ok(())
        },
    ),
];

/// Parses `NAME[=VALUE][@WHEN]`.
pub(super) fn take(habits: &mut Habits, text: &str) -> Result<(), String> {
    let name = text.split(['=', '@']).next().unwrap_or_default();
    let Some(habit) = HABITS.iter().find(|habit| habit.name == name) else {
        return Err(format!("there is no habit `{name}`; `passbridge simulate cloud --habits` lists them"));
    };
    let wrong = |error: String| format!("habit {name}: {error}");
    let rest = &text[name.len()..];
    let (value, when) = match rest.rsplit_once('@') {
        Some((value, when)) if habit.timed => (value, when.parse().map_err(wrong)?),
        _ => (rest, When::Always),
    };
    let value = match (value.strip_prefix('='), habit.value) {
        (Some(value), form) if !form.is_empty() && !value.is_empty() => value,
        (None, "") if value.is_empty() => "",
        (_, "") => return Err(wrong("takes no value".to_owned())),
        (_, form) => return Err(wrong(format!("needs a value: {name}={form}"))),
    };
    (habit.take)(habits, value, when).map_err(wrong)
}

fn one_of<T: Copy>(text: &str, known: &[(&str, T)]) -> Result<T, String> {
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("`{text}` must be one of {}", names.join(", "))
    })
}

fn asked(text: &str) -> Result<On, String> {
    one_of(
        text,
        &[
            ("passings", On::HeldByNumber),
            ("times", On::HeldByTime),
            ("active", On::Active),
            ("sessions", On::Session),
            ("devices", On::Device),
            ("questions", On::Question),
            ("inserts", On::Insert),
        ],
    )
}

fn lost(text: &str) -> Result<Lost, String> {
    match text.strip_prefix("late:") {
        Some(late) => Ok(Lost::Late(time(late, MAX_LAG)?)),
        None => one_of(text, &[("stored", Lost::Stored), ("dropped", Lost::Dropped), ("half", Lost::Half)]),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{text}` must be a number from 1"))
}

fn time(text: &str, most: Duration) -> Result<Duration, String> {
    duration(text, &(Duration::ZERO..=most))
}

fn lag(text: &str) -> Result<Lag, String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let lag = Lag { least: time(least, MAX_LAG)?, most: time(most, MAX_LAG)? };
    if lag.least <= lag.most { Ok(lag) } else { Err("the first time must not be longer than the second".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One way to write each habit.
    const SPELLED: &[&str] = &[
        "lag=2s",
        "lag=0s..1500ms",
        "lag-by-time=10s",
        "lag-sessions=1s",
        "lag-active=1s",
        "stale-active=before@1/3",
        "stale-active=none@5+2s",
        "first-exclusive",
        "last-exclusive",
        "last-required",
        "range-limit=100",
        "span-limit=24h",
        "none-404",
        "page-ignored",
        "no-has-more",
        "empty-pages=first",
        "order=shuffled",
        "text-numbers=all",
        "refuse=passings:403@1/7",
        "words=active:result-text",
        "words=inserts:throttled:lost@1/4",
        "counts=zero-lost@12s",
        "duplicates=number:per-device",
        "second-writer=copies@1/5",
        "fails=MC0001",
        "fails=MC0001:503",
        "slow-posts=2s",
        "lost-answers=late:3s@1/9",
        "silence=half@1/9",
    ];

    #[test]
    fn every_habit_is_read_as_it_is_listed() {
        let habits = Habits::of(7, SPELLED).unwrap();
        let shown = habits.to_string();
        for habit in HABITS {
            assert!(SPELLED.iter().any(|text| text.split(['=', '@']).next() == Some(habit.name)), "{}", habit.name);
            assert!(habit.says.ends_with('.') && !habit.says.contains("  "), "{}", habit.name);
            assert!(shown.contains(&format!("--habit {}", habit.name)), "{shown}");
        }
        assert!(shown.starts_with("--seed 7 --habit lag=2s "), "{shown}");
    }

    #[test]
    fn what_is_no_habit_is_refused_with_what_would_be_one() {
        for (wrong, why) in [
            ("lagg=2s", "there is no habit"),
            ("lag", "needs a value"),
            ("lag=", "needs a value"),
            ("lag=2", "with its unit"),
            ("lag=2h", "to 1m"),
            ("lag=3s..2s", "not be longer"),
            ("none-404=1", "takes no value"),
            ("none-404@1/2", "takes no value"),
            ("stale-active=after", "one of before, none"),
            ("stale-active=none@never", "must be always"),
            ("refuse=passings", "WHAT:STATUS"),
            ("refuse=passings:200", "400 to 599"),
            ("words=inserts:throttled", "inserts:WORDS:stored"),
            ("words=active:throttled:stored", "active:WORDS"),
            ("words=active:hello", "one of throttled"),
            ("duplicates=number:everywhere", "RULE:per-device"),
            ("range-limit=0", "from 1"),
            ("", "there is no habit"),
        ] {
            let error = Habits::new(1).take(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_document_of_the_simulated_cloud_lists_every_habit_with_its_sentence() {
        let document = include_str!("../../../../docs/simulated-cloud.md");
        for habit in HABITS {
            let form =
                if habit.value.is_empty() { habit.name.to_owned() } else { format!("{}={}", habit.name, habit.value) };
            let row =
                format!("| `{}`{} | {} |", form.replace('|', "\\|"), if habit.timed { " @" } else { "" }, habit.says);
            assert!(document.contains(&row), "docs/simulated-cloud.md lacks\n{row}");
        }
    }
}
