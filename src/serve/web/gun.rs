//! `/gun`: the screen before the gun. `/gun/mats` is its live part, which the page asks for once a
//! second. So it costs nothing while nobody looks.

use askama::Template;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::view::{GunView, Times};
use super::{Web, assets, page};
use crate::model::shown::ShownIn;
use crate::model::text::printable;

#[derive(Template)]
#[template(path = "gun-mats.html")]
struct Mats<'a> {
    view: &'a GunView,
    now: &'a str,
}

#[derive(Template)]
#[template(path = "gun.html")]
struct Gun<'a> {
    version: &'a str,
    name: &'a str,
    day: &'a str,
    view: &'a GunView,
    mats: &'a str,
}

/// The live part, and what the page around it needs.
fn drawn(web: &Web) -> (GunView, String, Times) {
    let (now, uptime) = (web.board.now(), web.board.elapsed());
    let uptime_ms = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
    let started_ms = now.as_millisecond().saturating_sub_unsigned(uptime_ms);
    let times = Times { zone: ShownIn::of_the_box(), now, uptime_ms, started_ms };
    let view = GunView::of(&web.board.snapshot(), &web.board.checks(), &times);
    let time = format!("{} {}", times.zone.time(now), times.zone.zone_name(now));
    // Writing to a text cannot fail.
    let mats = Mats { view: &view, now: &time }.render().unwrap_or_default();
    (view, mats, times)
}

/// The screen.
pub(super) async fn show(State(web): State<Web>, headers: HeaderMap) -> Response {
    let (view, mats, times) = drawn(&web);
    let (name, day) = (printable(&web.board.name()), times.zone.second(times.now));
    let page = Gun { version: assets::version(), name: &name, day: &day, view: &view, mats: &mats };
    page::answer(page.render().unwrap_or_default(), &headers)
}

/// Its live part.
pub(super) async fn mats(State(web): State<Web>, headers: HeaderMap) -> Response {
    page::answer(drawn(&web).1, &headers)
}
