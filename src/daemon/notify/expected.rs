//! Finds the mats that are silent when they must not be (`[[expect]]`).
//!
//! Must hold:
//! * The silence is measured by the clock that does not step, and from the last of three moments:
//!   the last live read, the begin of the window, and the start of passbridge. So a mat has its
//!   whole time at the begin of a window.
//! * Only live reads count. Stored reads that the box fetched say nothing about the mat now.
//! * While the clock of the box was never set, nobody knows whether it is time, so nothing is said.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::ZonedDateTime;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::ExpectConfig;
use crate::model::clock::box_clock_set;
use crate::model::source;
use crate::status::words::age;
use crate::status::{Board, DecoderStatus, ProblemCode};

/// The mats that must give reads.
pub(super) struct Watchlist {
    expected: Vec<Expected>,
    /// The silent mats that are shown as problems.
    shown: Vec<String>,
}

/// One expectation.
struct Expected {
    config: ExpectConfig,
    /// Since when this moment is in the window, as the time since the start of the process.
    entered: Option<Duration>,
}

impl Watchlist {
    pub(super) fn new(expect: Vec<ExpectConfig>) -> Self {
        let expected = expect.into_iter().map(|config| Expected { config, entered: None }).collect();
        Self { expected, shown: Vec::new() }
    }

    /// Raises and clears the problems. `zone` is the zone of the box.
    pub(super) fn look(&mut self, board: &Board, zone: &TimeZone) {
        let now = board.now();
        let local = box_clock_set(now).then(|| zone.to_datetime(now));
        let silent = self.silent(&board.snapshot().decoders, local, board.elapsed());
        for (source, (since, config)) in &silent {
            if self.shown.contains(source) {
                continue; // the message stays as it is, because it names a moment and no age
            }
            let since = ZonedDateTime::new(now.checked_sub(*since).unwrap_or(now), zone.clone());
            let message = format!(
                "no live read of `{source}` since {}, although the configuration expects one at least every {} {} ({}): pass a \
                 test chip over the mat",
                since.strftime("%H:%M:%S"),
                age(config.quiet.as_secs()),
                config.window,
                since.strftime("%Z"),
            );
            board.raise(ProblemCode::MatQuiet, source, message);
        }
        for over in self.shown.iter().filter(|source| !silent.contains_key(*source)) {
            board.clear(ProblemCode::MatQuiet, over);
        }
        self.shown = silent.into_keys().collect();
    }

    /// The mats that are silent for too long at `now`, the time since the start: for how long, and
    /// against which expectation. `local` is the time on the wall, if it is known.
    fn silent(
        &mut self,
        decoders: &[DecoderStatus],
        local: Option<DateTime>,
        now: Duration,
    ) -> BTreeMap<String, (Duration, ExpectConfig)> {
        let mut silent = BTreeMap::new();
        for Expected { config, entered } in &mut self.expected {
            if !local.is_some_and(|local| config.window.contains(local)) {
                *entered = None;
                continue;
            }
            let entered = *entered.get_or_insert(now);
            let since = live_at(decoders, &config.source).map_or(entered, |live| live.max(entered));
            if now.saturating_sub(since) >= config.quiet {
                let last = live_at(decoders, &config.source).unwrap_or(since);
                silent.insert(config.source.clone(), (now.saturating_sub(last), config.clone()));
            }
        }
        silent
    }
}

/// When the last live read of a decoder, or of one of its locations, was kept.
fn live_at(decoders: &[DecoderStatus], of: &str) -> Option<Duration> {
    let decoder = decoders.iter().find(|decoder| decoder.name == source::decoder(of))?;
    match source::location(of) {
        Some(location) => decoder.locations_live_at.get(location).copied(),
        None => decoder.live_at,
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};

    use super::*;
    use crate::config::TimeWindow;
    use crate::model::clock::Wall;

    const MINUTE: Duration = Duration::from_secs(60);

    fn expect(source: &str) -> ExpectConfig {
        let window = TimeWindow::Daily { from: time(9, 0, 0, 0), to: time(13, 0, 0, 0) };
        ExpectConfig { source: source.to_owned(), window, quiet: 10 * MINUTE }
    }

    fn mat(name: &str, live_at: Option<Duration>) -> DecoderStatus {
        DecoderStatus { name: name.to_owned(), live_at, ..DecoderStatus::default() }
    }

    /// Whether the mat is silent, at a time on the wall and since the start.
    fn silent(list: &mut Watchlist, mats: &[DecoderStatus], wall: Option<(i8, i8)>, now: Duration) -> Vec<String> {
        let local = wall.map(|(hour, minute)| date(2026, 12, 6).at(hour, minute, 0, 0));
        list.silent(mats, local, now).into_keys().collect()
    }

    #[test]
    fn a_mat_that_gives_no_live_read_for_ten_minutes_within_its_window_is_silent_until_it_gives_one() {
        let mut list = Watchlist::new(vec![expect("mat")]);
        let mut at = |wall, now: u32, live: Option<u32>| {
            !silent(&mut list, &[mat("mat", live.map(|live| live * MINUTE))], Some(wall), now * MINUTE).is_empty()
        };
        assert!(!at((8, 0), 60, None), "it is not expected yet");
        assert!(!at((8, 59), 119, None));
        assert!(!at((9, 0), 120, None), "it has its whole time from the begin of the window on");
        assert!(!at((9, 9), 129, None));
        assert!(at((9, 10), 130, None));
        assert!(at((9, 11), 131, Some(115)), "a read before the window does not count");
        assert!(!at((9, 12), 132, Some(132)), "it gave a read");
        assert!(!at((9, 21), 141, Some(132)));
        assert!(at((9, 22), 142, Some(132)));
        assert!(!at((13, 0), 360, Some(132)), "the window is over");
    }

    #[test]
    fn after_a_start_within_the_window_the_mat_has_its_whole_time() {
        let mut list = Watchlist::new(vec![expect("mat")]);
        assert!(silent(&mut list, &[mat("mat", None)], Some((11, 0)), Duration::ZERO).is_empty());
        assert!(silent(&mut list, &[mat("mat", None)], Some((11, 9)), 9 * MINUTE).is_empty());
        assert_eq!(silent(&mut list, &[mat("mat", None)], Some((11, 10)), 10 * MINUTE), ["mat"]);
    }

    #[test]
    fn while_the_box_does_not_know_the_time_nothing_is_said() {
        let mut list = Watchlist::new(vec![expect("mat")]);
        for minute in [0, 20, 40] {
            assert!(silent(&mut list, &[mat("mat", None)], None, minute * MINUTE).is_empty());
        }
        assert!(silent(&mut list, &[mat("mat", None)], Some((10, 0)), 41 * MINUTE).is_empty());
        assert_eq!(silent(&mut list, &[mat("mat", None)], Some((10, 10)), 51 * MINUTE), ["mat"]);
    }

    #[test]
    fn each_location_is_a_mat_of_its_own_and_each_expectation_counts() {
        let mut start = mat("line", Some(10 * MINUTE));
        start.locations_live_at.insert("Start".to_owned(), 10 * MINUTE);
        let impatient = ExpectConfig { quiet: MINUTE, ..expect("other") };
        let names = ["line", "line/Start", "line/Finish", "other"];
        let mut list = Watchlist::new(names.map(expect).into_iter().chain([impatient]).collect());
        let mats = [start, mat("other", Some(8 * MINUTE))];
        assert!(silent(&mut list, &mats, Some((9, 30)), Duration::ZERO).is_empty());
        assert_eq!(silent(&mut list, &mats, Some((9, 41)), 11 * MINUTE), ["line/Finish", "other"]);
    }

    #[test]
    fn a_silent_mat_is_a_problem_although_its_link_lives() {
        use crate::status::{BoxState, LinkState};
        let board = Board::with_clock("finish", Wall::scripted("2026-12-06T10:00:00Z".parse().unwrap()));
        board.not_ready("starting", None);
        board.decoder("mat", |decoder| (decoder.state, decoder.was_connected) = (LinkState::Connected, true));
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let mut list = Watchlist::new(vec![ExpectConfig { quiet: Duration::ZERO, ..expect("mat") }]);
        list.look(&board, &zone);
        let status = board.snapshot();
        assert_eq!(status.state, BoxState::NotReading);
        assert!(status.sentence.contains("mat gives no reads although some are expected."), "{}", status.sentence);
        let problem = &status.problems[0];
        assert_eq!((problem.code.as_str(), problem.about.as_str()), ("mat_quiet", "mat"));
        let told = "no live read of `mat` since 11:00:00, although the configuration expects one at least every 0 s from 09:00 \
                    to 13:00 (CET)";
        assert!(problem.message.starts_with(told), "{}", problem.message);
        list.expected.clear();
        list.look(&board, &zone);
        assert!(board.snapshot().problems.is_empty());
    }
}
