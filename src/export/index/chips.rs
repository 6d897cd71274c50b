//! Which chips are in which blocks of a segment: what a search by chip needs, beside the blocks.
//!
//! What must hold:
//! * **Never narrower than the truth.** A chip is a hash of 32 bits here, of a form of its code in
//!   which case, zeros at the beginning and the EPC of an open tag do not count. A block in which a
//!   chip is not may be named, and the search then looks at the lines. A block in which it is, is
//!   always named.
//! * **Nothing is trusted.** The head has a checksum, each of the [`BUCKETS`] parts has one, and the
//!   file says to which blocks it belongs. A file that does not fit is made again.
//! * **Few bytes are read.** A search reads the head (2 KiB) and the part of its chip.
//!
//! The file: [`MAGIC`], the `shape` of the blocks, then for each part where it ends and its
//! checksum, then the checksum of all that, then the postings. A posting is the hash and the number of
//! the block, in rising order. All numbers are little-endian.
//!
//! Rejected: a filter for each segment (a chip of a lap race is in every segment, and then the
//! segment has to be read); the place of each read (twice the bytes, and the block has to be read
//! from a card anyway); one index of the whole log (it would have to be written again and again).

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::cloud::passing::chip_code;
use crate::config::TagCode;
use crate::journal::entry::chip_of_line;

/// First bytes of a file. They change when the hash or the form changes.
const MAGIC: [u8; 8] = *b"pbchips1";
/// Parts of the postings, by the highest bits of the hash.
const BUCKETS: usize = 256;
/// Bytes of a posting.
const POSTING: usize = 6;
/// Bytes of the head: magic, shape, the parts, checksum.
const HEAD: usize = MAGIC.len() + 4 + BUCKETS * 8 + 4;

/// The hash under which a chip is found. Codes that a search may take for the same chip have the
/// same hash: the EPC of an open tag and its code, upper and lower case, with and without zeros at
/// the beginning.
pub(in crate::export) fn hash(chip: &str) -> u32 {
    let code = chip_code(chip, TagCode::Rufus);
    let mut code = Cow::Borrowed(code.trim_start_matches('0'));
    if code.bytes().any(|byte| byte.is_ascii_lowercase()) {
        code = Cow::Owned(code.to_ascii_uppercase());
    }
    crc32fast::hash(code.as_bytes())
}

/// The hash of the chip of a read, from the text of its line. `None`: the line has none.
pub(in crate::export) fn hash_of_line(text: &str) -> Option<u32> {
    chip_of_line(text).map(|chip| hash(&chip))
}

/// The chips of a segment while its index is made: at most one posting for each read.
#[derive(Debug, Default)]
pub(super) struct Chips(Vec<(u32, u16)>);

impl Chips {
    /// Adds a read. Blocks from number 65,535 on count as one.
    pub(super) fn add(&mut self, hash: u32, block: usize) {
        self.0.push((hash, u16::try_from(block).unwrap_or(u16::MAX)));
    }

    /// The bytes of the file.
    pub(super) fn encode(mut self, shape: u32) -> Vec<u8> {
        self.0.sort_unstable();
        self.0.dedup();
        let mut postings = Vec::with_capacity(self.0.len() * POSTING);
        let mut head = Vec::with_capacity(HEAD + self.0.len() * POSTING);
        head.extend(MAGIC);
        head.extend(shape.to_le_bytes());
        let mut rest = &self.0[..];
        for bucket in 0..BUCKETS as u32 {
            let begin = postings.len();
            let (of_it, others) = rest.split_at(rest.partition_point(|(hash, _)| hash >> 24 <= bucket));
            for (hash, block) in of_it {
                postings.extend(hash.to_le_bytes());
                postings.extend(block.to_le_bytes());
            }
            rest = others;
            head.extend((postings.len() as u32).to_le_bytes());
            head.extend(crc32fast::hash(&postings[begin..]).to_le_bytes());
        }
        head.extend(crc32fast::hash(&head).to_le_bytes());
        head.append(&mut postings);
        head
    }
}

/// The kept chips of a segment.
#[derive(Debug)]
pub(super) struct KeptChips {
    file: File,
    head: Vec<u8>,
}

impl KeptChips {
    /// Opens the file for blocks of this shape. `None`: there is none, or it does not fit.
    pub(super) fn open(path: &Path, shape: u32) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut head = vec![0; HEAD];
        file.read_exact_at(&mut head, 0).ok()?;
        let (content, sum) = head.split_at(HEAD - 4);
        let fits = content.strip_prefix(&MAGIC)?.starts_with(&shape.to_le_bytes());
        let last = number(content, HEAD - 12)?;
        let whole = file.metadata().ok()?.len() == (HEAD as u64) + u64::from(last);
        (fits && whole && sum == crc32fast::hash(content).to_le_bytes()).then_some(Self { file, head })
    }

    /// The blocks that may have reads of one of these chips, as sorted hashes. `None`: the file is
    /// damaged.
    pub(super) fn blocks_with(&self, wanted: &[u32]) -> Option<Vec<u16>> {
        let mut blocks = Vec::new();
        for of_bucket in wanted.chunk_by(|one, next| one >> 24 == next >> 24) {
            let bucket = (of_bucket.first()? >> 24) as usize;
            let at = MAGIC.len() + 4 + bucket * 8;
            let begin = if bucket == 0 { 0 } else { number(&self.head, at - 8)? };
            let (end, sum) = (number(&self.head, at)?, number(&self.head, at + 4)?);
            let mut postings = vec![0; end.checked_sub(begin)? as usize];
            self.file.read_exact_at(&mut postings, HEAD as u64 + u64::from(begin)).ok()?;
            if crc32fast::hash(&postings) != sum {
                return None;
            }
            for posting in postings.chunks_exact(POSTING) {
                if of_bucket.binary_search(&number(posting, 0)?).is_ok() {
                    blocks.push(u16::from_le_bytes([posting[4], posting[5]]));
                }
            }
        }
        Some(blocks)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(chips: &[(u32, usize)], shape: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let mut all = Chips::default();
        chips.iter().for_each(|(hash, block)| all.add(*hash, *block));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chips");
        std::fs::write(&path, all.encode(shape)).unwrap();
        (dir, path)
    }

    #[test]
    fn codes_that_a_search_may_take_for_the_same_chip_have_the_same_hash() {
        for [one, other] in [
            ["MC00978", "mc00978"],
            ["30303030304D433030393738", "MC00978"],
            ["3030 3030 304d 4330 3039 3738", "mc00978"],
            ["0011055", "11055"],
            ["é", "é"],
        ] {
            assert_eq!(hash(one), hash(other), "{one} {other}");
        }
        assert_ne!(hash("C7"), hash("C70"));
    }

    #[test]
    fn each_block_in_which_a_chip_is_is_named_and_a_damaged_file_names_none() {
        let mut random = fastrand::Rng::with_seed(1);
        let chips: Vec<(u32, usize)> = (0..3000).map(|_| (random.u32(..500) << 20, random.usize(..300))).collect();
        let (_dir, path) = kept(&chips, 7);
        assert!(KeptChips::open(&path, 8).is_none(), "of other blocks");
        for wanted in [vec![5 << 20], vec![0, 1 << 20, 300 << 20, u32::MAX], vec![]] {
            let found = KeptChips::open(&path, 7).unwrap().blocks_with(&wanted).unwrap();
            let named = chips.iter().filter(|(hash, _)| wanted.contains(hash));
            let mut expected: Vec<u16> = named.map(|(_, block)| *block as u16).collect();
            let mut found: Vec<u16> = found;
            expected.sort_unstable();
            found.sort_unstable();
            expected.dedup();
            found.dedup();
            assert_eq!(found, expected);
        }
        let all: Vec<u32> = (0..500).map(|hash| hash << 20).collect();
        let good = std::fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(97).chain(0..20) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(KeptChips::open(&path, 7).and_then(|kept| kept.blocks_with(&all)).is_none(), "byte {at}");
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(KeptChips::open(&path, 7).is_none());
    }
}
