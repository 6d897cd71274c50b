//! The mark: a small file beside the log that says how far the log was written. With it the journal
//! notices that a file of the log is missing or was cut off, and prevents that a number is given
//! twice then.
//!
//! The mark is one line:
//!
//! ```text
//! passbridge-mark \t 1 \t identity \t last \t queue \t oldest \t open|closed \t crc
//! ```
//!
//! It is written at every checkpoint *before* the queue is, so it is never behind the queue. It is
//! renamed into place, so it is either whole or the mark before. If it cannot be read, it counts as
//! missing: the log alone decides, as far as it can. If the end of the log is lost together with the
//! mark, nothing knows the numbers that were given there, and they are given again (`follow`). If it cannot be written (a full disk), the
//! mark before stays, and a loss in this time is reported less exactly.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::write_new;
use super::entry::{seal, unseal};

/// The content of the mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenMark {
    /// Identity of the journal.
    pub identity: String,
    /// Entries up to this one were durable.
    pub last: u64,
    /// The queue's last checkpoint followed the log up to this entry. 0: there was no checkpoint.
    pub queue: u64,
    /// First number of the oldest segment that was not removed on purpose.
    pub oldest: u64,
    /// The journal was closed, so `last` is the last entry of all.
    pub closed: bool,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("mark")
}

/// The mark of a data directory, if there is one that can be read.
pub(super) fn read(data_dir: &Path) -> Option<WrittenMark> {
    let line = std::fs::read(path(data_dir)).ok()?;
    let text = unseal(line.strip_suffix(b"\n")?).ok()?;
    let mut columns = text.strip_prefix("passbridge-mark\t1\t")?.split('\t');
    let mut next = || columns.next();
    let identity = next()?.to_owned();
    let mut number = || next()?.parse().ok();
    let (last, queue, oldest) = (number()?, number()?, number()?);
    Some(WrittenMark { identity, last, queue, oldest, closed: next()? == "closed" })
}

/// Makes the mark durable.
pub(super) fn write(data_dir: &Path, mark: &WrittenMark) -> io::Result<()> {
    let WrittenMark { identity, last, queue, oldest, closed } = mark;
    let word = if *closed { "closed" } else { "open" };
    let mut line = format!("passbridge-mark\t1\t{identity}\t{last}\t{queue}\t{oldest}\t{word}").into_bytes();
    seal(&mut line, 0);
    write_new(&path(data_dir), &line)
}
