//! What the box knows of its past, over HTTP: the data of the plots, and the report.
//!
//! Must hold: a request waits for no disk in the thread that it shares with the links, and one report is
//! made at a time ([`Ops::report`]).

use askama::Template;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tokio::sync::watch;

use crate::history::report::{DayReport, ReportPage, STYLE, span_of_day};
use crate::model::shown::ShownIn;
use crate::serve::ops::{Ops, OpsError};

/// The paths of the past. The commands get the journal when it is open, so each request takes them as they are then.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(ops: watch::Receiver<Ops>) -> Router<S> {
    Router::new()
        .route("/api/history", get(history))
        .route("/api/report", get(report_json))
        .route("/report", get(report_page))
        .route("/assets/report.css", get(style))
        .with_state(ops)
}

/// The period of a plot.
#[derive(Clone, Copy, Deserialize)]
enum PlotPeriod {
    #[serde(rename = "10m")]
    Minutes,
    #[serde(rename = "6h")]
    Hours,
}

#[derive(Deserialize)]
struct HistoryQuery {
    span: PlotPeriod,
}

async fn history(
    State(ops): State<watch::Receiver<Ops>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(HistoryQuery { span })) = query else {
        return (StatusCode::BAD_REQUEST, "span must be 10m or 6h: /api/history?span=10m\n").into_response();
    };
    let Some(plots) = ops.borrow().plots() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "nothing follows the log of this box\n").into_response();
    };
    match span {
        PlotPeriod::Minutes => Json(plots.minutes).into_response(),
        PlotPeriod::Hours => Json(plots.hours).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DayQuery {
    day: Option<String>,
}

/// The report of a day in the zone of the box. Without a day it is today's.
async fn report(ops: &Ops, query: Result<Query<DayQuery>, QueryRejection>) -> Result<DayReport, Response> {
    let zone = TimeZone::system();
    let today = zone.to_datetime(ops.board().now()).date();
    let day = match query.map(|Query(query)| query.day.unwrap_or_default()).as_deref() {
        Ok("" | "today") => Some(today),
        Ok(text) => text.parse::<Date>().ok(),
        Err(_) => None,
    };
    let Some((from, to)) = day.and_then(|day| span_of_day(day, &zone)) else {
        let what = format!("a report is asked for with day alone: today, or a date such as {today}\n");
        return Err((StatusCode::BAD_REQUEST, what).into_response());
    };
    ops.report(from, to).await.map_err(|error| {
        let later = [(header::RETRY_AFTER, HeaderValue::from_static("5"))];
        match error {
            OpsError::Busy => (StatusCode::SERVICE_UNAVAILABLE, later, format!("{error}\n")).into_response(),
            error => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    })
}

async fn report_json(
    State(ops): State<watch::Receiver<Ops>>,
    query: Result<Query<DayQuery>, QueryRejection>,
) -> Response {
    let ops = ops.borrow().clone();
    report(&ops, query).await.map_or_else(|refused| refused, |report| Json(report).into_response())
}

async fn report_page(
    State(ops): State<watch::Receiver<Ops>>,
    query: Result<Query<DayQuery>, QueryRejection>,
) -> Response {
    let ops = ops.borrow().clone();
    let report = match report(&ops, query).await {
        Ok(report) => report,
        Err(refused) => return refused,
    };
    match ReportPage::new(&report, &ShownIn::of_the_box(), None).render() {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}
