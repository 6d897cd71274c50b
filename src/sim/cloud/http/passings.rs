//! `GET /passings/…`: passings by number, by device and time, and the continuing pull of a device.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::response::Response;
use jiff::Timestamp;

use crate::sim::cloud::answers::{self, About, PassingItem, Reply};
use crate::sim::cloud::call::{Call, device_of_own, malformed, no_device, no_session_at_all, own_device, page};
use crate::sim::cloud::faults::On;
use crate::sim::cloud::pages::{Shown, shown};
use crate::sim::cloud::requests::{ContinueFrom, NumberRange, TimeRange};
use crate::sim::cloud::state::State;
use crate::sim::cloud::store::{ListPage, Row, Rows, StoredPassing};
use crate::sim::cloud::{habits::Habits, store::Store};

pub(super) async fn by_number(
    call: Call,
    Path(token): Path<String>,
    query: Result<Query<NumberRange>, QueryRejection>,
) -> Response {
    let api = call.api;
    call.answer(|state, company| {
        let Ok(Query(range)) = query else { return malformed(state, api, "query") };
        let Some(page) = page(range.page, state.config.page_size) else {
            return malformed(state, api, "page 0");
        };
        let Some(device) = device_of_own(state, company, &token) else { return no_session_at_all(token) };
        let State { config, store, chooser, .. } = state;
        let habits = &config.habits;
        let (first, last) = (range.first.unwrap_or(0), range.last.unwrap_or(u64::MAX));
        if habits.last_required && range.last.is_none() {
            return Reply::refusal(400, "Parameter last is missing");
        }
        if habits.range_limit.is_some_and(|limit| last.saturating_sub(first) >= limit) {
            return Reply::refusal(400, "The range is too long");
        }
        let first = first.saturating_add(u64::from(habits.first_exclusive && range.first.is_some()));
        let exclusive = habits.last_exclusive && range.last.is_some();
        let at = habits.horizon(chooser, On::HeldByNumber);
        let rows = last.checked_sub(u64::from(exclusive)).map(|last| store.by_number(&token, first..=last, at));
        let rows = rows.unwrap_or_default();
        if rows.len() == 0 && habits.none_is_404 {
            return none_found(About::Session(token));
        }
        let (held, shown) = held(habits, store, &rows, page);
        let list = held.iter().map(|(token, stored)| PassingItem::new(config, Some((&device, token)), stored));
        answers::listed(config, Shown { list: list.collect(), ..shown })
    })
    .await
}

pub(super) async fn by_time(
    call: Call,
    Path(device): Path<String>,
    query: Result<Query<TimeRange>, QueryRejection>,
) -> Response {
    let api = call.api;
    call.answer(|state, company| {
        let Ok(Query(range)) = query else { return malformed(state, api, "query") };
        let Some(page) = page(range.page, state.config.page_size) else {
            return malformed(state, api, "page 0");
        };
        if own_device(state, company, &device).is_none() {
            return no_device(device);
        }
        let (from, to) = times(range.from, range.to);
        let State { config, store, chooser, .. } = state;
        let habits = &config.habits;
        if too_long(habits, from, to) {
            return Reply::refusal(400, "The time is too long");
        }
        let at = habits.horizon(chooser, On::HeldByTime);
        let rows = store.by_time(&device, from..=to, at);
        if rows.len() == 0 && habits.none_is_404 {
            return none_found(About::Device(device));
        }
        let (held, shown) = held(habits, store, &rows, page);
        let list = held.iter().map(|(token, stored)| PassingItem::new(config, Some((&device, token)), stored));
        answers::listed(config, Shown { list: list.collect(), ..shown })
    })
    .await
}

pub(super) async fn continuing(
    call: Call,
    Path(device): Path<String>,
    query: Result<Query<ContinueFrom>, QueryRejection>,
) -> Response {
    let api = call.api;
    call.answer(|state, company| {
        let Ok(Query(asked)) = query else { return malformed(state, api, "query") };
        let Some(page) = page(asked.page, state.config.page_size) else {
            return malformed(state, api, "page 0");
        };
        if asked.last.is_some() && asked.token_session.is_none() {
            return malformed(state, api, "last without token_session");
        }
        if own_device(state, company, &device).is_none() {
            return no_device(device);
        }
        let (from, to) = times(asked.from, asked.to);
        let State { config, store, chooser, .. } = state;
        let habits = &config.habits;
        if too_long(habits, from, to) {
            return Reply::refusal(400, "The time is too long");
        }
        let at = habits.horizon(chooser, On::Continuing);
        let after = asked.token_session.as_deref().map(|token| (token, asked.last));
        let Some(found) = store.continued(&device, after, &(from..=to), at) else {
            return match asked.token_session {
                Some(token) => no_session_at_all(token),
                None => answers::nothing_to_continue(config, &device),
            };
        };
        if found.rows.len() == 0 && habits.none_is_404 {
            return none_found(About::Device(device));
        }
        let (held, shown) = held(habits, store, &found.rows, page);
        let list = held.iter().map(|(_, stored)| PassingItem::new(config, None, stored)).collect();
        answers::continued(config, &device, &found, Shown { list, ..shown })
    })
    .await
}

/// Returns the passings on the page, each with the token of its session, and the description of the
/// page.
fn held<T>(
    habits: &Habits,
    store: &Store,
    rows: &Rows<'_>,
    page: ListPage,
) -> (Vec<(Arc<str>, StoredPassing)>, Shown<T>) {
    let key = |(place, row): &(u32, Row)| u64::from(*place) << 32 ^ row.key();
    let shown = shown(habits, rows.len(), page, key, |range| rows.of(range));
    let full = |(place, row): &(u32, Row)| (store.token_at(*place), store.full(row));
    (shown.list.iter().map(full).collect(), shown.emptied())
}

fn none_found(about: About) -> Reply {
    Reply::Refusal { status: 404, description: "Passings not found", about }
}

/// The range of times, in milliseconds since 1970.
fn times(from: Option<Timestamp>, to: Option<Timestamp>) -> (i64, i64) {
    (from.map_or(i64::MIN, Timestamp::as_millisecond), to.map_or(i64::MAX, Timestamp::as_millisecond))
}

/// The habits allow no question for so long a time.
fn too_long(habits: &Habits, from: i64, to: i64) -> bool {
    let span = u64::try_from(i128::from(to) - i128::from(from)).unwrap_or(0);
    habits.span_limit.is_some_and(|limit| Duration::from_millis(span) > limit)
}
