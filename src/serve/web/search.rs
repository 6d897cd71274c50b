//! `GET /api/search?q=…&from=…&to=…&decoder=…&limit=…`: the reads of a chip or of a bib.
//!
//! `q` is the code of a chip or a bib, `from` and `to` are instants such as `2026-07-05T10:00:00Z`, and
//! `limit` is from 1 to [`LIMIT_MAX`]. The answer is a [`crate::export::found::SearchAnswer`].

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::{Duration, timeout};

use crate::export::found::{LIMIT_MAX, LIMIT_USUAL, SearchQuery, Sought};
use crate::serve::ops::{Ops, OpsError};

/// How long an answer may take, with those that were asked for before it.
const TIME: Duration = Duration::from_secs(60);
/// Longest text that is looked for, in bytes.
const TEXT_MAX: usize = 256;

/// The question as it is in the address.
#[derive(Deserialize)]
pub(super) struct Asked {
    q: Option<String>,
    from: Option<String>,
    to: Option<String>,
    decoder: Option<String>,
    limit: Option<String>,
}

/// Answers a search.
pub(super) async fn answer(ops: Ops, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let query = match asked {
        Ok(Query(asked)) => asked.query(),
        Err(_) => Err("the address must be /api/search?q=CHIP_OR_BIB".to_owned()),
    };
    let query = match query {
        Ok(query) => query,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    match timeout(TIME, ops.search(query)).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(error @ (OpsError::NoJournal | OpsError::Stopping))) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the search takes too long: try it again\n").into_response(),
    }
}

impl Asked {
    fn query(self) -> Result<SearchQuery, String> {
        let what = self.q.as_deref().map(str::trim).filter(|what| !what.is_empty() && what.len() <= TEXT_MAX);
        let what = what.ok_or_else(|| format!("q must be the code of a chip or a bib, at most {TEXT_MAX} bytes"))?;
        let instant = |name: &str, text: Option<String>| {
            let read = text.map(|text| text.parse::<Timestamp>()).transpose();
            read.map_err(|_| format!("{name} must be an instant such as 2026-07-05T10:00:00Z"))
        };
        let limit = self.limit.map_or(Ok(LIMIT_USUAL), |text| text.parse());
        let limit = limit.ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        Ok(SearchQuery {
            what: Sought::ChipOrBib(what.into()),
            decoder: self.decoder.map(Into::into),
            from: instant("from", self.from)?,
            to: instant("to", self.to)?,
            limit: limit.ok_or_else(|| format!("limit must be a number from 1 to {LIMIT_MAX}"))?,
        })
    }
}
