//! Sources: the parts of one decoder, as the journal sees them, when its timing points belong to
//! different devices.
//!
//! A location that `[decoder.locations]` sends to a device of its own is a decoder of its own from
//! the journal on: its reads are kept under `DECODER/LOCATION`, so that it has its own cursor,
//! order, dead time and batches. All other reads of the decoder are kept under its plain name.
//!
//! The name alone says which sources belong together, also after a location was removed from the
//! configuration: the stored ranges of a decoder are those of all its sources together, and a read
//! that is in one source is a duplicate in the others. For this reason a decoder's name must not
//! contain `/`.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Separates a decoder's name from its location's name.
pub(crate) const MARK: char = '/';

/// The source of a decoder's location.
pub(crate) fn name(decoder: &str, location: &str) -> Box<str> {
    format!("{decoder}{MARK}{location}").into()
}

/// The decoder to which a source belongs. For a decoder's own source this is its name.
pub(crate) fn decoder(source: &str) -> &str {
    source.split_once(MARK).map_or(source, |(decoder, _)| decoder)
}

/// The location of a source. `None` for reads without a location, or from a location that has no
/// device of its own.
pub(crate) fn location(source: &str) -> Option<&str> {
    source.split_once(MARK).map(|(_, location)| location)
}

/// All values of a decoder in a map by source, its own source first.
pub(crate) fn of<'a, T>(map: &'a BTreeMap<Box<str>, T>, decoder: &str) -> impl Iterator<Item = (&'a str, &'a T)> {
    // Its own source is the first of all names that begin with its name. This is asked for every
    // read, so no name is put together for it.
    let begin = map.range::<str, _>((Bound::Included(decoder), Bound::Unbounded));
    let named = begin.map_while(move |(source, value)| Some((&**source, source.strip_prefix(decoder)?, value)));
    named.filter(|(_, rest, _)| rest.is_empty() || rest.starts_with(MARK)).map(|(source, _, value)| (source, value))
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
