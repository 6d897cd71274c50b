//! What a simulated cloud is told to be.

use std::time::Duration;

use super::habits::Habits;
use super::store::Dedup;

/// How a key that may not is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forbidden {
    /// 403 with `{"message":"Forbidden"}`, the gateway's form.
    #[default]
    Message,
    /// 403 with a `description` in the generation's form.
    Description,
    /// 401 with `{"message":"Unauthorized"}`.
    Unauthorized,
}

/// Key that [`SimCloudConfig::default`] accepts, READ_WRITE. Not a secret: it opens nothing but this fake.
pub const KEY: &str = "ror-0123456789abcdef0123";

/// Device that [`SimCloudConfig::default`] knows.
pub const DEVICE: &str = "65A10000000000000000000000000000000000000000000000000000000A115B";

/// Most passings a well-behaved client puts into one POST (the fact sheet's cap); more is a violation.
pub const CLIENT_BATCH_MAX: usize = 500;

/// Form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// 2023: bare objects.
    #[default]
    Legacy,
    /// 2026: `{"body": …}`, with `duplicate_count` and `pagination`.
    OpenApi,
    /// As [`Generation::OpenApi`], with the body as JSON *text* beside a `statusCode`, as a function behind a gateway
    /// answers when its integration is set up wrongly.
    Gateway,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every GET.
    Read,
    /// Every POST and PATCH.
    Write,
    /// Both.
    ReadWrite,
}

/// How "no active session" is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoSession {
    /// 404 "Session not found".
    #[default]
    NotFound,
    /// 200 with an empty `result`.
    Empty,
    /// 200 with `"result": null`.
    Null,
    /// 200 without `result`.
    Absent,
    /// 200 with "Sessions not found" and no `result`.
    Text,
    /// 200 with the last closed session, marked `"active": false`; an empty `result` where there is none.
    Inactive,
}

/// How an insert into a closed or unknown session is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closed {
    /// 404 "Session not found or closed".
    #[default]
    NotFound,
    /// 400 with the same text.
    BadRequest,
    /// 200 with the same text and no counts.
    OkText,
}

/// Shape of `result` where one session is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OneForm {
    /// An array of one, as documented in 2023.
    #[default]
    Array,
    /// The object itself.
    Object,
}

/// How the fake behaves. Every field can be changed while it runs ([`SimCloud::configure`](super::SimCloud::configure)).
#[derive(Clone, Debug)]
pub struct SimCloudConfig {
    /// Form of the answers.
    pub generation: Generation,
    /// What counts as a duplicate, which is then not stored.
    pub dedup: Dedup,
    /// Keys and what they may do; any other key is refused.
    pub keys: Vec<(String, Access)>,
    /// Devices: id and alias.
    pub devices: Vec<(String, String)>,
    /// How a key that may not is told.
    pub forbidden: Forbidden,
    /// How "no active session" is told.
    pub no_session: NoSession,
    /// How an insert into a closed session is told.
    pub closed: Closed,
    /// Shape of one session.
    pub one: OneForm,
    /// Most passings in one insert; more is answered 413.
    pub max_items: usize,
    /// Passings on a page of a reading call.
    pub page_size: usize,
    /// Time before every answer.
    pub latency: Duration,
    /// What it does beside; none.
    pub habits: Habits,
}

impl SimCloudConfig {
    /// What counts as a duplicate; a habit may have another rule.
    pub(super) fn dedup(&self) -> Dedup {
        self.habits.dedup.unwrap_or(self.dedup)
    }
}

impl Default for SimCloudConfig {
    fn default() -> Self {
        Self {
            generation: Generation::default(),
            dedup: Dedup::Number,
            keys: vec![(KEY.to_owned(), Access::ReadWrite)],
            devices: vec![(DEVICE.to_owned(), "finish".to_owned())],
            forbidden: Forbidden::default(),
            no_session: NoSession::default(),
            closed: Closed::default(),
            one: OneForm::default(),
            max_items: 5000,
            page_size: 5000,
            latency: Duration::ZERO,
            habits: Habits::default(),
        }
    }
}
