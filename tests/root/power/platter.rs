//! What a disk with a volatile write cache holds: pages that were flushed, and versions of pages
//! that were only written. At a cut, of what was not flushed any subset survives, page by page, an
//! earlier version as well as the last one, and some pages are torn at a sector. Pure: no I/O, all
//! chance comes from the seed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub const PAGE: usize = 4096;
const SECTOR: usize = 512;
/// Versions of an unflushed page that are remembered; of more, the older ones cannot survive a cut.
const VERSIONS_MAX: usize = 16;
/// One kept page in so many is an earlier version of it, and one in so many is torn.
const EARLIER: u32 = 4;
const TORN: u32 = 2;

type Page = Arc<[u8; PAGE]>;

/// The flushed content of a disk. Cheap to copy.
#[derive(Clone, Default)]
pub struct Image(HashMap<u64, Page>);

/// What was done to the disk since it was last asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Bytes written.
    pub bytes: u64,
    /// FLUSHes.
    pub flushes: u64,
}

/// The power is gone: nothing is taken, nothing is given.
#[derive(Debug)]
pub struct Dead;

#[derive(Default)]
pub struct Platter {
    flushed: Image,
    /// Versions since the last FLUSH, oldest first.
    written: BTreeMap<u64, Vec<Page>>,
    dead: bool,
    /// Dies at this many writes and FLUSHes from now.
    dies_in: Option<u64>,
    /// At a cut every page is torn, not one in [`TORN`].
    pub tears_all: bool,
    /// Counts the cuts: who opened the disk before one never reaches it again.
    pub life: u64,
    pub counts: Counts,
}

/// What a cut left behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Remains {
    /// Pages that were not flushed.
    pub unflushed: usize,
    /// Of them: survived in some form.
    pub kept: usize,
}

impl Platter {
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    pub fn image(&self) -> Image {
        self.flushed.clone()
    }

    /// Another disk is put in, with nothing in its cache.
    pub fn insert(&mut self, image: Image) {
        *self = Self { flushed: image, life: self.life + 1, ..Self::default() };
    }

    /// It dies at the `operations`th write or FLUSH from now.
    pub fn dies_in(&mut self, operations: u64) {
        self.dies_in = Some(operations.max(1));
    }

    /// One more write or FLUSH.
    fn live_on(&mut self) -> Result<(), Dead> {
        if let Some(left) = &mut self.dies_in {
            *left -= 1;
            self.dead |= *left == 0;
        }
        if self.dead { Err(Dead) } else { Ok(()) }
    }

    fn page(&self, number: u64) -> Option<&Page> {
        self.written.get(&number).and_then(|versions| versions.last()).or_else(|| self.flushed.0.get(&number))
    }

    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Dead> {
        if self.dead {
            return Err(Dead);
        }
        each_page(offset, out.len(), |number, within, part| match self.page(number) {
            Some(page) => out[part.clone()].copy_from_slice(&page[within..within + part.len()]),
            None => out[part].fill(0),
        });
        Ok(())
    }

    /// What was written before the power goes in the middle of a write stays in the cache.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Dead> {
        let alive = self.live_on();
        if alive.is_err() && self.dies_in != Some(0) {
            return alive;
        }
        self.dies_in = self.dies_in.filter(|left| *left > 0);
        self.counts.bytes += data.len() as u64;
        each_page(offset, data.len(), |number, within, part| {
            let mut page = self.page(number).map_or([0; PAGE], |page| **page);
            page[within..within + part.len()].copy_from_slice(&data[part]);
            let versions = self.written.entry(number).or_default();
            if versions.len() == VERSIONS_MAX {
                versions.remove(0);
            }
            versions.push(Arc::new(page));
        });
        alive
    }

    /// FLUSH: everything written so far is durable.
    pub fn flush(&mut self) -> Result<(), Dead> {
        let alive = self.live_on();
        self.dies_in = self.dies_in.filter(|left| *left > 0);
        alive?;
        self.counts.flushes += 1;
        for (number, mut versions) in std::mem::take(&mut self.written) {
            self.flushed.0.insert(number, versions.remove(versions.len() - 1));
        }
        Ok(())
    }

    /// The power goes. Of what was not flushed, `keep` percent of the pages survive.
    pub fn cut(&mut self, keep: u32, rng: &mut fastrand::Rng) -> Remains {
        self.dead = true;
        let written = std::mem::take(&mut self.written);
        let mut remains = Remains { unflushed: written.len(), kept: 0 };
        for (number, versions) in written {
            if rng.u32(0..100) >= keep {
                continue;
            }
            remains.kept += 1;
            // All of it: the drive had just written everything, and would have answered the FLUSH a
            // moment later.
            let last = versions.len() - 1;
            let at = if keep < 100 && rng.u32(0..EARLIER) == 0 { rng.usize(0..=last) } else { last };
            let mut page = *versions[at];
            // Page 0 holds ext4's superblock of two sectors, which no file system survives torn.
            if keep < 100 && number > 0 && (self.tears_all || rng.u32(0..TORN) == 0) {
                let before = self.flushed.0.get(&number).map_or([0; PAGE], |page| **page);
                for sector in (0..PAGE).step_by(SECTOR).filter(|_| rng.bool()) {
                    page[sector..sector + SECTOR].copy_from_slice(&before[sector..sector + SECTOR]);
                }
            }
            self.flushed.0.insert(number, Arc::new(page));
        }
        remains
    }

    /// The power is back. What was open before the cut stays dead.
    pub fn revive(&mut self) {
        self.written.clear();
        (self.dead, self.dies_in) = (false, None);
        self.life += 1;
    }
}

/// Calls with page number, offset in the page, and the part of the span that lies in it.
fn each_page(offset: u64, length: usize, mut visit: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let count = (PAGE - within).min(length - done);
        visit(at / PAGE as u64, within, done..done + count);
        done += count;
    }
}

#[test]
fn only_what_was_flushed_survives_a_cut_and_of_the_rest_what_chance_keeps() {
    let mut rng = fastrand::Rng::with_seed(1);
    let read = |platter: &Platter, page: u64| {
        let mut out = [0; 1];
        platter.read(page * PAGE as u64, &mut out).unwrap();
        out[0]
    };
    for (keep, expected) in [(0, 0..=0), (50, 60..=140), (100, 200..=200)] {
        let mut platter = Platter::default();
        platter.write(100, &[7; 5000]).unwrap();
        platter.flush().unwrap();
        for page in 0..200 {
            platter.write(page * PAGE as u64, &[9; PAGE]).unwrap();
        }
        let remains = platter.cut(keep, &mut rng);
        assert!(expected.contains(&remains.kept), "{keep} %: {remains:?}");
        assert!(platter.read(0, &mut [0]).is_err() && platter.write(0, &[1]).is_err() && platter.flush().is_err());
        platter.revive();
        let nines = (0..200).filter(|page| read(&platter, *page) == 9).count();
        assert!(nines <= remains.kept && nines + remains.kept / 3 >= remains.kept, "{keep} %: {nines} of {remains:?}");
        if keep == 0 {
            assert_eq!((read(&platter, 0), read(&platter, 1)), (0, 7), "what was flushed before is there");
        }
    }
}

#[test]
fn a_disk_that_dies_in_a_write_has_that_write_in_its_cache_and_in_a_flush_has_not_flushed() {
    let mut platter = Platter::default();
    platter.dies_in(2);
    platter.write(0, &[1]).unwrap();
    assert!(platter.write(4096, &[2]).is_err() && platter.is_dead());
    assert!(platter.write(8192, &[3]).is_err(), "later ones reach nothing");
    assert_eq!(platter.cut(100, &mut fastrand::Rng::with_seed(1)).unflushed, 2);
    platter.revive();
    platter.write(0, &[4]).unwrap();
    platter.dies_in(1);
    assert!(platter.flush().is_err());
    assert_eq!(platter.cut(0, &mut fastrand::Rng::with_seed(1)).unflushed, 1);
    platter.revive();
    let mut out = [0; 1];
    platter.read(0, &mut out).unwrap();
    assert_eq!(out, [1]);
}

#[test]
fn a_torn_page_has_of_each_sector_what_was_there_before_or_what_was_written() {
    let mut platter = Platter::default();
    platter.write(0, &[1; 20 * PAGE]).unwrap();
    platter.flush().unwrap();
    platter.write(0, &[2; 20 * PAGE]).unwrap();
    platter.tears_all = true;
    platter.cut(99, &mut fastrand::Rng::with_seed(1));
    platter.revive();
    let mut torn = false;
    for page in 1..20 {
        let mut out = [0; PAGE];
        platter.read((page * PAGE) as u64, &mut out).unwrap();
        assert!(out.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "no sector is torn");
        torn |= out.chunks(SECTOR).any(|sector| sector[0] == 1) && out.chunks(SECTOR).any(|sector| sector[0] == 2);
    }
    assert!(torn, "no page is torn");
}
