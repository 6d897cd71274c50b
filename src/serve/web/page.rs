//! The page as one answer: the first view, drawn before its script runs.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::artist::ROWS;
use super::frame::Frame;
use super::view::{ages_filled, look_of, state_word};
use super::{Web, assets};
use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::status::BoxState;

/// Rows of the first view. The first event brings the others.
const FIRST_ROWS: usize = ROWS / 2;

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    /// The version of the files.
    version: &'a str,
    /// The name of the box.
    name: &'a str,
    /// The stable word of the state, its look, and the word for people.
    state: &'static str,
    look: &'static str,
    word: &'a str,
    /// The time of day, and the name of its zone.
    now: &'a str,
    zone: &'a str,
    /// The parts.
    frame: &'a Frame,
    /// The rows of the first view.
    rows: &'a [super::frame::Row],
    /// Whether there are plots.
    plots: bool,
}

/// The page at `/`.
pub(super) async fn show(State(web): State<Web>, headers: HeaderMap) -> Response {
    let frame = web.live.frame().await;
    let (state, _) = web.board.look();
    let html = first_view(&web.board.name(), state, &ShownIn::of_the_box(), &frame);
    answer(html, &headers)
}

/// The page with this drawing in it.
pub(super) fn first_view(name: &str, state: BoxState, zone: &ShownIn, frame: &Frame) -> String {
    let now = Timestamp::from_millisecond(frame.beat.wall_ms).unwrap_or_default();
    let page = Page {
        version: assets::version(),
        name: &printable(name),
        state: state.word(),
        look: look_of(state),
        word: &state_word(state),
        now: &zone.time(now),
        zone: &zone.zone_name(now),
        frame,
        rows: &frame.rows[..frame.rows.len().min(FIRST_ROWS)],
        plots: !frame.html("plots-10m").is_empty(),
    };
    // Writing to a text cannot fail.
    ages_filled(&page.render().unwrap_or_default(), frame.beat.uptime_ms / 1000)
}

/// A page as an answer, compressed if the browser takes that.
pub(super) fn answer(html: String, headers: &HeaderMap) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    match assets::takes_gzip(headers) {
        true => {
            let coded = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            ([kind, coded], assets::gzip(html.as_bytes())).into_response()
        }
        false => ([kind], html).into_response(),
    }
}
