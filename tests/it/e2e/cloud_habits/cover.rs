//! Rows that cover every pair (or triple) of levels of different factors: far fewer than all
//! combinations.

/// Rows with one level of each factor, so that every `strength` (2 or 3) levels of different
/// factors are together in at least one of them. Greedy, and the same for the same seed.
pub fn cover(sizes: &[usize], strength: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut open = Open::new(sizes, strength);
    let mut rows = Vec::new();
    let tries = if strength == 2 { 30 } else { 6 };
    while let Some(first) = open.first() {
        let grown: Vec<Vec<usize>> = (0..tries).map(|_| open.grown(&first, &mut rng)).collect();
        let best = grown.into_iter().max_by_key(|row| open.gain(row)).unwrap();
        open.close(&best);
        rows.push(best);
    }
    rows
}

/// Groups of levels that are in no row yet. Levels are counted through all factors.
struct Open {
    sizes: Vec<usize>,
    /// The first level of each factor.
    begins: Vec<usize>,
    levels: usize,
    strength: usize,
    /// By the group's levels as digits of a number.
    is: Vec<bool>,
    /// All groups, the ones that were open when last looked at from `at` on.
    all: Vec<Vec<usize>>,
    at: usize,
}

impl Open {
    fn new(sizes: &[usize], strength: usize) -> Self {
        let begins = sizes.iter().scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size))).collect();
        let levels = sizes.iter().sum::<usize>();
        let is = vec![false; levels.pow(u32::try_from(strength).unwrap())];
        let mut open = Self { sizes: sizes.to_vec(), begins, levels, strength, is, all: Vec::new(), at: 0 };
        let factors: Vec<usize> = (0..sizes.len()).collect();
        for group in chosen(&factors, strength) {
            let mut lists: Vec<Vec<usize>> = vec![Vec::new()];
            for factor in group {
                let each = |list: &Vec<usize>| {
                    let list = list.clone();
                    let from = open.begins[factor];
                    (from..from + sizes[factor]).map(move |level| [&list[..], &[level]].concat()).collect::<Vec<_>>()
                };
                lists = lists.iter().flat_map(each).collect();
            }
            open.all.extend(lists);
        }
        for group in &open.all {
            let place = open.place(group);
            open.is[place] = true;
        }
        open
    }

    fn place(&self, group: &[usize]) -> usize {
        group.iter().fold(0, |place, level| place * self.levels + level)
    }

    fn first(&mut self) -> Option<Vec<usize>> {
        while !self.is[self.place(self.all.get(self.at)?)] {
            self.at += 1;
        }
        self.all.get(self.at).cloned()
    }

    fn levels_of(&self, row: &[usize]) -> Vec<usize> {
        row.iter().zip(&self.begins).map(|(level, begin)| begin + level).collect()
    }

    /// Open groups in this row.
    fn gain(&self, row: &[usize]) -> usize {
        let levels = self.levels_of(row);
        chosen(&levels, self.strength).iter().filter(|group| self.is[self.place(group)]).count()
    }

    fn close(&mut self, row: &[usize]) {
        for group in chosen(&self.levels_of(row), self.strength) {
            let place = self.place(&group);
            self.is[place] = false;
        }
    }

    /// A row with this group in it; each other factor, in any order, takes the level that is in
    /// most open groups with what is there already.
    fn grown(&self, first: &[usize], rng: &mut fastrand::Rng) -> Vec<usize> {
        let mut levels: Vec<Option<usize>> = vec![None; self.sizes.len()];
        for level in first {
            let factor = self.begins.partition_point(|begin| begin <= level) - 1;
            levels[factor] = Some(*level);
        }
        let mut order: Vec<usize> = (0..levels.len()).filter(|factor| levels[*factor].is_none()).collect();
        rng.shuffle(&mut order);
        for factor in order {
            let there: Vec<usize> = levels.iter().flatten().copied().collect();
            let others = chosen(&there, self.strength - 1);
            let mut own: Vec<usize> = (self.begins[factor]..self.begins[factor] + self.sizes[factor]).collect();
            rng.shuffle(&mut own);
            let gain = |level: &usize| {
                let with = |group: &&Vec<usize>| {
                    let mut group = (*group).clone();
                    group.push(*level);
                    group.sort_unstable();
                    self.is[self.place(&group)]
                };
                others.iter().filter(with).count()
            };
            levels[factor] = own.into_iter().max_by_key(gain);
        }
        levels.into_iter().flatten().zip(&self.begins).map(|(level, begin)| level - begin).collect()
    }
}

/// Every choice of so many of these (at most three), in their order.
fn chosen(of: &[usize], count: usize) -> Vec<Vec<usize>> {
    match count {
        0 => vec![Vec::new()],
        _ => (0..of.len())
            .flat_map(|at| {
                let rest = chosen(&of[at + 1..], count - 1);
                rest.into_iter().map(move |rest| [&[of[at]], &rest[..]].concat())
            })
            .collect(),
    }
}

#[test]
fn every_pair_and_every_triple_is_in_some_row() {
    let sizes = [3, 4, 2, 5];
    for strength in [2, 3] {
        let rows = cover(&sizes, strength, 1);
        let factors: Vec<usize> = (0..sizes.len()).collect();
        for group in chosen(&factors, strength) {
            let mut seen: Vec<Vec<usize>> =
                rows.iter().map(|row| group.iter().map(|factor| row[*factor]).collect()).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), group.iter().map(|factor| sizes[*factor]).product::<usize>(), "{group:?}");
        }
        assert!(rows.len() < 120, "{} rows: all combinations", rows.len());
        assert_eq!(rows, cover(&sizes, strength, 1), "the same for the same seed");
    }
    assert!(cover(&sizes, 2, 1).len() <= 26);
}
