//! Doubts about a decoder's time. The board shows them as soon as a read raises them: before the
//! race, with or without a session.
//!
//! A doubt is a problem of its decoder. The board shows it from the first read that raises it until
//! a live read of that decoder raises none, or another one. A read that the decoder had stored may
//! raise a doubt but does not end one. The board is called only when something changes, because
//! this code runs for every read.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::chip::ChipRead;
use crate::model::clock::{self, Doubt};
use crate::status::Board;

/// The doubts about one decoder that are shown now, at most one of each kind.
#[derive(Default)]
pub(super) struct Doubts(Mutex<Vec<Doubt>>);

impl Doubts {
    /// Judges a read that was received now.
    pub(super) fn judge(&self, decoder: &str, zone: &TimeZone, read: &ChipRead, received: Timestamp, board: &Board) {
        let of_time = clock::resolve_read(read, zone, received).doubt;
        let doubts = [of_time, read.caution.map(Doubt::from)];
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !read.replay {
            shown.retain(|known| {
                let stays = doubts.contains(&Some(*known));
                if !stays {
                    board.clear((*known).into(), decoder);
                }
                stays
            });
        }
        for doubt in doubts.into_iter().flatten() {
            if shown.contains(&doubt) {
                continue;
            }
            shown.push(doubt);
            let ChipRead { chip, stamp, .. } = read;
            let message = format!("decoder {decoder}: {doubt}. (Chip {chip}, stamped {stamp}, received {received:.3})");
            board.raise(doubt.into(), decoder, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_about_a_decoders_time_is_shown_until_a_live_read_has_none() {
        let board = Board::new("finish");
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let doubts = Doubts::default();
        let read = |chip: &str, stamp: &str, replay: bool| {
            let read = ChipRead { replay, ..ChipRead::new(chip, stamp.parse().unwrap()) };
            doubts.judge("finish-mat", &zone, &read, "2026-03-06T19:27:48Z".parse().unwrap(), &board);
            board.snapshot().problems.into_iter().map(|problem| problem.code).collect::<Vec<_>>()
        };
        assert_eq!(read("A", "20:27:47.350", false), ["decoder_time_no_date"]);
        let problem = board.snapshot().problems.remove(0);
        assert_eq!(problem.about, "finish-mat");
        assert!(problem.message.ends_with("(Chip A, stamped 20:27:47.350, received 2026-03-06T19:27:48.000Z)"));
        read("B", "2000-01-01T20:27:47.350", true);
        let shown = read("B", "2026-03-06T20:27:47.350", true);
        assert_eq!(shown, ["decoder_time_no_date", "decoder_clock_unset"], "stored reads end no doubt");
        let shown = read("C", "2000-01-01T20:27:47.350", false);
        assert_eq!(shown, ["decoder_clock_unset"], "another doubt takes the place of the first");
        assert_eq!(read("C", "2026-03-06T20:27:47.350", false), [""; 0]);
        let mut unsure = ChipRead::new("?7", "20:27:47.350".parse().unwrap());
        unsure.caution = Some(crate::model::chip::Caution::NoValidNumber);
        doubts.judge("finish-mat", &zone, &unsure, "2026-03-06T19:27:48Z".parse().unwrap(), &board);
        let mut shown: Vec<_> = board.snapshot().problems.into_iter().map(|problem| problem.code).collect();
        shown.sort_unstable();
        assert_eq!(shown, ["decoder_number_not_valid", "decoder_time_no_date"], "one of the number, one of the time");
        assert_eq!(read("8", "20:27:47.350", false), ["decoder_time_no_date"]);
    }
}
