//! Sources: what one decoder is to the journal when its timing points go to different devices.
//!
//! A location that `[decoder.locations]` sends to a device of its own is a decoder of its own from the journal on: its reads
//! are kept under `DECODER/LOCATION`, so that cursor, order, dead time and batches are its own. Everything else of the
//! decoder is kept under its plain name.
//!
//! What belongs together again is known by the name alone, also after a location was taken out of the configuration: what is
//! held of a decoder's memory is what all its sources hold, and a read that is in one of them is a repeat in the others.
//! That is why a decoder's name has no `/`.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Parts a decoder's name from its location's.
pub const MARK: char = '/';

/// The source of a decoder's location.
pub fn name(decoder: &str, location: &str) -> Box<str> {
    format!("{decoder}{MARK}{location}").into()
}

/// The decoder that a source is of; of a decoder's own source its name.
pub fn decoder(source: &str) -> &str {
    source.split_once(MARK).map_or(source, |(decoder, _)| decoder)
}

/// The location that a source is of, `None` for what a decoder sends without one, or from one that is not routed.
pub fn location(source: &str) -> Option<&str> {
    source.split_once(MARK).map(|(_, location)| location)
}

/// What a map from sources holds of a decoder, its own source first.
pub fn of<'a, T>(map: &'a BTreeMap<Box<str>, T>, decoder: &str) -> impl Iterator<Item = (&'a str, &'a T)> {
    let prefix = format!("{decoder}{MARK}");
    let others = map.range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded));
    let own = map.get_key_value(decoder);
    let all = own.into_iter().chain(others.take_while(move |(source, _)| source.starts_with(&prefix)));
    all.map(|(source, value)| (&**source, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_decoder_are_its_own_and_no_other_decoders() {
        let sources = ["a", "a b", "a.b", "a/10 km/b", "a/Start", "aa", "aa/Start", "b/a"];
        let map: BTreeMap<Box<str>, ()> = sources.into_iter().map(|source| (source.into(), ())).collect();
        let found = |decoder: &str| of(&map, decoder).map(|(source, ())| source.to_owned()).collect::<Vec<_>>();
        assert_eq!(found("a"), ["a", "a/10 km/b", "a/Start"]);
        assert_eq!(found("b"), ["b/a"], "a decoder that never sent anything else");
        assert_eq!(found("c"), [""; 0]);
        assert_eq!((decoder("a/10 km/b"), location("a/10 km/b")), ("a", Some("10 km/b")));
        assert_eq!((decoder("a b"), location("a b")), ("a b", None));
        assert_eq!(&*name("a", "10 km/b"), "a/10 km/b");
    }
}
