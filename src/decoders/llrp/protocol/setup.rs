//! The messages that we send to a reader on our own: a question, and an inventory of ours if the
//! configuration asks for it.

use std::time::Duration;

use super::wire::{Parameters, be, kind, message, tlv};
use crate::decoders::{Condition, Frame, Info, Output};

/// Our inventory. The protocol changes no other.
const OURS: u32 = 0x5042_5249;
/// How often the reader must show that it is alive.
const LIFE_SIGN: Duration = Duration::from_secs(10);
/// A refused inventory is tried again after this time, because a person may have made room for it.
const AGAIN: Duration = Duration::from_secs(60);

const SET_CONFIG: u16 = 3;
const CLOSE: u16 = 14;
const ADD: u16 = 20;
const DELETE: u16 = 21;
const START: u16 = 22;
const ENABLE: u16 = 24;
const GET_ROSPECS: u16 = 26;
/// The steps in their order. The type of each answer is ten above the type of its step.
const STEPS: [u16; 5] = [SET_CONFIG, DELETE, ADD, ENABLE, START];

pub(super) struct Setup {
    start: bool,
    accepted: bool,
    /// The step whose answer has not arrived yet.
    step: Option<usize>,
    refused: bool,
    idle: Option<bool>,
    asked: Duration,
    tried: Duration,
    id: u32,
}

impl Setup {
    pub(super) fn new(start: bool) -> Self {
        let (asked, tried) = (Duration::ZERO, Duration::ZERO);
        Self { start, accepted: false, step: None, refused: false, idle: None, asked, tried, id: 0 }
    }

    fn say(&mut self, kind: u16, body: &[u8], out: &mut Output) {
        self.id = self.id.wrapping_add(1);
        out.reply(message(kind, self.id, body));
    }

    /// The reader accepted us as its client. Sends the first messages, once.
    pub(super) fn accepted(&mut self, out: &mut Output) {
        if std::mem::replace(&mut self.accepted, true) {
            return;
        }
        self.say(kind::ENABLE_REPORTS, &[], out);
        if self.start { self.step(0, out) } else { self.say(GET_ROSPECS, &[], out) }
    }

    pub(super) fn tick(&mut self, up: Duration, out: &mut Output) {
        if !self.accepted {
            return;
        }
        if up.saturating_sub(self.asked) >= LIFE_SIGN {
            self.asked = up;
            self.say(GET_ROSPECS, &[], out);
        }
        if up.saturating_sub(self.tried) >= AGAIN {
            self.tried = up;
            // This also covers an answer that did not arrive, and a person at the reader who
            // stopped our inventory.
            if self.start && (self.refused || self.step.is_some() || self.idle == Some(true)) {
                self.step(0, out);
            }
        }
    }

    fn step(&mut self, step: usize, out: &mut Output) {
        self.step = Some(step);
        let kind = STEPS[step];
        match kind {
            SET_CONFIG => {
                let period = u32::try_from(LIFE_SIGN.as_millis()).unwrap_or(u32::MAX).to_be_bytes();
                let keepalive = tlv(220, &[&[1], &period]);
                self.say(kind, &[&[0][..], &keepalive].concat(), out); // 0: nothing is reset to factory settings
            }
            ADD => self.say(kind, &inventory(), out),
            _ => self.say(kind, &OURS.to_be_bytes(), out),
        }
    }

    /// Takes an answer to a step, or an ERROR_MESSAGE.
    pub(super) fn answer(&mut self, kind: u16, body: &[u8], out: &mut Output) {
        let Some(step) = self.step else { return };
        if kind != kind::ERROR && kind != STEPS[step] + 10 {
            return;
        }
        // DELETE fails as expected if none of our inventories was there, and a reader without a
        // keepalive can still read.
        let may_fail = matches!(STEPS[step], DELETE | SET_CONFIG);
        if let Some(text) = refusal(body).filter(|_| !may_fail) {
            self.step = None;
            self.refused = true;
            let names = ["SET_READER_CONFIG", "DELETE_ROSPEC", "ADD_ROSPEC", "ENABLE_ROSPEC", "START_ROSPEC"];
            let text = format!(
                "the reader refuses our inventory ({}: {text}) and may not be reading; stop the inventory that other \
                 software left in it. It is tried again every minute",
                names[step]
            );
            condition(Condition::LlrpStartRefused, Some(text), out);
        } else if step + 1 < STEPS.len() {
            self.step(step + 1, out);
        } else {
            self.step = None;
            self.refused = false;
            condition(Condition::LlrpStartRefused, None, out);
        }
    }

    /// Reads GET_ROSPECS_RESPONSE: whether at least one inventory is not disabled.
    pub(super) fn inventories(&mut self, body: &[u8], out: &mut Output) {
        let states = Parameters(body).flatten().filter(|parameter| parameter.kind == 177);
        let idle = !states.into_iter().any(|spec| spec.body.get(5).is_some_and(|state| *state != 0));
        if refusal(body).is_none() && self.idle.replace(idle) != Some(idle) {
            let text = if self.start {
                "the reader has no inventory that is enabled, so it reads nothing; ours is started again within a minute"
            } else {
                "the reader has no inventory that is enabled, so it reads nothing. Let its own software start one by \
                 itself, or set the option `start = \"true\"`: then passbridge starts one of its own"
            };
            condition(Condition::LlrpNoInventory, idle.then(|| text.to_owned()), out);
        }
    }

    /// Leaves the reader without our inventory, and free for the next client.
    pub(super) fn leaving(&mut self, out: &mut Output) {
        if std::mem::replace(&mut self.accepted, false) {
            if self.start {
                self.say(DELETE, &OURS.to_be_bytes(), out);
            }
            self.say(CLOSE, &[], out);
        }
    }
}

/// The code and text of an LLRPStatus that is not success.
fn refusal(body: &[u8]) -> Option<String> {
    let status = Parameters(body).flatten().find(|parameter| parameter.kind == 287)?;
    let code = be(status.body.get(..2)?)?;
    let text = String::from_utf8_lossy(status.body.get(4..).unwrap_or_default());
    let text: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    (code != 0).then(|| format!("status {code} {text}").trim_end().to_owned())
}

/// Our ROSpec: all antennas, EPC Gen 2, from START_ROSPEC until it is deleted, with a report for
/// each tag when it is seen.
fn inventory() -> Vec<u8> {
    const TAG: u16 = 0x1000 | 0x0400 | 0x0200 | 0x0080; // antenna, RSSI, first seen, count
    let boundary = tlv(178, &[&tlv(179, &[&[0]]), &tlv(182, &[&[0, 0, 0, 0, 0]])]);
    let inventory = tlv(186, &[&[0, 1, 1]]); // its id is 1; protocol 1: EPC Gen 2
    let antennas = tlv(183, &[&[0, 1, 0, 0], &tlv(184, &[&[0, 0, 0, 0, 0]]), &inventory]);
    let report = tlv(237, &[&[2, 0, 1], &tlv(238, &[&TAG.to_be_bytes()])]); // after each tag, and at the end
    tlv(177, &[&OURS.to_be_bytes(), &[0, 0], &boundary, &antennas, &report])
}

pub(super) fn condition(code: Condition, text: Option<String>, out: &mut Output) {
    out.frame(Frame::Info(Info::Condition { code, text }), b"");
}
