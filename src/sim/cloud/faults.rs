//! What goes wrong, when, and how. A fault is both what happens to the request *and* what the
//! client sees.
//!
//! The two are independent on purpose. "Applied, then the connection was cut" and "cut before it
//! was applied" look the same to a client, and the client must handle both in the same way.

use std::time::Duration;

use super::words::Words;

/// Class of requests that a fault applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// `POST /passings`
    Insert,
    /// `GET /sessions/device/{device}/active`
    Active,
    /// `GET /passings/…`: what the cloud holds, by number, by time, or continuing.
    Held,
    /// `GET /passings/session/{token}`
    HeldByNumber,
    /// `GET /passings/device/{device}`
    HeldByTime,
    /// `GET /passings/device2/{device}`
    Continuing,
    /// `POST /sessions`
    Open,
    /// `PATCH /sessions/close/{token}`
    Close,
    /// `GET /sessions/…`, except the active session.
    Session,
    /// `/devices…`
    Device,
    /// Any GET about a session, or about the passings in it.
    Question,
    /// Any request.
    Any,
}

impl On {
    /// A request of the class `on` belongs to this class.
    pub(super) fn covers(self, on: Self) -> bool {
        match self {
            Self::Any => true,
            Self::Held => matches!(on, Self::Held | Self::HeldByNumber | Self::HeldByTime | Self::Continuing),
            Self::Question => matches!(on, Self::Active | Self::Session) || Self::Held.covers(on),
            _ => self == on,
        }
    }
}

/// How much of the request takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Nothing, not even the check of the key.
    Nothing,
    /// The whole request.
    All,
    /// The first passings of an insert, as many as this. All of any other request.
    First(usize),
    /// The first half of an insert, rounded down. All of any other request.
    Half,
    /// All of an insert, this long after it was answered or cut. Nothing of any other request.
    Later(Duration),
}

impl Apply {
    pub(super) fn of(self, count: usize) -> usize {
        match self {
            Self::Nothing | Self::Later(_) => 0,
            Self::All => count,
            Self::First(n) => n.min(count),
            Self::Half => count / 2,
        }
    }
}

/// What the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer that fits what took effect.
    Usual,
    /// An error of this status in the generation's form (500 of the OpenAPI generation:
    /// `{"body":null}`).
    Status(u16),
    /// This status with `Retry-After: <value>`.
    RetryAfter(u16, String),
    /// Any text.
    Text {
        /// Status.
        status: u16,
        /// `Content-Type`.
        content_type: &'static str,
        /// Body.
        body: String,
    },
    /// 302 to this location.
    Redirect(String),
    /// The usual answer to an insert without its counts.
    NoCounts,
    /// An answer in undocumented words.
    Odd(Words),
    /// The usual answer to an insert, with this `inserted_count` and no duplicates, whatever took
    /// effect.
    Counts(usize),
    /// No answer: the connection stays open until the client gives up.
    Never,
    /// No answer: the connection is reset.
    Cut,
    /// The head and half of the usual answer, then the connection is closed.
    CutInside,
}

impl Answer {
    /// 200 and a login page: a captive portal.
    pub fn html() -> Self {
        let body = "<!DOCTYPE html><html><head><title>Guest Wi-Fi</title></head><body>Log in to go on</body></html>";
        Self::Text { status: 200, content_type: "text/html; charset=utf-8", body: body.to_owned() }
    }

    /// This status without a body.
    pub fn empty(status: u16) -> Self {
        Self::Text { status, content_type: "application/json", body: String::new() }
    }

    /// 200 and half of a JSON object, labelled as JSON.
    pub fn not_json() -> Self {
        Self::Text { status: 200, content_type: "application/json", body: "{\"description\": \"Succ".to_owned() }
    }

    /// This status with the gateway's `{"message": …}`.
    pub fn message(status: u16, text: &str) -> Self {
        let body = serde_json::json!({ "message": text }).to_string();
        Self::Text { status, content_type: "application/json", body }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudFault {
    /// How much of the request takes effect.
    pub apply: Apply,
    /// The session of the insert is closed afterwards, before the client sees anything.
    pub closes: bool,
    /// Time before the request takes effect, in addition to the latency.
    pub delay: Duration,
    /// What the client sees.
    pub answer: Answer,
}

impl CloudFault {
    /// Nothing takes effect, as if the request did not arrive.
    pub fn before(answer: Answer) -> Self {
        Self::partly(Apply::Nothing, answer)
    }

    /// Everything takes effect, and the client sees this answer.
    pub fn after(answer: Answer) -> Self {
        Self::partly(Apply::All, answer)
    }

    /// A part takes effect, and the client sees this answer.
    pub fn partly(apply: Apply, answer: Answer) -> Self {
        Self { apply, closes: false, delay: Duration::ZERO, answer }
    }

    /// Everything takes effect, but late.
    pub fn slow(delay: Duration) -> Self {
        Self { delay, ..Self::after(Answer::Usual) }
    }

    /// Only the first `n` passings are stored, and the counts say so.
    pub fn short(n: usize) -> Self {
        Self::partly(Apply::First(n), Answer::Usual)
    }

    /// The same fault, and the session of the insert is closed afterwards, before the client sees
    /// anything.
    #[must_use]
    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}

/// Random faults that a seed makes repeatable.
#[derive(Clone, Debug)]
pub struct Chance {
    /// Class of requests.
    pub on: On,
    /// Seed of the choice. The same requests in the same order get the same faults.
    pub seed: u64,
    /// Share of the requests that get a fault, 0 to 1.
    pub odds: f64,
    /// The faults to choose from, all equally likely.
    pub faults: Vec<CloudFault>,
}

struct Scripted {
    on: On,
    /// Requests left. `None`: until the faults are cleared.
    left: Option<u32>,
    fault: CloudFault,
}

/// Faults that wait for their requests. Their number is bounded by what the test adds.
#[derive(Default)]
pub(super) struct Script {
    queue: Vec<Scripted>,
    chances: Vec<(Chance, fastrand::Rng)>,
}

impl Script {
    pub(super) fn push(&mut self, on: On, times: Option<u32>, fault: CloudFault) {
        if times != Some(0) {
            self.queue.push(Scripted { on, left: times, fault });
        }
    }

    pub(super) fn by_chance(&mut self, chance: Chance) {
        let rng = fastrand::Rng::with_seed(chance.seed);
        self.chances.push((chance, rng));
    }

    /// Returns the fault for a request of this class.
    pub(super) fn next(&mut self, on: On) -> Option<CloudFault> {
        if let Some(at) = self.queue.iter().position(|scripted| scripted.on.covers(on)) {
            let scripted = &mut self.queue[at];
            let fault = scripted.fault.clone();
            if let Some(left) = &mut scripted.left {
                *left -= 1;
                if *left == 0 {
                    self.queue.remove(at);
                }
            }
            return Some(fault);
        }
        for (chance, rng) in &mut self.chances {
            if chance.on.covers(on) && rng.f64() < chance.odds {
                return rng.choice(&chance.faults).cloned();
            }
        }
        None
    }
}
