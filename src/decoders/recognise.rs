//! Finds the protocols that bytes look like. The bytes are fed to every protocol of the registry,
//! and the frames that each one makes of them are counted.
//!
//! What must hold:
//! * **Pure.** The functions take bytes and return candidates. No link is made, so no protocol asks
//!   questions.
//! * **Honest.** `Certain` needs something that nothing else sends, in most of the bytes: a
//!   checksum that is right, or several records of a layout. If two protocols read the same bytes,
//!   both are named and neither is certain. Damaged pieces, and words that several decoders send,
//!   make a protocol possible at most.
//! * A protocol without a recogniser (`lines`) takes no part, because it reads whatever its options
//!   say.

use serde::Serialize;

use super::recogniser::{Recogniser, Sign};
use super::{Frame, Info, Item, Output, REGISTRY, Settings, Spec};
use crate::model::chip::{ChipRead, Stamp};

/// The most bytes that are examined.
pub(crate) const LIMIT: usize = 64 * 1024;

/// From this number of points on a protocol is certain: a read under a checksum, two reads, a read
/// and a word of its own, …
const CERTAIN: usize = 3;

/// How sure the result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// A part of the bytes looks like this protocol.
    Possible,
    /// The bytes have records or words of this protocol. But these are few, or between many other
    /// bytes, or another protocol reads them too.
    Likely,
    /// Nothing else sends this.
    Certain,
}

/// What a protocol found in the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Chip reads.
    pub reads: usize,
    /// Markers (gun, trigger, …).
    pub markers: usize,
    /// Other messages that only this protocol has.
    pub signs: usize,
    /// Messages that other protocols have as well.
    pub hints: usize,
    /// Damaged pieces of this protocol: a wrong checksum, a missing field, a piece that was cut
    /// short.
    pub damaged: usize,
    /// The number of bytes in all of these, without blanks.
    pub explained: usize,
    /// The number of all bytes, without blanks.
    pub bytes: usize,
}

/// A protocol that may have sent the bytes.
#[derive(Clone)]
pub struct Candidate {
    /// Its registry line.
    pub spec: &'static Spec,
    /// The options under which the protocol reads the bytes. They are empty for the usual options.
    pub settings: Settings,
    /// How sure the result is.
    pub grade: Grade,
    /// The reasons for the grade.
    pub tally: Tally,
    /// The reads in order.
    pub reads: Vec<ChipRead>,
    /// The last clock that the decoder reported.
    pub clock: Option<Stamp>,
    /// What the protocol reports to people about the decoder (a battery, a refusal).
    pub told: Vec<String>,
}

/// The protocols that `bytes` look like, the best first. An empty list means none. Only the first
/// [`LIMIT`] bytes are examined.
pub fn recognise(bytes: &[u8]) -> Vec<Candidate> {
    let bytes = &bytes[..bytes.len().min(LIMIT)];
    let mut found: Vec<Candidate> = REGISTRY.iter().filter_map(|spec| of_protocol(spec, bytes)).collect();
    found.sort_by_key(|candidate| std::cmp::Reverse((candidate.grade, candidate.tally.explained)));
    let Some(best) = found.first().map(|best| (best.grade, best.tally.explained)) else { return found };
    // A protocol that reads only a small part of the bytes is no rival of one that reads them all.
    found.retain(|candidate| match candidate.grade {
        Grade::Certain => true,
        Grade::Likely => 4 * candidate.tally.explained >= best.1,
        Grade::Possible => best.0 < Grade::Certain && 2 * candidate.tally.explained >= best.1,
    });
    if found.len() > 1 {
        found.iter_mut().for_each(|candidate| candidate.grade = candidate.grade.min(Grade::Likely));
    }
    found
}

/// The dialect of a protocol that explains the most bytes, if at least one explains any.
fn of_protocol(spec: &'static Spec, bytes: &[u8]) -> Option<Candidate> {
    let more = spec.dialects.iter().map(|dialect| super::settings(dialect.set));
    let candidates = [Settings::new()].into_iter().chain(more).filter_map(|settings| read(spec, settings, bytes));
    // Of equal dialects the first one wins, which has the usual options.
    candidates.reduce(|best, other| {
        let rank = |candidate: &Candidate| (candidate.grade, candidate.tally.explained, candidate.tally.reads);
        if rank(&other) > rank(&best) { other } else { best }
    })
}

fn read(spec: &'static Spec, settings: Settings, bytes: &[u8]) -> Option<Candidate> {
    let recogniser = spec.recogniser.as_ref()?;
    let mut protocol = (spec.make)(&settings).ok()?;
    let mut out = Output::default();
    protocol.feed((recogniser.start)(bytes), &mut out);
    protocol.end(&mut out);
    let tally = Tally { bytes: visible(bytes), ..Tally::default() };
    let mut candidate =
        Candidate { spec, settings, grade: Grade::Possible, tally, reads: Vec::new(), clock: None, told: Vec::new() };
    let points = out.items.into_iter().map(|item| candidate.take(item, recogniser)).sum();
    candidate.grade = candidate.tally.grade(points)?;
    Some(candidate)
}

impl Candidate {
    /// Counts an item, and returns its points.
    fn take(&mut self, item: Item, recogniser: &Recogniser) -> usize {
        let framed = match item {
            Item::Frame(framed) => framed,
            Item::HangUp(why) => {
                self.told.push(why.to_owned());
                return 0;
            }
            Item::Reply(_) => return 0,
        };
        let strict = recogniser.is_checked;
        let sign = match framed.frame {
            Frame::Info(_) if strict && !framed.raw.is_empty() => Some(Sign::Name), // its checksum is right
            _ => (recogniser.sign)(&framed.raw),
        };
        let tally = &mut self.tally;
        let points = match (framed.frame, sign) {
            (Frame::Read(read), _) => {
                tally.reads += 1;
                self.reads.push(read);
                if strict { CERTAIN } else { 2 }
            }
            (Frame::Marker(_), _) => {
                tally.markers += 1;
                if strict { CERTAIN } else { 2 }
            }
            (Frame::Rejected(_), None) => return 0,
            (Frame::Rejected(_), Some(_)) => {
                tally.damaged += 1;
                0
            }
            (Frame::Info(info), sign) => {
                match info {
                    Info::Condition { text: Some(text), .. } => self.told.push(text),
                    Info::Greeting(Stamp::Uptime(_)) => {}
                    Info::Clock(stamp) | Info::Greeting(stamp) if sign.is_some() => self.clock = Some(stamp),
                    _ => {}
                }
                match sign {
                    None => return 0,
                    Some(Sign::Shared) => {
                        tally.hints += 1;
                        0
                    }
                    Some(sign) => {
                        tally.signs += 1;
                        if sign == Sign::Name { CERTAIN } else { 1 }
                    }
                }
            }
            (Frame::Cleared(_), _) => return 0,
        };
        tally.explained += visible(&framed.raw);
        points
    }
}

impl Tally {
    /// The grade. `None`: no part of the bytes looks like the protocol.
    fn grade(&self, points: usize) -> Option<Grade> {
        if points == 0 && self.damaged == 0 && self.hints == 0 {
            return None;
        }
        // A few words between many other bytes may be chance.
        let most = 2 * self.explained >= self.bytes;
        let much = 8 * self.explained >= self.bytes;
        Some(match points {
            CERTAIN.. if most => Grade::Certain,
            1.. if much => Grade::Likely,
            0 if !much => return None,
            _ => Grade::Possible,
        })
    }
}

fn visible(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).count()
}
