//! Where passings are held in the cloud, by chip and time.
//!
//! A plain sorted list: 24 bytes for a passing, where a map of lists took over 100. A session of
//! 150,000 passings is remembered in 4 MB, on a box that has 512.

/// Where passings are held. What was added is sorted in when somebody looks.
#[derive(Debug, Default)]
pub(super) struct Places {
    places: Vec<Place>,
    /// So many of them, at the front, are in order.
    sorted: usize,
    taken: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Of the chip and the time ([`super::key`]).
    key: u64,
    /// Number of the passing in its session.
    num: u64,
    session: u32,
    taken: bool,
}

impl Places {
    /// How many there are, the same one counted as often as it was added since somebody looked.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.taken
    }

    /// Whether there is room for one more below `max`.
    pub(super) fn has_room(&mut self, max: usize) -> bool {
        if self.places.len() >= max {
            self.sort();
        }
        self.places.len() < max
    }

    pub(super) fn add(&mut self, key: u64, session: u32, num: u64) {
        self.places.push(Place { key, num, session, taken: false });
    }

    /// Nothing more is added for now: gives back the memory that is not needed.
    pub(super) fn rest(&mut self) {
        self.sort();
        self.places.shrink_to_fit();
    }

    pub(super) fn holds(&mut self, key: u64) -> bool {
        self.first(key).is_some()
    }

    /// Session and number of a place with this key, the lowest number first. Each place is given
    /// once.
    pub(super) fn take(&mut self, key: u64) -> Option<(u32, u64)> {
        let at = self.first(key)?;
        self.taken += 1;
        let place = self.places.get_mut(at)?;
        place.taken = true;
        Some((place.session, place.num))
    }

    fn first(&mut self, key: u64) -> Option<usize> {
        self.sort();
        let from = self.places.partition_point(|place| place.key < key);
        let mine = self.places[from..].iter().take_while(|place| place.key == key);
        mine.enumerate().find(|(_, place)| !place.taken).map(|(at, _)| from + at)
    }

    /// Puts what was added in order. The same place twice, as pages that overlap bring it, is one.
    fn sort(&mut self) {
        if self.sorted < self.places.len() {
            self.places.sort_unstable();
            // Of a place that was taken and is added again the one that is taken stays, so it is
            // not given twice.
            self.places.dedup_by(|next, kept| {
                let same = (next.key, next.num, next.session) == (kept.key, kept.num, kept.session);
                kept.taken |= same && next.taken;
                same
            });
            self.sorted = self.places.len();
            self.taken = self.places.iter().filter(|place| place.taken).count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_given_once_however_often_pages_bring_it() {
        let mut places = Places::default();
        for (key, session, num) in [(5, 0, 1), (7, 0, 2), (5, 1, 9), (5, 0, 1)] {
            places.add(key, session, num);
        }
        assert!(places.holds(5) && places.holds(7) && !places.holds(6));
        assert_eq!(places.len(), 3);
        assert_eq!([5, 5, 5].map(|key| places.take(key)), [Some((0, 1)), Some((1, 9)), None]);
        places.add(5, 0, 1);
        assert_eq!((places.take(5), places.len()), (None, 1), "a later page brings it once more");
        assert_eq!(places.take(7), Some((0, 2)));
        assert_eq!(places.len(), 0);
    }

    #[test]
    fn a_full_list_has_room_where_some_of_it_came_twice() {
        let mut places = Places::default();
        (0..4).for_each(|num| places.add(1, 0, num % 2));
        assert!(places.has_room(4));
        (2..4).for_each(|num| places.add(1, 0, num));
        assert!(!places.has_room(4));
    }
}
