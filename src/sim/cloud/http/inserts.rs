//! `POST /passings`: what is checked, stored and noted, and that only one is in flight at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::response::Response;
use tokio::sync::watch;

use crate::sim::cloud::answers::{self, About, Reply};
use crate::sim::cloud::call::{Call, device_of_own, malformed};
use crate::sim::cloud::config::CLIENT_BATCH_MAX;
use crate::sim::cloud::faults::{Answer, Apply};
use crate::sim::cloud::requests::{self, Insert};
use crate::sim::cloud::state::{End, Flight, Inner, MAX_POSTS, Post, State};
use crate::sim::cloud::store::{Arriving, Counts, Refused, Rule};
use crate::sim::cloud::writer::Turn;

/// How long an insert waits for the end of another insert of its device, before it counts as a
/// second one in flight. When a client gives up and sends again at once, the new request can arrive
/// before the fake sees that the old connection is closed.
const OVERLAP: Duration = Duration::from_secs(1);

pub(in crate::sim::cloud) async fn insert(call: Call, body: Bytes) -> Response {
    let at = Instant::now();
    let request = match requests::insert(&body) {
        Ok(request) => request,
        Err(error) => {
            let fault = call.meet().await;
            let reply = {
                let mut state = call.inner.lock();
                match call.admit(&mut state) {
                    Err(reply) => reply,
                    Ok(_) => malformed(&mut state, call.api, &error),
                }
            };
            return call.finish(reply, &fault.answer).await;
        }
    };
    let flight = take_off(&call.inner, &request.token_session.0).await;
    let fault = call.meet().await;
    let reply = {
        let mut guard = call.inner.lock();
        let state = &mut *guard;
        let token = &*request.token_session.0;
        let reply = if fault.apply == Apply::Nothing {
            not_applied(&request)
        } else {
            match (call.admit(state), fault.apply) {
                (Err(reply), _) => reply,
                // The session of another company is as unknown as one that does not exist.
                (Ok(company), _) if device_of_own(state, company, token).is_none() => {
                    answers::closed(&state.config, token)
                }
                (Ok(_), Apply::Later(wait)) => {
                    tokio::spawn(later(Arc::clone(&call.inner), body.clone(), wait));
                    not_applied(&request)
                }
                (Ok(_), apply) => apply_insert(state, &request, apply, false),
            }
        };
        if fault.closes {
            state.store.close(&request.token_session.0);
        }
        note_post(state, at, &request, &reply, &fault.answer);
        reply
    };
    call.inner.changed();
    if fault.answer != Answer::Never {
        flight.land();
        return call.finish(reply, &fault.answer).await;
    }
    // The insert is still in flight. It ends when the client gives up and this future is dropped.
    let never = call.finish(reply, &fault.answer).await;
    flight.land();
    never
}

/// The answer to a request that took no effect, for faults that send one.
fn not_applied(request: &Insert<'_>) -> Reply {
    let about = About::Session(request.token_session.0.to_string());
    Reply::Refusal { status: 500, description: "not applied", about }
}

/// Stores an insert that the client has already given up. If its session closed meanwhile, nothing
/// is stored.
async fn later(inner: Arc<Inner>, body: Bytes, wait: Duration) {
    tokio::time::sleep(wait).await;
    if let Ok(request) = requests::insert(&body) {
        apply_insert(&mut inner.lock(), &request, Apply::All, true);
        inner.changed();
    }
}

fn apply_insert(state: &mut State, request: &Insert<'_>, apply: Apply, late: bool) -> Reply {
    let list = &request.passings_list;
    let token = &*request.token_session.0;
    if list.len() > CLIENT_BATCH_MAX {
        state.violation(format!("{} passings in one insert", list.len()));
    }
    if list.len() > state.config.max_items {
        return Reply::Gateway { status: 413, message: "Request Too Long" };
    }
    let failing = &state.config.habits.failing;
    if !state.poison.is_empty() || !failing.is_empty() {
        let poison = |text: &str| {
            let failing = failing.iter().find(|(chip, _)| chip == text).map(|(_, status)| *status);
            state.poison.get(text).copied().or(failing)
        };
        let found = list.iter().find_map(|passing| {
            passing.chip.as_ref().and_then(|chip| poison(&chip.0)).or_else(|| poison(&passing.bib.0))
        });
        if let Some(status) = found {
            return Reply::refusal(status, "Passing not accepted");
        }
    }
    let arriving: Vec<Arriving<'_>> = list[..apply.of(list.len())]
        .iter()
        .map(|passing| Arriving {
            num: passing.num_passing,
            time_ms: passing.timestamp,
            chip: passing.chip.as_ref().map(|chip| &*chip.0),
            bib: &passing.bib.0,
        })
        .collect();
    let mut noted = Vec::new();
    let rule = Rule { dedup: state.config.dedup(), per_device: state.config.habits.per_device, late };
    let other = Turn::draw(state);
    other.before(state, request);
    let outcome = state.store.insert(token, &arriving, rule, |text| noted.push(text));
    if outcome.is_ok() {
        other.after(state, request);
    }
    for text in noted {
        state.violation(text);
    }
    match outcome {
        Ok(counts) => Reply::Inserted { token: token.into(), counts },
        Err(Refused::Closed) => answers::closed(&state.config, token),
        Err(Refused::Full) => Reply::refusal(507, "The simulated cloud is full"),
    }
}

fn note_post(state: &mut State, at: Instant, request: &Insert<'_>, reply: &Reply, answer: &Answer) {
    let counts = if let Reply::Inserted { counts, .. } = reply { *counts } else { Counts::default() };
    let numbers = || request.passings_list.iter().map(|passing| passing.num_passing);
    // Consecutive POSTs use one session, so its token is stored once.
    let token = &*request.token_session.0;
    let known = state.posts.back().filter(|post| &*post.token == token).map(|post| Arc::clone(&post.token));
    let post = Post {
        at,
        token: known.unwrap_or_else(|| token.into()),
        first: numbers().next().unwrap_or(0),
        last: numbers().next_back().unwrap_or(0),
        count: request.passings_list.len(),
        inserted: counts.inserted,
        duplicates: counts.duplicates,
        status: answers::status(&state.config, reply, answer),
    };
    if state.posts.len() == MAX_POSTS {
        state.posts.pop_front();
    }
    state.posts.push_back(post);
    state.post_count += 1;
}

/// Marks an insert as in flight until it is dropped.
struct InFlight {
    inner: Arc<Inner>,
    device: Arc<str>,
    number: u64,
    end: watch::Sender<End>,
}

impl InFlight {
    fn land(self) {
        self.end.send_replace(End::Landed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end.send_if_modified(|end| *end == End::Flying && std::mem::replace(end, End::Dropped) == End::Flying);
        let mut state = self.inner.lock();
        if state.flights.get(&self.device).is_some_and(|flight| flight.number == self.number) {
            state.flights.remove(&self.device);
        }
    }
}

/// Records a violation when a client sends an insert while another one of the same device is in
/// flight. An insert that the client gave up (its connection is closed) does not count, although
/// the fake may see that only a moment later.
async fn take_off(inner: &Arc<Inner>, token: &str) -> InFlight {
    loop {
        let (mut other, other_number) = {
            let mut state = inner.lock();
            let device = state.store.device_of(token).unwrap_or_else(|| token.into());
            match state.flights.get(&device) {
                Some(flight) => (flight.end.clone(), flight.number),
                None => {
                    let (end, seen) = watch::channel(End::Flying);
                    state.flight_count += 1;
                    let number = state.flight_count;
                    state.flights.insert(Arc::clone(&device), Flight { number, end: seen });
                    return InFlight { inner: Arc::clone(inner), device, number, end };
                }
            }
        };
        let ended = tokio::time::timeout(OVERLAP, other.wait_for(|end| *end != End::Flying)).await;
        if !matches!(ended.map(|end| end.map(|end| *end)), Ok(Ok(End::Dropped))) {
            let mut state = inner.lock();
            state.violation("two inserts of one device were in flight at once".to_owned());
            let device = state.store.device_of(token).unwrap_or_else(|| token.into());
            // An insert that never ends is recorded once, and no later insert waits for it.
            if state.flights.get(&device).is_some_and(|flight| flight.number == other_number) {
                state.flights.remove(&device);
            }
        }
    }
}
