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
//! * **A corrected read keeps its zone.** Whoever corrects a time sees it in the zone that the
//!   configuration has then. If the zone is corrected afterwards, too, the read is not moved twice.
//! * **Bounded.** At most [`PIECES_MAX`] ranges of entries with a shift are remembered. A
//!   correction beyond that is refused, and nothing is forgotten silently. A range whose entries
//!   are all deleted is forgotten with the next correction.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The zone in which the stamps were understood, by its name. Reads that have none from an earlier
    /// correction keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Box<str>>,
    /// Who asked for it.
    pub by: Box<str>,
    /// The oldest entry of the log at that time. What is known of earlier entries is forgotten.
    #[serde(default)]
    pub oldest: u64,
}

/// First and last entry, the sum of the shifts of all corrections of these entries, never 0, and
/// the zone of their stamps.
type Piece = (u64, u64, i64, Option<Box<str>>);

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

    /// The zone in which the stamp of this read is understood, if it was corrected.
    pub(crate) fn zone(&self, source: &str, seq: u64) -> Option<&str> {
        let known = [self.decoders.get(source::decoder(source)), self.sources.get(source)];
        known.into_iter().flatten().find_map(|pieces| piece_in(pieces, seq)?.3.as_deref())
    }

    /// Whether a read in entry `seq` is moved in some source.
    pub(crate) fn touch(&self, seq: u64) -> bool {
        self.decoders.values().chain(self.sources.values()).any(|pieces| shift_in(pieces, seq) != 0)
    }

    /// Whether a read among these entries may be moved, in whatever source.
    pub(crate) fn touch_within(&self, first: u64, last: u64) -> bool {
        self.decoders.values().chain(self.sources.values()).flatten().any(|piece| piece.0 <= last && first <= piece.1)
    }

    /// The least and the greatest shift that a read among these entries may have, in whatever source.
    pub(crate) fn least_and_greatest_ms(&self, first: u64, last: u64) -> (i64, i64) {
        let of = |map: &BTreeMap<Box<str>, Vec<Piece>>| {
            let pieces = map.values().flatten().filter(|piece| piece.0 <= last && first <= piece.1);
            let shifts = pieces.map(|piece| piece.2).chain([0]);
            shifts.fold((0, 0), |(least, greatest): (i64, i64), shift| (least.min(shift), greatest.max(shift)))
        };
        let ((least, greatest), (low, high)) = (of(&self.decoders), of(&self.sources));
        (least.saturating_add(low), greatest.saturating_add(high))
    }

    /// Adds a correction of a decoder, or of a source that is a location.
    pub(crate) fn add(&mut self, name: &str, correction: &Correction) {
        for map in [&mut self.decoders, &mut self.sources] {
            map.values_mut().for_each(|pieces| pieces.retain(|piece| piece.1 >= correction.oldest));
            map.retain(|_, pieces| !pieces.is_empty());
        }
        let map = if source::location(name).is_some() { &mut self.sources } else { &mut self.decoders };
        let before = map.remove(name).unwrap_or_default();
        let after = |(_, last): (u64, u64)| last.saturating_add(1);
        let ends = before.iter().map(|piece| (piece.0, piece.1)).chain(correction.ranges.iter().copied());
        let ends: BTreeSet<u64> = ends.flat_map(|range| [range.0, after(range)]).collect();
        let ends: Vec<u64> = ends.into_iter().collect(); // between two of them nothing changes
        let mut pieces: Vec<Piece> = Vec::new();
        for pair in ends.windows(2) {
            let (first, last) = (pair[0], pair[1] - 1);
            let known = piece_in(&before, first);
            let more = correction.ranges.iter().filter(|range| range.0 <= first && last <= range.1).count();
            let more = correction.shift_ms.saturating_mul(i64::try_from(more).unwrap_or(0));
            let shift = known.map_or(0, |piece| piece.2).saturating_add(more);
            let zone = known.map_or(&correction.zone, |piece| &piece.3);
            match pieces.last_mut() {
                _ if shift == 0 => {}
                Some(open) if open.1.saturating_add(1) == first && open.2 == shift && open.3 == *zone => open.1 = last,
                _ => pieces.push((first, last, shift, zone.clone())),
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
        let zone = self.zone(source, of).map(Into::into);
        let is_full = self.pieces() >= 2 * PIECES_MAX;
        match self.sources.get_mut(source).and_then(|pieces| pieces.last_mut()) {
            Some(last) if last.2 == shift && last.3 == zone && last.1 + 1 == seq => last.1 = seq,
            _ if is_full => {}
            _ => self.sources.entry(source.into()).or_default().push((seq, seq, shift, zone)),
        }
    }

    fn pieces(&self) -> usize {
        self.decoders.values().chain(self.sources.values()).map(Vec::len).sum()
    }
}

fn piece_in(pieces: &[Piece], seq: u64) -> Option<&Piece> {
    let at = pieces.partition_point(|piece| piece.1 < seq);
    pieces.get(at).filter(|piece| piece.0 <= seq)
}

fn shift_in(pieces: &[Piece], seq: u64) -> i64 {
    piece_in(pieces, seq).map_or(0, |piece| piece.2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn correction(ranges: &[(u64, u64)], shift_ms: i64) -> Correction {
        Correction { ranges: ranges.to_vec(), shift_ms, zone: None, by: "timer".into(), oldest: 0 }
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
    fn the_zone_of_the_first_correction_stays_until_nothing_is_left_of_it() {
        let mut all = Corrections::default();
        let in_zone = |zone: &str, shift| Correction { zone: Some(zone.into()), ..correction(&[(1, 9)], shift) };
        all.add("mat", &in_zone("UTC", 1000));
        all.add("mat", &in_zone("Europe/Madrid", 500));
        all.let_go("mat", 3, 20);
        let zones = [1, 10, 20].map(|seq| all.zone("mat", seq));
        assert_eq!(zones, [Some("UTC"), None, Some("UTC")]);
        assert_eq!((all.zone("mat/Start", 1), all.zone("gate", 1)), (Some("UTC"), None));
        all.add("mat", &in_zone("Europe/Madrid", -1500));
        assert_eq!(all.zone("mat", 1), None);
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
            prop_assert!(all.decoders.values().flatten().all(|piece| piece.0 <= piece.1 && piece.2 != 0));
        }
    }
}
