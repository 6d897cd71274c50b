//! The page as one answer: the first view, drawn before its script runs.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use jiff::Timestamp;

use super::assets;
use super::door::Visitor;
use super::frame::PageFrame;
use super::live::{self, Live};
use super::view::{ages_filled, look_of, state_word};
use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::status::BoxState;

/// Rows of the first view. The first event brings the others.
const FIRST_ROWS: usize = 8;

#[derive(Template)]
#[template(path = "page.html")]
struct BoxPage<'a> {
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
    frame: &'a PageFrame,
    /// The rows of the first view.
    rows: &'a [super::frame::PageRow],
    /// Whether there are plots.
    plots: bool,
    /// The word of the login, for the forms. `None`: this browser is not logged in.
    csrf: Option<&'a str>,
}

/// The page at `/`, and its stream.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(live: Live) -> Router<S> {
    Router::new().route("/", get(show)).route("/events", get(live::watch_page)).with_state(live)
}

async fn show(State(live): State<Live>, Extension(visitor): Extension<Visitor>, headers: HeaderMap) -> Response {
    let frame = live.frame().await;
    let state = live.board().snapshot().state;
    let csrf = visitor.login().map(|login| &*login.csrf);
    let html = first_view(&live.board().name(), state, &ShownIn::of_the_box(), &frame, csrf);
    answer(html, &headers)
}

/// The page with this drawing in it. `csrf`: the word of the login of this browser.
pub(super) fn first_view(name: &str, state: BoxState, zone: &ShownIn, frame: &PageFrame, csrf: Option<&str>) -> String {
    let now = Timestamp::from_millisecond(frame.beat.wall_ms).unwrap_or_default();
    let page = BoxPage {
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
        csrf,
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
