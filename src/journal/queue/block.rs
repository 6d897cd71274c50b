//! A block of reads as it is stored in sled: postcard, about 30 bytes for each read.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::value::{Broken, postcard_bytes, unseal};
use crate::journal::PendingRead;
use crate::journal::state::{ReadVerdict, Waiting};
use crate::model::chip::{Seq, Stamp};

#[derive(Serialize, Deserialize)]
struct StoredBlock<'a> {
    #[serde(borrow)]
    decoders: Vec<&'a str>,
    received_ms: i64,
    #[serde(borrow)]
    reads: Vec<StoredRead<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredRead<'a> {
    seq: u64,
    decoder: u32,
    received_ms: i64,
    chip: &'a str,
    stamp: StoredStamp,
    replay: bool,
    verdict: ReadVerdict,
}

#[derive(Serialize, Deserialize)]
enum StoredStamp {
    Local(i64),
    TimeOfDay(i64, Option<u32>),
    Utc(i64),
    Uptime(u64),
}

/// Encodes a block. `reads` must not be empty.
pub(super) fn encode_block(reads: &[Waiting]) -> Result<Vec<u8>, Broken> {
    let mut decoders: Vec<&str> = Vec::new();
    let received_ms = reads[0].read.received.as_millisecond();
    let stored = reads
        .iter()
        .map(|Waiting { read, verdict }| {
            let decoder = decoders.iter().position(|name| **name == *read.decoder).unwrap_or_else(|| {
                decoders.push(&read.decoder);
                decoders.len() - 1
            });
            StoredRead {
                seq: read.seq.0,
                decoder: decoder as u32,
                received_ms: read.received.as_millisecond() - received_ms,
                chip: &read.chip,
                stamp: store_stamp(read.stamp),
                replay: read.replay,
                verdict: *verdict,
            }
        })
        .collect();
    postcard_bytes(&StoredBlock { decoders, received_ms, reads: stored })
}

/// Decodes a sealed block into its reads.
pub(super) fn decode_block(value: &[u8]) -> Result<Vec<Waiting>, Broken> {
    let block: StoredBlock = unseal(value)?;
    let bad = || Broken::Corrupt("a block of reads does not decode".into());
    let reads = block.reads.iter().map(|stored| {
        let decoder = *block.decoders.get(stored.decoder as usize)?;
        let received = Timestamp::from_millisecond(block.received_ms.checked_add(stored.received_ms)?).ok()?;
        let stamp = load_stamp(&stored.stamp)?;
        let (seq, chip, replay) = (Seq(stored.seq), stored.chip.into(), stored.replay);
        let read =
            PendingRead { seq, decoder: decoder.into(), received, chip, stamp, replay, corrected_ms: 0, zone: None };
        Some(Waiting { read, verdict: stored.verdict })
    });
    reads.collect::<Option<_>>().ok_or_else(bad)
}

fn store_stamp(stamp: Stamp) -> StoredStamp {
    // A civil time is stored as if it were UTC: this is exact and compact, and it needs no zone.
    let ms = |local: DateTime| TimeZone::UTC.to_timestamp(local).map_or(i64::MIN, Timestamp::as_millisecond);
    match stamp {
        Stamp::Local(local) => StoredStamp::Local(ms(local)),
        Stamp::TimeOfDay { time, day } => {
            StoredStamp::TimeOfDay(ms(jiff::civil::date(1970, 1, 1).to_datetime(time)), day)
        }
        Stamp::Utc(instant) => StoredStamp::Utc(instant.as_millisecond()),
        Stamp::Uptime(ms) => StoredStamp::Uptime(ms),
    }
}

fn load_stamp(stored: &StoredStamp) -> Option<Stamp> {
    let civil = |ms: i64| Timestamp::from_millisecond(ms).ok().map(|instant| TimeZone::UTC.to_datetime(instant));
    Some(match *stored {
        StoredStamp::Local(ms) => Stamp::Local(civil(ms)?),
        StoredStamp::TimeOfDay(ms, day) => Stamp::TimeOfDay { time: civil(ms)?.time(), day },
        StoredStamp::Utc(ms) => Stamp::Utc(Timestamp::from_millisecond(ms).ok()?),
        StoredStamp::Uptime(ms) => Stamp::Uptime(ms),
    })
}
