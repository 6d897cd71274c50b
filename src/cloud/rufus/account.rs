//! The calls that a timer makes by hand: devices, sessions, and stored passings with every field.
//! With the calls of the upload (`super`) these are all of the published API but the events.
//!
//! | call | request | may it be sent again after an unknown outcome? |
//! |---|---|---|
//! | bind a device | `POST /devices` | yes: the second answer names the same device |
//! | list devices, one device | `GET /devices`, `GET /devices/{id}` | yes |
//! | unbind a device | `DELETE /devices/{id}` | yes: it is gone, or it goes now |
//! | open a session | `POST /sessions` | no: there would be a second session, and the first one closed |
//! | close a session | `PATCH /sessions/close/{token}` | yes: it is closed already, or it closes now |
//! | list sessions, one, the active one | `GET /sessions/…` | yes |
//! | insert passings | `POST /passings` | only as the uplink does it: the same numbers, and a question first |
//! | stored passings by number, by time, continued | `GET /passings/…` | yes |
//!
//! [`Call::repeat`] says the same to the commands.

use std::collections::HashSet;
use std::hash::Hash;

use serde::Serialize;

use super::answer::{Reply, account as answer};
use super::outcome::{Bound, CallError, Device, FullPage, ListPage, Listed, Pulled, Scope, SessionInfo};
use super::{ANSWER_LIMIT, Client, PAGE_LIMIT, scope_query, wire_time};

/// Most items that a page of devices may have, by the documents.
const DEVICES_A_PAGE: usize = 5000;
/// Most pages of a list that are read. It ends a list of a server that ignores `page` and says that
/// more follow.
const PAGES_MAX: u32 = 200;
/// The type of a device that is bound. A public client sends the same.
const DEVICE_TYPE: &str = "CUSTOM_CHRONO";

/// A call that changes something in the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `POST /devices`
    Bind,
    /// `DELETE /devices/{device}`
    Unbind,
    /// `POST /sessions`
    Open,
    /// `PATCH /sessions/close/{token}`
    Close,
}

/// Whether a call may be sent again if nobody knows whether it took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// A second call has the effect of one.
    Harmless,
    /// A second call would do it a second time.
    DoesItTwice,
}

impl Call {
    /// Returns whether the call may be repeated after an unknown outcome.
    pub fn repeat(self) -> Repeat {
        match self {
            Self::Bind | Self::Unbind | Self::Close => Repeat::Harmless,
            Self::Open => Repeat::DoesItTwice,
        }
    }
}

/// What a device is bound with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Model, never empty.
    pub model: String,
    /// Serial number, never empty: the identity by which a device is recognised when it is bound
    /// again.
    pub serial_number: String,
    /// Name of the device.
    pub alias: Option<String>,
}

#[derive(Serialize)]
struct BindRequest<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    model: &'a str,
    serial_number: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'a str>,
    firmware: &'static str,
}

/// Where the continuing pull goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullFrom {
    /// Session of the last passing that was seen, and the number of that passing.
    pub after: Option<(Box<str>, u64)>,
    /// Only passings from this time on. UTC milliseconds since 1970.
    pub from: Option<i64>,
}

impl Client {
    /// `GET /devices?page&limit`, all pages: the devices of the company to which the key belongs.
    pub async fn devices(&self) -> Result<Listed<Device>, CallError> {
        let id = |device: &Device| device.id.clone();
        self.listed(&["devices"], Some(DEVICES_A_PAGE), answer::devices, id).await
    }

    /// `GET /sessions/device/{device}`, all pages. The documents name no parameter, so further
    /// pages are asked for only if the answer says that there are some.
    pub async fn sessions(&self, device: &str) -> Result<Listed<SessionInfo>, CallError> {
        let token = |info: &SessionInfo| info.session.token.clone();
        self.listed(&["sessions", "device", device], None, answer::sessions, token).await
    }

    /// `GET /sessions/{token}`, with all that the cloud tells. `None` when the cloud itself says
    /// that it has no such session.
    pub async fn session_info(&self, token: &str) -> Result<Option<SessionInfo>, CallError> {
        let read = |reply: &Reply<'_>| answer::one_session(reply, token);
        self.get(&["sessions", token], &[], ANSWER_LIMIT, read).await
    }

    /// `POST /devices`: binds a device to the company of the key.
    ///
    /// One version of the documents requires a type and another one does not know it. So a request
    /// with a type that is refused as malformed (then certainly nothing was bound) is sent once more
    /// without it.
    pub async fn bind(&self, binding: &Binding) -> Result<Bound, CallError> {
        let mut request = BindRequest {
            kind: Some(DEVICE_TYPE),
            model: &binding.model,
            serial_number: &binding.serial_number,
            alias: binding.alias.as_deref(),
            firmware: env!("CARGO_PKG_VERSION"),
        };
        match self.post("devices", &request, answer::bound).await {
            Err(CallError::BadRequest { .. }) => {
                request.kind = None;
                self.post("devices", &request, answer::bound).await
            }
            other => other,
        }
    }

    /// `DELETE /devices/{device}`: unbinds a device. The cloud deletes all of its sessions and
    /// passings. The key needs the right to unbind.
    pub async fn unbind(&self, device: &str) -> Result<(), CallError> {
        let request = self.http.delete(self.url(&["devices", device], &[]));
        self.call(request, ANSWER_LIMIT, answer::unbound).await
    }

    /// `PATCH /sessions/close/{token}`: closes a session for ever. It stays readable.
    pub async fn close_session(&self, token: &str) -> Result<(), CallError> {
        let request = self.http.patch(self.url(&["sessions", "close", token], &[]));
        self.call(request, ANSWER_LIMIT, answer::closed).await
    }

    /// Like [`Client::stored`], with every field of the passings.
    pub async fn stored_in_full(&self, scope: &Scope, page: u32) -> Result<FullPage, CallError> {
        let (path, query) = scope_query(scope, page);
        self.get(&path, &query, PAGE_LIMIT, answer::held_in_full).await
    }

    /// `GET /passings/device2/{device}?from&token_session&last`: the continuing pull. It returns
    /// passings after the given one, and goes to a newer session by itself.
    pub async fn pull(&self, device: &str, from: &PullFrom) -> Result<Pulled, CallError> {
        let mut query = Vec::new();
        query.extend(from.from.map(|time| ("from", wire_time(time))));
        if let Some((token, last)) = &from.after {
            query.extend([("token_session", token.to_string()), ("last", last.to_string())]);
        }
        self.get(&["passings", "device2", device], &query, PAGE_LIMIT, answer::pulled).await
    }

    /// Reads a list page by page. A page with nothing new ends it, because a server may ignore
    /// `page`. If the cloud said that there is more than it gave, the list is cut.
    async fn listed<T, K: Hash + Eq>(
        &self,
        path: &[&str],
        limit: Option<usize>,
        read: impl Fn(&Reply<'_>) -> Result<ListPage<T>, CallError>,
        key: impl Fn(&T) -> K,
    ) -> Result<Listed<T>, CallError> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        for number in 1..=PAGES_MAX {
            let mut query = Vec::new();
            if limit.is_some() || number > 1 {
                query.push(("page", number.to_string()));
            }
            query.extend(limit.map(|limit| ("limit", limit.to_string())));
            let page = self.get(path, &query, PAGE_LIMIT, &read).await?;
            let (had, got) = (all.len(), page.items.len());
            all.extend(page.items.into_iter().filter(|item| seen.insert(key(item))));
            let told = page.total.map(|total| total > all.len() as u64);
            if page.more == Some(false) || all.len() == had {
                // The cloud may say itself that this is not everything.
                return Ok(Listed { all, cut: told.unwrap_or(page.more == Some(true) && got > 0) });
            }
            // Without a word about more, only a page with nothing new is the end.
            if !page.more.or(told).unwrap_or(limit.is_some() || page.is_paged) {
                return Ok(Listed { all, cut: false });
            }
        }
        Ok(Listed { all, cut: true })
    }
}
