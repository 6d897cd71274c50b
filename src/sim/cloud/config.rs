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

/// What a key may do. The documents call the right to unbind a flag, which a key may have beside
/// the right to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every GET.
    Read,
    /// Every POST and PATCH.
    Write,
    /// Every GET, POST and PATCH.
    ReadWrite,
    /// Every POST, PATCH and DELETE.
    WriteUnbind,
    /// Every call.
    ReadWriteUnbind,
}

/// The right that a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Read,
    Write,
    Unbind,
}

impl Access {
    pub(super) fn allows(self, need: Need) -> bool {
        match need {
            Need::Read => matches!(self, Self::Read | Self::ReadWrite | Self::ReadWriteUnbind),
            Need::Write => self != Self::Read,
            Need::Unbind => matches!(self, Self::WriteUnbind | Self::ReadWriteUnbind),
        }
    }
}

/// A company beside the first one, with keys and devices of its own. Its keys know no device of
/// another company, and no other key knows its devices.
#[derive(Clone, Debug, Default)]
pub struct OtherCompany {
    /// Keys and what they may do.
    pub keys: Vec<(String, Access)>,
    /// Devices: id and alias.
    pub devices: Vec<(String, String)>,
}

/// How the cloud answers the bind of a serial number that is bound already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rebind {
    /// 409 with the id of the device.
    #[default]
    Conflict,
    /// 200 with the id of the device, in the words of a success.
    Success,
}

/// Whether a bind has a `type`. One version of the documents requires it, another one has no such
/// field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindType {
    /// With or without.
    #[default]
    Optional,
    /// 400 without it.
    Required,
    /// 400 with it.
    Refused,
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
    /// More companies. By default there are none.
    pub others: Vec<OtherCompany>,
    /// How the cloud answers the bind of a bound serial number.
    pub rebind: Rebind,
    /// Whether a bind has a `type`.
    pub bind_type: BindType,
    /// How the cloud answers a key that lacks the right.
    pub forbidden: Forbidden,
    /// How the cloud says that no session is active.
    pub no_session: NoSession,
    /// How the cloud says that a device never had a session, in the list of its sessions.
    pub no_sessions: NoSession,
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

    /// The company of a key (0 is the first one), and what the key may do.
    pub(super) fn access(&self, key: &str) -> Option<(usize, Access)> {
        let others = self.others.iter().map(|company| &company.keys);
        let mut companies = std::iter::once(&self.keys).chain(others).enumerate();
        companies.find_map(|(company, keys)| {
            let known = keys.iter().find(|(known, _)| known == key);
            known.map(|(_, access)| (company, *access))
        })
    }

    /// The devices of every company, the first company first.
    pub(super) fn companies(&self) -> impl Iterator<Item = (usize, &[(String, String)])> {
        let others = self.others.iter().map(|company| &company.devices[..]);
        std::iter::once(&self.devices[..]).chain(others).enumerate()
    }

    /// A device that was unbound is not added again by the next change of the configuration.
    pub(super) fn forget_device(&mut self, id: &str) {
        self.devices.retain(|(device, _)| device != id);
        self.others.iter_mut().for_each(|company| company.devices.retain(|(device, _)| device != id));
    }
}

impl Default for SimCloudConfig {
    fn default() -> Self {
        Self {
            generation: Generation::default(),
            dedup: Dedup::Number,
            keys: vec![(KEY.to_owned(), Access::ReadWrite)],
            devices: vec![(DEVICE.to_owned(), "finish".to_owned())],
            others: Vec::new(),
            rebind: Rebind::default(),
            bind_type: BindType::default(),
            forbidden: Forbidden::default(),
            no_session: NoSession::default(),
            no_sessions: NoSession::Empty,
            closed: Closed::default(),
            one: OneForm::default(),
            max_items: 5000,
            page_size: 5000,
            latency: Duration::ZERO,
            habits: Habits::default(),
        }
    }
}
