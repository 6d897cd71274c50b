//! The sled queue: the only file that knows sled.
//!
//! The queue contains what the uplink needs at hand: the reads that no batch covers (in blocks, in
//! the order of the journal) and the state of the fold (cursors, numbers per session, the batch in
//! flight, positions, recent identities) after one entry of the log. All of it is derived from the
//! log. Any doubt leads to [`Broken`] and a rebuild from the log.
//!
//! The measured weaknesses of sled, and the protection against each:
//! * `flush` is no barrier: every checkpoint calls it and then `fdatasync` on sled's `db` file.
//!   sled's own flusher thread is off. `conf` and the directories are synced once after opening.
//!   sled writes a tree page of more than 128 KiB into a file below `blobs`, which it never syncs.
//!   If such a file is missing after a power cut, sled takes the rest of its log for torn, and
//!   opens with a state that is some checkpoints old. So each new blob file is synced. A span that
//!   went back to an earlier state is still consistent in itself, so the waiting reads are counted
//!   at opening, and the blocks of a sealed span are counted whenever it is opened again.
//! * A torn page can make sled panic, and a bit flip can stay unnoticed: every call runs under
//!   `catch_unwind`. Every value has a CRC of its own, and all values are read once at opening.
//! * A kill while `open` writes its snapshot makes the directory impossible to open until
//!   `snap.*.generating` is deleted. So these files are deleted before opening.
//! * Memory and disk space grow slowly in a FIFO: nothing is deleted one by one. A directory
//!   contains one span of the journal and is dropped whole when every read in it is covered. Values
//!   stay far below the size of a sled segment.
//! * The page cache keeps what it has read, whatever its capacity is (sled checks the capacity only
//!   after many accesses): only the span that is written and the span that is being read are open,
//!   so memory does not grow with the backlog.
//! * A full disk makes the handle unusable: the checkpoint fails, and the journal opens the queue
//!   again when there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::disk::{sync, sync_dir};
use super::state::{State, Waiting};
use super::{PendingRead, failpoint};

mod block;
mod commit;
mod value;

use block::{decode_block, encode_block};
use commit::{Commit, block_key, identity_key, part_key, sync_blobs};
pub(super) use value::Broken;
use value::{postcard_bytes, unseal, unsealed};

/// Reads in a block.
const BLOCK_READS: usize = 256;
/// How far before an entry the beginning of its block is looked for first. Blocks of reads that wait one
/// after the other are not longer.
const BLOCK_REACH: u64 = 1024;
/// Bytes of one value. A larger state is cut into parts.
const PART_BYTES: usize = 64 * 1024;
/// Bytes of the page cache of one directory.
const CACHE_BYTES: u64 = 1024 * 1024;

/// sled's threads may keep a closed directory locked for a little longer. This is how often opening
/// is tried again, and after what time.
const LOCK_TRIES: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// A sealed span that nobody has used for this time is closed when a reader goes on to the next
/// span. It is not closed at once: two devices that drain the backlog at two different places must
/// not open and close it in turn.
const UNUSED: Duration = Duration::from_millis(300);

/// The identities of a decoder that the queue does not contain yet.
pub(super) struct Identities {
    /// Decoder.
    pub decoder: Box<str>,
    /// How many identities were ever added, including these.
    pub added: u64,
    /// How many of the newest identities are to be remembered.
    pub remembered: u64,
    /// The newest identities, oldest first.
    pub fresh: Vec<u64>,
}

/// One sled directory: the reads from `first` on, up to the next directory.
pub(super) struct Span {
    /// The entry after the last one that was followed when the span was begun.
    pub first: u64,
    path: PathBuf,
    store: Arc<Mutex<Store>>,
    /// Nothing more is written to the span: it is open only while it is read.
    sealed: bool,
    /// Number of blocks in the span, once it is sealed.
    blocks: u64,
    /// Last read of each decoder in the span.
    last: BTreeMap<Box<str>, u64>,
}

/// A span's directory.
enum Store {
    /// Open, with the time of its last use.
    Open(Handle, Instant),
    /// Opened again when somebody needs a read in it. Only a sealed span is closed.
    Closed,
    /// No longer part of this queue: the span was removed, or the queue was given up. A late reader
    /// finds nothing in it.
    Gone,
}

#[derive(Clone)]
struct Handle {
    db: sled::Db,
    /// sled's `db` file, so that it can be synced.
    file: Arc<File>,
}

/// The queue: its spans, the oldest first. The last span also contains the state.
pub(super) struct Queue {
    dir: PathBuf,
    spans: Vec<Arc<Span>>,
    /// Generation of the state parts in the last span.
    generation: u64,
    /// Number of blocks in the last span.
    blocks: u64,
    /// For each decoder, how many identities the last span contains.
    written: BTreeMap<Box<str>, u64>,
    /// sled's blob files in the last span that are durable.
    blobs: BTreeSet<OsString>,
    /// The next checkpoint begins a new span.
    pub ends_span: bool,
}

impl Queue {
    /// Opens the queue in `dir`. `Ok(None)`: there is no queue. The returned state is the state
    /// after its entry `followed`.
    pub(super) fn open(dir: &Path) -> Result<Option<(Self, State)>, Broken> {
        guarded(|| Self::open_spans(dir))
    }

    fn open_spans(dir: &Path) -> Result<Option<(Self, State)>, Broken> {
        std::fs::create_dir_all(dir)?;
        let mut firsts = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) {
                Some(first) => firsts.push(first),
                // A directory `dropped-…` that an earlier run left.
                None => std::fs::remove_dir_all(entry.path())?,
            }
        }
        firsts.sort_unstable();
        let mut spans: Vec<Span> = firsts.iter().map(|&first| Span::at(dir, first)).collect();
        while let Some(newest) = spans.last() {
            let Some((Head { generation, blocks, identities: written, .. }, mut state)) = newest.load_state()? else {
                // This span was begun, but its first checkpoint was not completed: the span before
                // it contains the state.
                if let Some(unfinished) = spans.pop() {
                    unfinished.remove()?;
                }
                continue;
            };
            for (decoder, identities) in newest.load_identities(&written)? {
                state.adopt(&decoder, identities);
            }
            for (decoder, fold) in &mut state.decoders {
                fold.recent.added = written.get(decoder).copied().unwrap_or(0);
            }
            // Backwards, so that the oldest span stays open: it is read next.
            let newest = spans.len() - 1;
            let mut checked = Vec::new();
            let mut waiting = 0;
            for (at, span) in spans.into_iter().enumerate().rev() {
                let (mut span, found) = span.verify(&state)?;
                waiting += found;
                span.sealed = at < newest;
                if span.sealed && at > 0 {
                    span.close(Duration::ZERO);
                }
                checked.push(Arc::new(span));
            }
            checked.reverse();
            if waiting < state.waiting {
                // A span is consistent in itself but not as it was: it went back to an earlier
                // state, or it is missing.
                return Err(Broken::Corrupt(format!("{} reads that wait are missing", state.waiting - waiting)));
            }
            let blobs = BTreeSet::new();
            return Ok(Some((
                Self { dir: dir.into(), spans: checked, generation, blocks, written, blobs, ends_span: false },
                state,
            )));
        }
        Ok(None)
    }

    /// Makes an empty queue that begins after entry `followed`.
    pub(super) fn create(dir: &Path, followed: u64) -> Result<Self, Broken> {
        std::fs::create_dir_all(dir)?;
        let span = Span::begin(dir, followed + 1)?;
        let (spans, written, blobs) = (vec![Arc::new(span)], BTreeMap::new(), BTreeSet::new());
        Ok(Self { dir: dir.into(), spans, generation: 0, blocks: 0, written, blobs, ends_span: false })
    }

    /// The spans, for reading blocks from other threads.
    pub(super) fn spans(&self) -> Vec<Arc<Span>> {
        self.spans.clone()
    }

    /// Whether its directories, and the file that is being written, still have their names.
    pub(super) fn is_there(&self) -> bool {
        let written = self.spans.last().is_none_or(|span| match &*span.store() {
            Store::Open(handle, _) => match (handle.file.metadata(), std::fs::metadata(span.path.join("db"))) {
                (Ok(own), Ok(named)) => (named.dev(), named.ino()) == (own.dev(), own.ino()),
                (Err(_), _) => true, // the disk fails, and the next write will report it
                (_, Err(error)) => {
                    error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::NotADirectory
                }
            },
            Store::Closed | Store::Gone => true,
        });
        written && self.spans.iter().all(|span| span.path.is_dir())
    }

    /// Counts the reads in the blocks that no batch covers.
    pub(super) fn waiting(&self, state: &State) -> Result<u64, Broken> {
        let count = |span: &Arc<Span>| {
            let found = span.with(|Handle { db, .. }| {
                let mut found = 0;
                for pair in db.scan_prefix(b"b") {
                    found += count_waiting(&decode_block(&pair?.1)?, state);
                }
                Ok(found)
            });
            Ok(found?.unwrap_or(0))
        };
        guarded(|| self.spans.iter().map(count).sum())
    }

    /// How many identities of each decoder the last span contains, as counted by
    /// [`super::state::Recent::added`].
    pub(super) fn written(&self) -> &BTreeMap<Box<str>, u64> {
        &self.written
    }

    /// Makes `reads` and the state durable. `state_json` is the state after its entry `followed`,
    /// and it covers `reads`.
    pub(super) fn checkpoint(
        &mut self,
        reads: &[Waiting],
        state_json: &str,
        identities: &[Identities],
    ) -> Result<(), Broken> {
        guarded(|| self.write_checkpoint(reads, state_json, identities))
    }

    fn write_checkpoint(
        &mut self,
        reads: &[Waiting],
        state_json: &str,
        identities: &[Identities],
    ) -> Result<(), Broken> {
        let Some(span) = self.spans.last_mut() else { return Err(Broken::Corrupt("it has no span".into())) };
        let Some(Handle { db, file }) = span.handle()? else { return Err(Broken::Corrupt("its span is gone".into())) };
        let mut commit = Commit { db: &db, batch: sled::Batch::default(), bytes: 0 };
        for reads in reads.chunks(BLOCK_READS) {
            commit.put(block_key(reads[0].read.seq.0), &encode_block(reads)?)?;
        }
        for Identities { decoder, added, fresh, .. } in identities {
            let from = added - fresh.len() as u64;
            for (at, part) in fresh.chunks(PART_BYTES / 8).enumerate() {
                let bytes: Vec<u8> = part.iter().flat_map(|identity| identity.to_le_bytes()).collect();
                commit.put(identity_key(decoder, from + (at * PART_BYTES / 8) as u64), &bytes)?;
            }
            self.written.insert(decoder.clone(), *added);
        }
        let generation = self.generation + 1;
        let parts = state_json.as_bytes().chunks(PART_BYTES);
        let count = parts.len() as u32;
        for (at, part) in parts.enumerate() {
            commit.put(part_key(generation, at as u32), part)?;
        }
        // All writes above have no effect until the head names the new generation, which is one
        // value in one commit. Blocks and identities beyond those that the previous head names
        // belong to a checkpoint that was not completed, and are not read.
        commit.flush()?;
        let blocks = self.blocks + reads.len().div_ceil(BLOCK_READS) as u64;
        let head = Head { generation, parts: count, blocks, identities: self.written.clone() };
        commit.put(b"head".to_vec(), &postcard_bytes(&head)?)?;
        for Identities { decoder, added, remembered, .. } in identities {
            commit.forget_identities(decoder, added - remembered)?;
        }
        for at in 0..commit.count_parts(self.generation)? {
            commit.batch.remove(part_key(self.generation, at));
        }
        commit.flush()?;
        db.flush()?;
        if !failpoint::skips_queue_sync() {
            // Before the pages that point to them.
            sync_blobs(&span.path.join("blobs"), &mut self.blobs)?;
            sync(&file)?;
        }
        (self.generation, self.blocks) = (generation, blocks);
        note_last(span, reads);
        Ok(())
    }

    /// Begins a new span after entry `followed`. The next checkpoint must contain all identities.
    pub(super) fn begin_span(&mut self, followed: u64) -> Result<(), Broken> {
        if self.spans.last().is_some_and(|span| span.first == followed + 1) {
            return Ok(());
        }
        let fresh = Arc::new(Span::begin(&self.dir, followed + 1)?);
        if let Some(full) = self.spans.last_mut() {
            let mut sealed = full.again(full.last.clone());
            (sealed.sealed, sealed.blocks) = (true, self.blocks);
            sealed.close(Duration::ZERO);
            *full = Arc::new(sealed);
        }
        self.spans.push(fresh);
        (self.generation, self.blocks) = (0, 0);
        self.written.clear();
        self.blobs.clear();
        Ok(())
    }

    /// Drops the spans whose reads are all covered. The last span always stays.
    pub(super) fn drop_covered(&mut self, cursor: impl Fn(&str) -> u64) -> Result<(), Broken> {
        let mut at = 0;
        while at + 1 < self.spans.len() {
            let span = &self.spans[at];
            if span.last.iter().all(|(decoder, &last)| last <= cursor(decoder)) {
                span.remove_dir()?; // a directory that cannot be removed is still a span
                self.spans.remove(at);
            } else {
                at += 1;
            }
        }
        Ok(())
    }
}

/// Runs a piece of work with sled. After a panic, the objects that it used are not used again: the
/// queue is rebuilt.
fn guarded<T>(work: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Broken::Corrupt("sled panicked".into())))
}

fn count_waiting(reads: &[Waiting], state: &State) -> u64 {
    reads.iter().filter(|waiting| state.is_waiting(&waiting.read)).count() as u64
}

fn note(last: &mut BTreeMap<Box<str>, u64>, read: &PendingRead) {
    match last.get_mut(&*read.decoder) {
        Some(last) => *last = read.seq.0,
        None => {
            last.insert((&*read.decoder).into(), read.seq.0);
        }
    }
}

fn note_last(span: &mut Arc<Span>, reads: &[Waiting]) {
    // Readers hold clones of the old value only for one short use. They read only the blocks.
    let mut last = span.last.clone();
    reads.iter().for_each(|waiting| note(&mut last, &waiting.read));
    if last != span.last {
        *span = Arc::new(span.again(last));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Readers may hold spans for a moment longer. They must not open a directory that is being
        // moved aside, or keep it locked.
        for span in &self.spans {
            *span.store() = Store::Gone;
        }
    }
}

impl Handle {
    fn open(path: &Path) -> Result<Self, Broken> {
        if let Ok(files) = std::fs::read_dir(path) {
            for file in files.flatten() {
                if file.file_name().to_string_lossy().ends_with(".generating") {
                    std::fs::remove_file(file.path())?;
                }
            }
        }
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let mut tries = LOCK_TRIES;
        let db = loop {
            let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
            match opened.map_err(|_| Broken::Corrupt("opening it panicked".into()))? {
                Err(sled::Error::Io(error)) if tries > 0 && error.to_string().contains("could not acquire lock") => {
                    tries -= 1;
                    std::thread::sleep(LOCK_WAIT);
                }
                opened => break opened?,
            }
        };
        let file = Arc::new(File::open(path.join("db"))?);
        for made in [&path.join("blobs"), path, path.parent().unwrap_or(path)] {
            if made.is_dir() {
                sync_dir(made)?;
            }
        }
        File::open(path.join("conf"))?.sync_all()?;
        Ok(Self { db, file })
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    generation: u64,
    parts: u32,
    /// Number of blocks in this directory: sled can lose the content of a damaged page without an
    /// error.
    blocks: u64,
    /// How many identities of each decoder belong to this state. Further ones belong to a
    /// checkpoint that was not completed.
    identities: BTreeMap<Box<str>, u64>,
}

impl Span {
    /// The span that begins with entry `first`. It is not open yet.
    fn at(dir: &Path, first: u64) -> Self {
        let path = dir.join(format!("{first:012}"));
        let store = Arc::new(Mutex::new(Store::Closed));
        Self { first, path, store, sealed: false, blocks: 0, last: BTreeMap::new() }
    }

    /// Makes a new span.
    fn begin(dir: &Path, first: u64) -> Result<Self, Broken> {
        let span = Self::at(dir, first);
        span.handle()?;
        Ok(span)
    }

    /// The same span with other last reads.
    fn again(&self, last: BTreeMap<Box<str>, u64>) -> Self {
        let Self { first, path, store, sealed, blocks, .. } = self;
        Self { first: *first, path: path.clone(), store: Arc::clone(store), sealed: *sealed, blocks: *blocks, last }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the span if nobody has used it for `unused`.
    fn close(&self, unused: Duration) {
        let mut store = self.store();
        if matches!(&*store, Store::Open(_, used) if used.elapsed() >= unused) {
            *store = Store::Closed;
        }
    }

    /// The handle for the writing thread, which must not delay readers while it syncs. Only that
    /// thread seals and removes spans.
    fn handle(&self) -> Result<Option<Handle>, Broken> {
        self.with(|handle| Ok(handle.clone()))
    }

    /// Runs `look` on the span under its lock, so that nobody closes it meanwhile. `None`: the span
    /// is gone.
    fn with<T>(&self, look: impl FnOnce(&Handle) -> Result<T, Broken>) -> Result<Option<T>, Broken> {
        let mut store = self.store();
        if matches!(*store, Store::Closed) {
            let handle = Handle::open(&self.path)?;
            if self.sealed && handle.db.scan_prefix(b"b").keys().count() as u64 != self.blocks {
                return Err(Broken::Corrupt("blocks of reads went missing while it was closed".into()));
            }
            *store = Store::Open(handle, Instant::now());
        }
        match &mut *store {
            Store::Open(handle, used) => {
                *used = Instant::now();
                look(handle).map(Some)
            }
            Store::Closed | Store::Gone => Ok(None),
        }
    }

    fn load_head(&self) -> Result<Option<Head>, Broken> {
        let Some(Handle { db, .. }) = self.handle()? else { return Ok(None) };
        db.get("head")?.map(|head| unseal(&head)).transpose()
    }

    fn load_state(&self) -> Result<Option<(Head, State)>, Broken> {
        let Some(head) = self.load_head()? else { return Ok(None) };
        let Some(Handle { db, .. }) = self.handle()? else { return Ok(None) };
        let mut json = Vec::new();
        for at in 0..head.parts {
            let part = db.get(part_key(head.generation, at))?;
            json.extend_from_slice(unsealed(&part.ok_or(Broken::Corrupt("a part of the state is missing".into()))?)?);
        }
        let state = serde_json::from_slice(&json).map_err(|error| Broken::Corrupt(format!("the state: {error}")))?;
        Ok(Some((head, state)))
    }

    /// The identities that belong to the state, the first `ends` of each decoder. Further ones
    /// belong to a checkpoint that was not completed, and are removed: otherwise the replay would
    /// take the reads that it follows for duplicates, and they would never be sent.
    fn load_identities(&self, ends: &BTreeMap<Box<str>, u64>) -> Result<BTreeMap<Box<str>, Vec<u64>>, Broken> {
        let mut identities: BTreeMap<Box<str>, Vec<u64>> = BTreeMap::new();
        let mut known: BTreeMap<Box<str>, u64> = BTreeMap::new();
        let Some(Handle { db, .. }) = self.handle()? else { return Ok(identities) };
        for pair in db.scan_prefix(b"i") {
            let (key, value) = pair?;
            let place = key.get(1..).and_then(|key| key.split_last_chunk::<8>());
            let place = place.and_then(|(name, from)| Some((str::from_utf8(name.strip_suffix(b"\0")?).ok()?, from)));
            let (decoder, from) = place.ok_or(Broken::Corrupt("an identity key is malformed".into()))?;
            let from = u64::from_be_bytes(*from);
            if ends.get(decoder).is_none_or(|end| from >= *end) {
                db.remove(&key)?;
                continue;
            }
            let (chunks, _) = unsealed(&value)?.as_chunks::<8>();
            identities.entry(decoder.into()).or_default().extend(chunks.iter().map(|bytes| u64::from_le_bytes(*bytes)));
            let before = known.insert(decoder.into(), from + chunks.len() as u64);
            if before.is_some_and(|end| end != from) {
                return Err(Broken::Corrupt("identities of reads are missing".into()));
            }
        }
        if known != *ends {
            return Err(Broken::Corrupt("identities of reads are missing".into()));
        }
        Ok(identities)
    }

    /// Reads every block once. Blocks beyond the state belong to a checkpoint that was not
    /// completed, and are removed. A missing block is an error, because its reads would wait for
    /// ever. Also returns how many reads in the span wait.
    fn verify(mut self, state: &State) -> Result<(Self, u64), Broken> {
        let Some(Handle { db, .. }) = self.handle()? else { return Ok((self, 0)) };
        let (mut blocks, mut found) = (0, 0);
        for pair in db.scan_prefix(b"b") {
            let (key, value) = pair?;
            let reads = decode_block(&value)?;
            if reads.last().is_some_and(|waiting| waiting.read.seq.0 > state.followed) {
                db.remove(key)?;
                continue;
            }
            blocks += 1;
            found += count_waiting(&reads, state);
            reads.iter().for_each(|waiting| note(&mut self.last, &waiting.read));
        }
        if self.load_head()?.is_none_or(|head| head.blocks != blocks) {
            return Err(Broken::Corrupt("blocks of reads are missing".into()));
        }
        self.blocks = blocks;
        Ok((self, found))
    }

    /// The reads after `after` in the first block that has such reads. Empty: this span has none.
    pub(super) fn reads_after(&self, after: u64) -> Result<Vec<Waiting>, Broken> {
        guarded(|| self.find_reads(after))
    }

    fn find_reads(&self, after: u64) -> Result<Vec<Waiting>, Broken> {
        if self.sealed && self.last.values().all(|&last| last <= after) {
            self.close(UNUSED); // this reader went on to the next span
            return Ok(Vec::new());
        }
        let reads = self.with(|Handle { db, .. }| {
            let before = block_at(db, after)?;
            let following = db.range(block_key(after.saturating_add(1))..=block_key(u64::MAX));
            for pair in before.map(Ok).into_iter().chain(following) {
                let mut reads = decode_block(&pair?.1)?;
                reads.retain(|waiting| waiting.read.seq.0 > after);
                if !reads.is_empty() {
                    return Ok(reads);
                }
            }
            Ok(Vec::new())
        });
        reads.map(Option::unwrap_or_default)
    }

    fn remove(self) -> Result<(), Broken> {
        self.remove_dir()
    }

    /// Removes the directory. First it gets another name, so that half of a directory is never
    /// taken for a span.
    fn remove_dir(&self) -> Result<(), Broken> {
        *self.store() = Store::Gone;
        let gone = self.path.with_file_name(format!("dropped-{}", self.first));
        std::fs::rename(&self.path, &gone)?;
        // The rest is removed when the queue is opened again.
        let _ = std::fs::remove_dir_all(&gone);
        Ok(())
    }
}

/// The last block that begins at `seq` or before. It is looked for forwards, in a part before `seq` that
/// grows: sled's way backwards holds a key of a megabyte, which would be a tenth of the program.
fn block_at(db: &sled::Db, seq: u64) -> Result<Option<(sled::IVec, sled::IVec)>, Broken> {
    let mut reach = BLOCK_REACH;
    loop {
        let from = seq.saturating_sub(reach);
        let mut last = None;
        for pair in db.range(block_key(from)..=block_key(seq)) {
            last = Some(pair?);
        }
        if last.is_some() || from == 0 {
            return Ok(last);
        }
        reach = reach.saturating_mul(16);
    }
}

#[cfg(test)]
mod tests;
