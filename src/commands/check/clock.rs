//! The clock of a decoder, as `check --connect` finds it. The check asks the decoder for its clock
//! if that is safe, and listens to it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::report::CheckReport;
use crate::config::{Address, DecoderConfig};
use crate::decoders::{Frame, Info, Item, Output};
use crate::link::{Wire, dial};
use crate::model::clock::offset_ms;
use crate::status::words::{against_box, zone_minutes};
use crate::status::{ClockBy, DecoderStatus};

/// How long the check listens to a decoder.
const LISTEN: Duration = Duration::from_secs(4);
/// The check asks a decoder that has not reported its clock for this long.
const ASK: Duration = Duration::from_millis(500);
/// At most this many bytes are taken.
const MOST: usize = 256 * 1024;

/// Opens the wire to a decoder that waits for us, and compares its clock. The check acknowledges
/// nothing and asks for no stored reads.
///
/// # Errors
/// The error of the system if the decoder cannot be reached.
pub(super) async fn reach(decoder: &DecoderConfig, report: &mut CheckReport) -> std::io::Result<()> {
    let mut wire = dial(&decoder.address).await?;
    report.ok("decoder", &decoder.name, format!("{} answers", decoder.address));
    let found = measure(decoder, &mut wire).await;
    tell(decoder, found, report);
    Ok(())
}

/// The clock of a decoder, as the running daemon knows it.
pub(super) fn asked(decoder: &DecoderConfig, known: &DecoderStatus, report: &mut CheckReport) {
    tell(decoder, known.clock_offset_ms.zip(known.clock_by), report);
}

fn tell(decoder: &DecoderConfig, found: Option<(i64, ClockBy)>, report: &mut CheckReport) {
    let name = decoder.name.as_str();
    let Some((offset, by)) = found else {
        let text = "the decoder has not told its clock: pass a test chip, and compare with `passbridge status`";
        return report.ok("time", name, text);
    };
    let limit = match by {
        ClockBy::Answer => decoder.clock.note,
        // A read may arrive late, and it cannot arrive before it was made.
        ClockBy::Reads if offset > 0 => decoder.clock.wrong,
        ClockBy::Reads => decoder.clock.wrong_by_reads,
    };
    let what = if by == ClockBy::Answer { "its clock is" } else { "its live reads are stamped" };
    let text = format!("{what} {}", against_box(offset));
    match (Duration::from_millis(offset.unsigned_abs()) < limit, zone_minutes(offset)) {
        (true, _) => report.ok("time", name, text),
        (false, Some(_)) => report.warn("time", name, format!("{text}: is the timezone right?")),
        (false, None) => report.warn("time", name, format!("{text}: compare both with your phone")),
    }
}

/// The offset of the decoder's clock, and how it was measured. The decoder's own answer has
/// priority over the stamps of its reads.
async fn measure(decoder: &DecoderConfig, wire: &mut Wire) -> Option<(i64, ClockBy)> {
    let mut protocol = (decoder.protocol.make)(&decoder.set).ok()?;
    let (begin, mut taken) = (Instant::now(), 0);
    let serial = matches!(decoder.address, Address::Serial { .. });
    let own = decoder.protocol.questions.iter().filter(|question| question.serial || !serial);
    let more = decoder.protocol.follow_ups.iter().map(|next| next.text.as_bytes());
    let questions: Vec<&[u8]> =
        own.map(|question| question.bytes).chain(more.filter(|text| !text.contains(&b'{'))).collect();
    let mut questions = questions.into_iter();
    let (mut next, mut read) = (begin + ASK, None);
    let mut buffer = vec![0; 4096];
    while begin.elapsed() < LISTEN && taken < MOST {
        let Ok(got) = timeout_at(next.min(begin + LISTEN), wire.read(&mut buffer)).await else {
            if let Some(question) = questions.next() {
                wire.write_all(question).await.ok()?;
                wire.flush().await.ok()?;
            }
            next = Instant::now() + ASK;
            continue;
        };
        let count = got.ok().filter(|count| *count > 0)?;
        taken += count;
        let now = Timestamp::now();
        let mut out = Output::default();
        protocol.feed(&buffer[..count], &mut out); // its replies are not sent, because nothing is kept here
        for item in out.items {
            let Item::Frame(framed) = item else { continue };
            match framed.frame {
                Frame::Info(Info::Clock(clock)) => {
                    return Some((offset_ms(&clock, &decoder.timezone, now), ClockBy::Answer));
                }
                Frame::Read(live) if !live.replay => {
                    read = Some((offset_ms(&live.stamp, &decoder.timezone, now), ClockBy::Reads));
                }
                _ => {}
            }
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, SocketAddr};

    use futures_util::future::join_all;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::commands::check::report::CheckVerdict;
    use crate::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};

    /// What the check finds about a decoder whose clock is in UTC. It fails if the check sent a
    /// command that changes something.
    async fn found(kind: Kind, zone: &str) -> (Option<CheckVerdict>, String) {
        let start = TimeZone::UTC.to_datetime(Timestamp::now());
        let here = Wiring::Listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let sim = SimDecoder::start(SimConfig { start, ..SimConfig::new(kind, here) }).await.unwrap();
        let address = format!("tcp://{}", sim.address().unwrap()).parse().unwrap();
        let decoder = DecoderConfig {
            name: "mat".to_owned(),
            protocol: kind.spec(),
            address,
            timezone: TimeZone::get(zone).unwrap(),
            zone_given: true,
            clock: Default::default(),
            device_id: None,
            rewind: true,
            locations: BTreeMap::new(),
            set: kind.settings(),
        };
        let mut report = CheckReport::default();
        reach(&decoder, &mut report).await.unwrap();
        assert_eq!(sim.forbidden(), [""; 0], "{}", kind.name());
        let time = report.lines.into_iter().find(|line| line.check == "time").unwrap();
        (Some(time.verdict), time.text)
    }

    #[tokio::test]
    async fn the_clock_of_a_decoder_that_tells_it_is_compared_and_a_wrong_zone_is_named() {
        let kinds: Vec<Kind> = Kind::all().filter(|kind| !kind.connects() && kind.spec().tells_clock).collect();
        assert!(kinds.len() >= 4);
        let looks = kinds.iter().map(async |kind| {
            let (right, text) = found(*kind, "UTC").await;
            assert_eq!(right, Some(CheckVerdict::Ok), "{}: {text}", kind.name());
            if kind.spec().tells_utc {
                return;
            }
            let (wrong, text) = found(*kind, "Asia/Kolkata").await;
            let told = text.contains("exactly 5 h 30 min behind this box: is the timezone right?");
            assert!(wrong == Some(CheckVerdict::Warn) && told, "{}: {text}", kind.name());
        });
        join_all(looks).await;
    }
}
