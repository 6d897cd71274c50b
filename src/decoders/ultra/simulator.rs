//! The simulated Ultra. It stores every read in its log, streams to its peers, and sends stored
//! reads again when it is asked for them.

use jiff::civil::{DateTime, date};

use crate::decoders::simulator::memory::{Memory, Placed};
use crate::decoders::simulator::nature::Nature;
use crate::decoders::simulator::outgoing::Outgoing;
use crate::decoders::simulator::talk::{Conversation, ForbiddenCommand, Pushing, Simulator, antenna, rows};

/// The longest unfinished question.
const HEARD_MAX: usize = 256;
/// The number of the simulated box.
const BOX: u32 = 7;

pub(crate) struct Ultra;

impl Nature for Ultra {
    fn chip(&self, number: u32) -> String {
        number.to_string()
    }
}

impl Simulator for Ultra {
    fn talk(&self) -> Box<dyn Conversation> {
        Box::<Peer>::default()
    }
}

#[derive(Default)]
struct Peer {
    heard: Vec<u8>,
    pushing: Pushing,
    seconds: u32,
}

impl Conversation for Peer {
    fn begin(&mut self, memory: &Memory, now: DateTime, out: &mut Outgoing) {
        self.pushing = Pushing::from(memory.len());
        out.frame(&[format!("Connected,{}\n", seconds(now)).as_bytes()]);
    }

    fn hear(
        &mut self,
        bytes: &[u8],
        memory: &Memory,
        now: DateTime,
        out: &mut Outgoing,
    ) -> Result<(), ForbiddenCommand> {
        self.heard.extend_from_slice(bytes);
        let mut result = Ok(());
        while let Some(&first) = self.heard.first() {
            let taken = match first {
                b'?' => {
                    out.frame(&[b"S=11\n"]);
                    1
                }
                b'r' if memory.tells_no_time => 1,
                b'r' => {
                    let (h, m, s) = (now.hour(), now.minute(), now.second());
                    let clock = format!("{h}:{m:02}:{s:02} {}-{}-{} (0)\n", now.day(), now.month(), now.year());
                    out.frame(&[clock.as_bytes()]);
                    1
                }
                b'6' => match range(&self.heard) {
                    Some((from, to, taken)) => {
                        let entries = memory.range(memory.file(), from, to);
                        rows(memory, entries, b"", |placed| row(placed, true), out);
                        taken
                    }
                    None if self.heard.len() > HEARD_MAX => self.heard.len(),
                    None => break,
                },
                b'\r' | b'\n' | b'9' => 1,
                other => {
                    result = Err(ForbiddenCommand(char::from(other).to_string()));
                    1
                }
            };
            self.heard.drain(..taken);
        }
        result
    }

    fn push(&mut self, memory: &Memory, out: &mut Outgoing) -> bool {
        self.pushing.push(memory, b"", |placed| row(placed, false), out)
    }

    fn second(&mut self, _now: DateTime, out: &mut Outgoing) {
        self.seconds += 1;
        if self.seconds.is_multiple_of(2) {
            out.frame(&[b"V=25.3000\n"]);
        }
    }
}

/// Reads the question `6`, two zeros of either kind, first, CR, last, CR. Returns the two numbers
/// and the length of the question in bytes.
fn range(heard: &[u8]) -> Option<(u64, u64, usize)> {
    let body = heard.get(3..)?;
    let first = body.iter().position(|byte| *byte == b'\r')?;
    let last = first + 1 + body[first + 1..].iter().position(|byte| *byte == b'\r')?;
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    Some((number(&body[..first])?, number(&body[first + 1..last])?, 3 + last + 1))
}

fn seconds(at: DateTime) -> i64 {
    at.duration_since(date(1980, 1, 1).at(0, 0, 0, 0)).as_secs()
}

fn row(placed: &Placed, rewound: bool) -> Vec<u8> {
    let Placed { chip, at, number, .. } = placed;
    let (seconds, ms, antenna, rewound) = (seconds(*at), at.millisecond(), antenna(*number), u8::from(rewound));
    let rssi = 50 + number % 30;
    format!("0,{chip},{seconds},{ms},{antenna},-{rssi},{rewound},1,{BOX},0000000000000000,0,{number}").into_bytes()
}
