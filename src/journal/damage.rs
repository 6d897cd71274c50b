//! What is missing from the log, and how it is reported and noted.

use super::entry::{BadLine, Body};
use super::log::Repair;

/// Code of a note about numbers that were never acknowledged.
pub(super) const SKIPPED: &str = "numbers_skipped";

/// Code of a note about entries that were kept and are missing.
pub(super) const LOST: &str = "numbers_lost";

/// Number of ranges and lines that are reported one by one. Further ones are only counted.
const TOLD: usize = 20;

/// Number of ranges that are remembered.
const RANGES_MAX: usize = 4096;

/// Ranges of sequence numbers, as people read them.
pub(super) fn in_words(ranges: &[(u64, u64)]) -> String {
    let told: Vec<String> = ranges.iter().take(TOLD).map(|(from, to)| format!("{from}–{to}")).collect();
    let more = ranges.len().saturating_sub(TOLD);
    told.join(", ") + &if more == 0 { String::new() } else { format!(" and {more} more ranges") }
}

/// A note about ranges: the first words are for this program, the rest for people.
pub(super) fn note(ranges: &[(u64, u64)], text: &str) -> String {
    let all: Vec<String> = ranges.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    format!("{}: {text}", all.join(","))
}

fn ranges_of(note: &str) -> impl Iterator<Item = (u64, u64)> {
    let ranges = note.split_once(':').map_or("", |(ranges, _)| ranges);
    ranges.split(',').filter_map(|range| {
        let (from, to) = range.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    })
}

/// What is missing from the log, as far as it was read.
#[derive(Default)]
pub(super) struct Damage {
    lines: Vec<String>,
    more_lines: u64,
    gone: Vec<(u64, u64)>,
    skipped: Vec<(u64, u64)>,
    pub noted: Vec<(u64, u64)>,
    /// There were more than [`RANGES_MAX`] ranges.
    beyond: bool,
}

impl Damage {
    /// The damage that opening the log found.
    pub(super) fn of(repair: &Repair) -> Self {
        let skipped = repair.torn.iter().copied().chain(repair.skipped).collect();
        Self { skipped, noted: repair.lost.clone(), ..Self::default() }
    }

    /// Records that the entry `seq` follows the entry `before`, and what it notes about missing
    /// numbers.
    pub(super) fn entry(&mut self, before: u64, seq: u64, body: &Body, code: &str) {
        if seq > before + 1 {
            self.gone(before + 1, seq - 1);
        }
        if let Body::Note(text) = body {
            match code {
                SKIPPED => self.skipped.extend(ranges_of(text).take(RANGES_MAX - self.skipped.len().min(RANGES_MAX))),
                LOST => self.noted.extend(ranges_of(text).take(RANGES_MAX - self.noted.len().min(RANGES_MAX))),
                _ => {}
            }
        }
    }

    /// Records that these entries are missing.
    pub(super) fn gone(&mut self, from: u64, to: u64) {
        if self.gone.len() < RANGES_MAX {
            self.gone.push((from, to));
        } else {
            self.beyond = true;
        }
    }

    pub(super) fn line(&mut self, segment: u64, line: u64, why: BadLine) {
        if self.lines.len() < TOLD {
            self.lines.push(format!("line {line} of segment {segment:012}: {why}"));
        } else {
            self.more_lines += 1;
        }
    }

    /// The entries that were kept and are missing.
    pub(super) fn lost(&self) -> Vec<(u64, u64)> {
        without(&self.gone, &self.skipped)
    }

    /// Whether any kept entry is missing.
    pub(super) fn is_loss(&self) -> bool {
        self.beyond || !self.lost().is_empty()
    }

    pub(super) fn message(&self) -> Option<String> {
        let lost = self.lost();
        if self.lines.is_empty() && lost.is_empty() {
            return None;
        }
        let mut parts = self.lines.clone();
        if self.more_lines > 0 {
            parts.push(format!("{} more damaged lines", self.more_lines));
        }
        if !lost.is_empty() {
            parts.push(format!("entries gone: {}", in_words(&lost)));
        }
        Some(format!(
            "the log is damaged: {}. Everything else is kept and sent; take what is missing from the decoder's memory or \
             the backup, copy the data and replace the disk",
            parts.join("; ")
        ))
    }
}

/// The numbers in `ranges` that are not in `others`.
pub(super) fn without(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut others = others.to_vec();
    others.sort_unstable();
    let mut left = Vec::new();
    for &(mut from, to) in ranges {
        for &(first, last) in others.iter().filter(|(first, _)| *first <= to) {
            if last < from {
                continue;
            }
            if first > from {
                left.push((from, first - 1));
            }
            from = from.max(last + 1);
        }
        if from <= to {
            left.push((from, to));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_acknowledged_is_not_lost() {
        assert_eq!(without(&[(5, 20)], &[(8, 9), (1, 5), (15, 30)]), [(6, 7), (10, 14)]);
        assert_eq!(without(&[(5, 20), (30, 30)], &[(5, 20)]), [(30, 30)]);
        assert_eq!(without(&[(5, 20)], &[]), [(5, 20)]);
    }

    #[test]
    fn a_note_tells_its_ranges_to_people_and_to_the_next_start() {
        let text = note(&[(4, 4), (9, 12)], "torn by a power cut: 3-4 groups");
        assert_eq!(ranges_of(&text).collect::<Vec<_>>(), [(4, 4), (9, 12)]);
        assert_eq!(ranges_of("the queue was rebuilt").count(), 0);
    }
}
