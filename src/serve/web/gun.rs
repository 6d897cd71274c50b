//! `/gun`: the screen before the gun. `/gun/mats` is its live part, which the page asks for once a
//! second. So it costs nothing while nobody looks.

use askama::Template;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};

use super::door::Visitor;
use super::page;
use super::view::{GunView, PageTimes};
use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::status::Board;

#[derive(Template)]
#[template(path = "gun-mats.html")]
struct GunCards<'a> {
    view: &'a GunView,
    now: &'a str,
}

#[derive(Template)]
#[template(path = "gun.html")]
struct GunPage<'a> {
    name: &'a str,
    day: &'a str,
    view: &'a GunView,
    mats: &'a str,
    /// The word of the login, for the forms. `None`: this browser is not logged in.
    csrf: Option<&'a str>,
}

/// The screen, and its live part.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(board: Board) -> Router<S> {
    Router::new().route("/gun", get(show)).route("/gun/mats", get(mats)).with_state(board)
}

/// The live part, and what the page around it needs.
fn drawn(board: &Board) -> (GunView, String, PageTimes) {
    let (now, uptime) = (board.now(), board.elapsed());
    let uptime_ms = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
    let started_ms = now.as_millisecond().saturating_sub_unsigned(uptime_ms);
    let times = PageTimes { zone: ShownIn::of_the_box(), now, uptime_ms, started_ms };
    let view = GunView::of(&board.snapshot(), &board.checks(), &times);
    let time = format!("{} {}", times.zone.time(now), times.zone.zone_name(now));
    // Writing to a text cannot fail.
    let mats = GunCards { view: &view, now: &time }.render().unwrap_or_default();
    (view, mats, times)
}

async fn show(State(board): State<Board>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    let (view, mats, times) = drawn(&board);
    let (name, day) = (printable(&board.name()), times.zone.second(times.now));
    let csrf = visitor.login().map(|login| &*login.csrf);
    let page = GunPage { name: &name, day: &day, view: &view, mats: &mats, csrf };
    page::answer(page.render().unwrap_or_default(), &headers)
}

async fn mats(State(board): State<Board>, headers: HeaderMap) -> Response {
    page::answer(drawn(&board).1, &headers)
}
