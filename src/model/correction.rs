//! Corrections of times that somebody asked for: by how much the time of a passing differs from
//! what the decoder's stamp says.
//!
//! The stamp is data and stays as it was sent. [`super::clock`] says which instant it means, and a
//! correction moves that instant: the clock of a decoder was an hour wrong, or its zone was.
//!
//! What must hold:
//! * **A correction names entries, not times.** The command that makes it finds out which entries of
//!   a decoder it is about, and only entries that exist then. So what a correction does depends on
//!   no clock and on no zone, and a read that arrives later is not moved.
//! * **Corrections of one read add up.** A second one may take the first one back.
//! * **Bounded.** At most [`PIECES_MAX`] ranges of entries with a shift are remembered. A
//!   correction beyond that is refused, and nothing is forgotten silently. A range whose entries
//!   are all deleted is forgotten with the next correction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::source;

/// Most ranges of entries that have a shift, over all decoders: 40 KB of a checkpoint.
const PIECES_MAX: usize = 1024;

/// A correction, as it is in the log. The subject of its entry is the decoder, with all its
/// sources, or one source that is a location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// First and last entry of each range, in rising order. Only entries of the decoder count.
    pub ranges: Vec<(u64, u64)>,
    /// By how much the time is moved, in milliseconds: positive if the right time is later.
    pub shift_ms: i64,
    /// Who asked for it.
    pub by: Box<str>,
    /// The oldest entry of the log at that time. What is known of earlier entries is forgotten.
    #[serde(default)]
    pub oldest: u64,
}

/// First and last entry, and the sum of the shifts of all corrections of these entries, never 0.
type Piece = (u64, u64, i64);

/// All corrections, as one answer for each read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Corrections {
    /// Of decoders with all their sources. The pieces of one decoder rise and do not overlap.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    decoders: BTreeMap<Box<str>, Vec<Piece>>,
    /// Of one source each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sources: BTreeMap<Box<str>, Vec<Piece>>,
}

impl Corrections {
    /// Whether no read is moved.
    pub(crate) fn is_empty(&self) -> bool {
        self.decoders.is_empty() && self.sources.is_empty()
    }

    /// By how many milliseconds the time of the read in entry `seq` of this source is moved.
    pub(crate) fn shift_ms(&self, source: &str, seq: u64) -> i64 {
        let of = |pieces: Option<&Vec<Piece>>| pieces.map_or(0, |pieces| shift_in(pieces, seq));
        of(self.decoders.get(source::decoder(source))).saturating_add(of(self.sources.get(source)))
    }

    /// Whether a read in entry `seq` is moved in some source.
    pub(crate) fn touch(&self, seq: u64) -> bool {
        self.decoders.values().chain(self.sources.values()).any(|pieces| shift_in(pieces, seq) != 0)
    }

    /// The least and the greatest shift that a read among these entries may have, in whatever source.
    pub(crate) fn least_and_greatest_ms(&self, first: u64, last: u64) -> (i64, i64) {
        let of = |map: &BTreeMap<Box<str>, Vec<Piece>>| {
            let pieces = map.values().flatten().filter(|(from, to, _)| *from <= last && first <= *to);
            let shifts = pieces.map(|(_, _, shift)| *shift).chain([0]);
            shifts.fold((0, 0), |(least, greatest): (i64, i64), shift| (least.min(shift), greatest.max(shift)))
        };
        let ((least, greatest), (low, high)) = (of(&self.decoders), of(&self.sources));
        (least.saturating_add(low), greatest.saturating_add(high))
    }

    /// Adds a correction of a decoder, or of a source that is a location.
    pub(crate) fn add(&mut self, name: &str, correction: &Correction) {
        for map in [&mut self.decoders, &mut self.sources] {
            map.values_mut().for_each(|pieces| pieces.retain(|(_, last, _)| *last >= correction.oldest));
            map.retain(|_, pieces| !pieces.is_empty());
        }
        let map = if source::location(name).is_some() { &mut self.sources } else { &mut self.decoders };
        let pieces = map.remove(name).unwrap_or_default();
        let mut changes: BTreeMap<u64, i64> = BTreeMap::new(); // where the sum of the shifts changes, and by how much
        let more = correction.ranges.iter().map(|(first, last)| (*first, *last, correction.shift_ms));
        for (first, last, shift) in pieces.into_iter().chain(more).filter(|(first, last, _)| first <= last) {
            *changes.entry(first).or_default() += shift;
            *changes.entry(last.saturating_add(1)).or_default() -= shift;
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut sum = 0i64;
        for (at, change) in changes.into_iter().filter(|(_, change)| *change != 0) {
            if let Some(open) = pieces.last_mut().filter(|_| sum != 0) {
                open.1 = at - 1;
            }
            sum = sum.saturating_add(change);
            if sum != 0 {
                pieces.push((at, u64::MAX, sum));
            }
        }
        if !pieces.is_empty() {
            map.insert(name.into(), pieces);
        }
    }

    /// The same with one more correction. `None`: these would be more ranges than are remembered.
    pub(crate) fn with(&self, name: &str, correction: &Correction) -> Option<Self> {
        let mut with = self.clone();
        with.add(name, correction);
        (with.pieces() <= PIECES_MAX).then_some(with)
    }

    /// A read that was held back in entry `of` of this source is released as entry `seq`, the last
    /// one of the log: it is moved as before. (If there is no room for one more range, its passing
    /// goes up as the decoder stamped it, and is listed as one whose time is not right.)
    pub(crate) fn let_go(&mut self, source: &str, of: u64, seq: u64) {
        let shift = self.shift_ms(source, of);
        if shift == 0 {
            return;
        }
        let is_full = self.pieces() >= 2 * PIECES_MAX;
        match self.sources.get_mut(source).and_then(|pieces| pieces.last_mut()) {
            Some((_, last, known)) if *known == shift && *last + 1 == seq => *last = seq,
            _ if is_full => {}
            _ => self.sources.entry(source.into()).or_default().push((seq, seq, shift)),
        }
    }

    fn pieces(&self) -> usize {
        self.decoders.values().chain(self.sources.values()).map(Vec::len).sum()
    }
}

fn shift_in(pieces: &[Piece], seq: u64) -> i64 {
    let at = pieces.partition_point(|(_, last, _)| *last < seq);
    pieces.get(at).filter(|(first, _, _)| *first <= seq).map_or(0, |(_, _, shift)| *shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn correction(ranges: &[(u64, u64)], shift_ms: i64) -> Correction {
        Correction { ranges: ranges.to_vec(), shift_ms, by: "timer".into(), oldest: 0 }
    }

    #[test]
    fn corrections_add_up_and_one_that_takes_back_another_leaves_nothing_behind() {
        let mut all = Corrections::default();
        all.add("mat", &correction(&[(10, 20)], 3_600_000));
        all.add("mat", &correction(&[(15, 30)], 500));
        let of = |all: &Corrections, seqs: [u64; 5]| seqs.map(|seq| all.shift_ms("mat", seq));
        assert_eq!(of(&all, [9, 10, 15, 21, 31]), [0, 3_600_000, 3_600_500, 500, 0]);
        assert_eq!((all.shift_ms("gate", 15), all.touch(15), all.touch(31)), (0, true, false));
        all.add("mat", &correction(&[(15, 30)], -500));
        assert_eq!(all.pieces(), 1);
        all.add("mat", &correction(&[(10, 20)], -3_600_000));
        assert!(all.is_empty());
    }

    #[test]
    fn a_correction_of_a_decoder_is_one_of_its_locations_and_one_of_a_location_is_of_no_other() {
        let mut all = Corrections::default();
        all.add("mat", &correction(&[(1, 9)], 1000));
        all.add("mat/10 km", &correction(&[(1, 9)], 1));
        assert_eq!(["mat", "mat/10 km", "mat/Start"].map(|source| all.shift_ms(source, 5)), [1000, 1001, 1000]);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Corrections>(&text).unwrap(), all);
    }

    #[test]
    fn a_read_that_was_corrected_while_it_was_held_back_is_moved_when_it_is_released_and_others_are_not() {
        let mut all = Corrections::default();
        all.add("mat", &correction(&[(5, 6)], 1000));
        for (of, seq) in [(4, 20), (5, 21), (6, 22), (5, 30)] {
            all.let_go("mat", of, seq);
        }
        assert_eq!([20, 21, 22, 25, 30].map(|seq| all.shift_ms("mat", seq)), [0, 1000, 1000, 0, 1000]);
        assert_eq!(all.shift_ms("mat/Start", 21), 0, "another source has other entries between them");
    }

    #[test]
    fn the_ranges_have_a_limit_and_those_of_deleted_entries_make_room() {
        let mut all = Corrections::default();
        let many: Vec<(u64, u64)> = (1..=1024).map(|at| (10 * at, 10 * at)).collect();
        all = all.with("mat", &correction(&many, 1)).unwrap();
        assert_eq!(all.with("gate", &correction(&[(1, 2)], 1)), None);
        let later = Correction { oldest: 10_235, ..correction(&[(10_300, 10_301)], 1) };
        let all = all.with("gate", &later).unwrap();
        assert_eq!((all.pieces(), all.shift_ms("mat", 10_230), all.shift_ms("mat", 10_240)), (2, 0, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn every_read_is_moved_by_the_sum_of_its_corrections(
            corrections in proptest::collection::vec((0u64..60, 0u64..20, -3i64..4, any::<bool>()), 0..12),
        ) {
            let mut all = Corrections::default();
            let mut plain = vec![(0i64, 0i64); 100];
            for (first, length, shift, of_location) in corrections {
                let name = if of_location { "mat/Start" } else { "mat" };
                all.add(name, &correction(&[(first, first + length)], shift));
                for at in &mut plain[first as usize..=(first + length) as usize] {
                    at.1 += shift;
                    at.0 += if of_location { 0 } else { shift };
                }
            }
            for (seq, (own, location)) in plain.into_iter().enumerate() {
                prop_assert_eq!(all.shift_ms("mat", seq as u64), own);
                prop_assert_eq!(all.shift_ms("mat/Start", seq as u64), location);
            }
            prop_assert!(all.decoders.values().flatten().all(|(first, last, shift)| first <= last && *shift != 0));
        }
    }
}
