//! The simulated LLRP reader: it serves one client, does what that one's ROSpec says, and drops a client that does not
//! answer its keepalives. It may have an inventory that other software left in it ([`crate::sim::decoder::SimConfig::programmed`]).
//! What happens between the connection and the start of the inventory is reported after the start.

use jiff::civil::DateTime;

use crate::decoders::protocol::Settings;
use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, ForbiddenCommand, Pushing, Simulator, antenna, hits};
use crate::model::chip::Stamp;

/// Keepalives without an answer before the client is dropped.
const MISSED_MAX: u32 = 3;
/// Bytes of a message from the client at most.
const MESSAGE_MAX: usize = 4096;
/// What a client may start and delete: its own, and not everything (0).
const BOX: [u8; 4] = *b"PBRI";

pub(crate) struct Llrp;

impl Nature for Llrp {
    fn chip(&self, number: u32) -> String {
        format!("e2801160600002054c{number:06x}")
    }

    fn stamp(&self, at: DateTime) -> Stamp {
        jiff::tz::TimeZone::UTC.to_timestamp(at).map_or(Stamp::Local(at), Stamp::Utc)
    }

    fn noise(&self, _end: &[u8]) -> Vec<u8> {
        message(999, 0, b"~noise\xfe") // framed, or it would end the link
    }

    fn settings(&self) -> Settings {
        Settings::from([("start".to_owned(), "true".to_owned())])
    }

    fn rows(&self, recording: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = recording.to_vec();
        std::iter::from_fn(|| cut(&mut rest, usize::MAX).ok().flatten()).collect()
    }

    fn loses_its_clock(&self) -> bool {
        true
    }
}

impl Simulator for Llrp {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    heard: Vec<u8>,
    pushing: Pushing,
    from: usize,
    /// State of the client's ROSpec; `None`: there is none.
    rospec: Option<u8>,
    /// Other software's ROSpec is active.
    programmed: bool,
    /// Events and reports may be sent.
    enabled: bool,
    /// Seconds between keepalives; 0: none.
    period: u32,
    seconds: u32,
    missed: u32,
    done: bool,
}

impl Conversation for Peer {
    fn begin(&mut self, memory: &Memory, now: DateTime, out: &mut Outgoing) {
        self.from = memory.len();
        self.programmed = memory.programmed;
        out.frame(&[&attempt(0, micros(now))]);
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        _memory: &Memory,
        _now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        self.heard.extend_from_slice(bytes);
        let mut judged = Ok(());
        while let Some(message) =
            cut(&mut self.heard, MESSAGE_MAX).map_err(|()| ForbiddenCommand("no message".to_owned()))?
        {
            judged = judged.and(self.command(&message, out));
        }
        judged
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", row, out)
    }

    fn second(&mut self, _now: DateTime, out: &mut Outgoing) {
        self.seconds += 1;
        if self.period > 0 && self.seconds.is_multiple_of(self.period) {
            self.done |= self.missed >= MISSED_MAX;
            self.missed += 1;
            out.frame(&[&message(62, self.seconds, b"")]);
        }
    }

    fn refuse(&mut self, out: &mut Outgoing) -> bool {
        self.done = true;
        out.frame(&[&attempt(2, 0)]);
        true
    }

    fn is_done(&self) -> bool {
        self.done
    }
}

impl Peer {
    fn command(&mut self, bytes: &[u8], out: &mut Outgoing) -> Result<(), ForbiddenCommand> {
        let kind = u16::from_be_bytes([bytes[0], bytes[1]]) & 0x3ff;
        let (id, body) = (u32::from_be_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]), &bytes[10..]);
        let mut ok = true;
        match (kind, body) {
            (64, []) => {
                self.enabled = true;
                if self.programmed {
                    self.pushing = Pushing::from(self.from);
                }
            }
            (72, []) => self.missed = 0,
            (26, []) => {}
            (3, [0, 0, 220, 0, 9, 1, period @ ..]) if period.len() == 4 => {
                self.period = u32::from_be_bytes([period[0], period[1], period[2], period[3]]) / 1000;
            }
            (20, [0, 177, _, _, a, b, c, d, ..]) if [*a, *b, *c, *d] == BOX => {
                ok = self.rospec.is_none();
                self.rospec = self.rospec.or(Some(0));
            }
            (21, id) if id == BOX => ok = self.rospec.take().is_some(),
            (24, id) if id == BOX => ok = self.rospec.as_mut().map(|state| *state = 1).is_some(),
            (22, id) if id == BOX => {
                ok = self.rospec == Some(1);
                if ok && self.enabled {
                    self.rospec = Some(2);
                    self.pushing = Pushing::from(self.from);
                }
            }
            (14, []) => self.done = true,
            _ => {
                out.frame(&[&unsupported(kind, id)]);
                return Err(ForbiddenCommand(format!("message {kind} {body:02x?}")));
            }
        }
        let status = tlv(287, if ok { &[0, 0, 0, 0] } else { &[0, 100, 0, 0] });
        match kind {
            64 | 72 => {}
            26 => out.frame(&[&message(36, id, &[status, self.rospecs()].concat())]),
            14 => out.frame(&[&message(4, id, &status)]),
            _ => out.frame(&[&message(kind + 10, id, &status)]),
        }
        Ok(())
    }

    fn rospecs(&self) -> Vec<u8> {
        let theirs = self.programmed.then(|| rospec([0, 0, 0, 7], 2));
        let ours = self.rospec.map(|state| rospec(BOX, state));
        theirs.into_iter().chain(ours).flatten().collect()
    }
}

/// What a reader says to a request that it does not know: the answer to it, if the standard has
/// one, else ERROR_MESSAGE, with the status M_UnsupportedMessage and the request's id.
fn unsupported(kind: u16, id: u32) -> Vec<u8> {
    let answer = match kind {
        1..=3 | 20..=26 | 40..=44 | 46 | 47 => kind + 10,
        14 => 4,
        _ => 100,
    };
    message(answer, id, &tlv(287, &[0, 109, 0, 0]))
}

/// An LLRPStatus of GET_ROSPECS is followed by what there is: id, priority, state.
fn rospec(id: [u8; 4], state: u8) -> Vec<u8> {
    tlv(177, &[&id[..], &[0, state]].concat())
}

/// Takes the first message off, if it is whole.
fn cut(bytes: &mut Vec<u8>, limit: usize) -> Result<Option<Vec<u8>>, ()> {
    let Some(header) = bytes.first_chunk::<10>() else { return Ok(None) };
    let length = u32::from_be_bytes([header[2], header[3], header[4], header[5]]) as usize;
    if length < 10 || length > limit {
        return Err(());
    }
    Ok((bytes.len() >= length).then(|| bytes.drain(..length).collect()))
}

fn message(kind: u16, id: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (0x0400 + kind).to_be_bytes().to_vec();
    bytes.extend((body.len() as u32 + 10).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn tlv(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((body.len() as u16 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The reader's word on a connection: 0 accepted, 2 somebody else has one.
fn attempt(status: u16, us: u64) -> Vec<u8> {
    let data = [tlv(128, &us.to_be_bytes()), tlv(256, &status.to_be_bytes())].concat();
    message(63, 1, &tlv(246, &data))
}

fn micros(at: DateTime) -> u64 {
    let utc = jiff::tz::TimeZone::UTC.to_timestamp(at).map_or(0, |utc| utc.as_microsecond());
    u64::try_from(utc).unwrap_or(0)
}

fn row(placed: &Placed) -> Vec<u8> {
    let Placed { chip, at, number, on_ms, .. } = placed;
    let mut tag = vec![0x8d, 0xe2, 0x80, 0x11, 0x60, 0x60, 0x00, 0x02, 0x05, 0x4c];
    tag.extend(&chip.to_be_bytes()[1..]);
    tag.push(0x81);
    tag.extend((antenna(*number) as u16).to_be_bytes());
    let (kind, us) = on_ms.map_or_else(|| (0x82, micros(*at)), |ms| (0x83, ms * 1000));
    tag.extend([0x86, (256 - (40 + number % 35)) as u8, kind]);
    tag.extend(us.to_be_bytes());
    tag.push(0x88);
    tag.extend((hits(*number) as u16).to_be_bytes());
    message(61, *number as u32, &tlv(240, &tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::simulator::memory::Simulated;
    use crate::decoders::simulator::race::{Race, RaceConfig};

    #[test]
    fn a_client_that_does_not_answer_keepalives_is_dropped_and_one_that_does_is_not() {
        let memory = Memory::race(
            Simulated { nature: &Llrp, end: b"" },
            DateTime::default(),
            Race::new(RaceConfig::default(), 1.0, 1),
            None,
        );
        for answers in [true, false] {
            let (mut peer, mut out) = (Peer { period: 1, ..Peer::default() }, Outgoing::default());
            for _ in 0..10 {
                peer.second(DateTime::default(), &mut out);
                if answers {
                    assert!(peer.hear(&message(72, 1, b""), &memory, DateTime::default(), &mut out).is_ok());
                }
            }
            assert_eq!(peer.is_done(), !answers);
        }
    }

    #[test]
    fn what_it_does_not_know_is_answered_as_the_standard_says_and_what_follows_is_heard() {
        let memory = Memory::race(
            Simulated { nature: &Llrp, end: b"" },
            DateTime::default(),
            Race::new(RaceConfig::default(), 1.0, 1),
            None,
        );
        let status = tlv(287, &[0, 109, 0, 0]);
        for (asked, answered) in [(1, 11), (2, 12), (3, 13), (23, 33), (40, 50), (46, 56), (60, 100), (1023, 100)] {
            let (mut peer, mut out) = (Peer::default(), Outgoing::default());
            let both = [message(asked, 7, b"x"), message(26, 8, b"")].concat();
            assert!(peer.hear(&both, &memory, DateTime::default(), &mut out).is_err(), "the box must not say it");
            let mut said = out.take();
            let (first, second) = (cut(&mut said, 4096).unwrap().unwrap(), cut(&mut said, 4096).unwrap().unwrap());
            assert_eq!(first, message(answered, 7, &status), "{asked}");
            assert_eq!(second[..2], message(36, 8, b"")[..2], "{asked}");
        }
    }

    #[test]
    fn only_the_clients_own_inventory_may_be_touched() {
        let mut peer = Peer::default();
        for (kind, body) in [(21, &[0; 4]), (22, &[0, 0, 0, 7]), (23, b"PBRI")] {
            assert!(peer.command(&message(kind, 1, body), &mut Outgoing::default()).is_err());
        }
        assert!(peer.command(&message(21, 1, b"PBRI"), &mut Outgoing::default()).is_ok());
    }
}
