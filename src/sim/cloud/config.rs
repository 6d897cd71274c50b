//! The configuration of a simulated cloud.

use std::time::Duration;

use super::habits::Habits;
use super::store::Dedup;

/// How the cloud answers a key that lacks the right.
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

/// Key that [`SimCloudConfig::default`] accepts, with READ_WRITE access. It is no secret, because
/// it is valid only for this fake.
pub const KEY: &str = "ror-0123456789abcdef0123";

/// Device that [`SimCloudConfig::default`] knows.
pub const DEVICE: &str = "65A10000000000000000000000000000000000000000000000000000000A115B";

/// Most passings that a well-behaved client puts into one POST. More is a violation.
pub(super) const CLIENT_BATCH_MAX: usize = 500;

/// Form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// 2023: bare objects.
    #[default]
    Legacy,
    /// 2026: `{"body": …}`, with `duplicate_count` and `pagination`.
    OpenApi,
    /// Like [`Generation::OpenApi`], but the body is JSON *text* beside a `statusCode`. A function
    /// behind a gateway answers like this when its integration is set up wrongly.
    Gateway,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every GET.
    Read,
    /// Every POST and PATCH.
    Write,
    /// Every GET, POST and PATCH.
    ReadWrite,
}

/// How the cloud says that no session is active.
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
    /// 200 with the last closed session, marked `"active": false`, or with an empty `result` if
    /// there is none.
    Inactive,
}

/// How the cloud answers an insert into a closed or unknown session.
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

/// Form of `result` in the answer about one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OneForm {
    /// An array with one element, as documented in 2023.
    #[default]
    Array,
    /// The object without an array.
    Object,
}

/// The behaviour of the fake. Every field can be changed while it runs
/// ([`SimCloud::configure`](super::SimCloud::configure)).
#[derive(Clone, Debug)]
pub struct SimCloudConfig {
    /// Form of the answers.
    pub generation: Generation,
    /// Which passings count as duplicates and are not stored.
    pub dedup: Dedup,
    /// Keys and what they may do. Any other key is refused.
    pub keys: Vec<(String, Access)>,
    /// Devices: id and alias.
    pub devices: Vec<(String, String)>,
    /// How the cloud answers a key that lacks the right.
    pub forbidden: Forbidden,
    /// How the cloud says that no session is active.
    pub no_session: NoSession,
    /// How the cloud answers an insert into a closed session.
    pub closed: Closed,
    /// Form of the answer about one session.
    pub one: OneForm,
    /// Most passings in one insert. More is answered with 413.
    pub max_items: usize,
    /// Passings on a page of a reading call.
    pub page_size: usize,
    /// Time before every answer.
    pub latency: Duration,
    /// Additional habits of the cloud. By default there are none.
    pub habits: Habits,
}

impl SimCloudConfig {
    /// Which passings count as duplicates. A habit may replace the rule.
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
