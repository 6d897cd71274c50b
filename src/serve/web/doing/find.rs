//! `/find`: the reads of a chip or of a bib, with what became of each.

use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use tokio::time::timeout;

use super::hands::Doing;
use crate::export::UploadMark;
use crate::export::found::{FoundRead, ReadStanding, SearchQuery, Sought};
use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::serve::web::door::Visitor;
use crate::serve::web::shell::{Shell, html};

/// How long a search may take, with those that were asked for before it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest text that is looked for, in bytes.
const TEXT_MAX: usize = 256;

#[derive(Deserialize)]
pub(super) struct WhatToFind {
    q: Option<String>,
}

#[derive(Template)]
#[template(path = "find.html")]
struct FindPage<'a> {
    shell: Shell<'a>,
    /// What was typed.
    asked: &'a str,
    /// What it was taken for.
    taken: Option<String>,
    reads: Vec<ShownRead>,
    /// There are further reads.
    more: bool,
    error: Option<String>,
}

/// A read as a row of the table.
struct ShownRead {
    time: String,
    utc: String,
    decoder: String,
    antenna: String,
    chip: String,
    bib: String,
    signal: String,
    standing: String,
}

/// The page. Without a question it has only the field.
pub(super) async fn find(
    State(doing): State<Doing>,
    Extension(visitor): Extension<Visitor>,
    asked: Result<Query<WhatToFind>, QueryRejection>,
) -> Response {
    let asked = asked.ok().and_then(|Query(asked)| asked.q).unwrap_or_default();
    let asked = asked.trim();
    let shell = doing.shell(&visitor, "/find");
    let mut page = FindPage { shell, asked, taken: None, reads: Vec::new(), more: false, error: None };
    if asked.is_empty() {
        return html(StatusCode::OK, &page);
    }
    if asked.len() > TEXT_MAX {
        page.error = Some(format!("A chip or a bib has at most {TEXT_MAX} characters."));
        return html(StatusCode::UNPROCESSABLE_ENTITY, &page);
    }
    let query = SearchQuery { what: Sought::ChipOrBib(asked.into()), ..SearchQuery::default() };
    match timeout(PATIENCE, doing.ops().search(query)).await {
        Ok(Ok(answer)) => {
            let chips: Vec<_> = answer.chips_of_bib.iter().map(|chip| printable(chip)).collect();
            page.taken = Some(match (answer.is_chip, chips.is_empty()) {
                (true, true) => format!("{} is a chip.", printable(asked)),
                (true, false) => format!("{} is a chip, and the bib of: {}.", printable(asked), chips.join(", ")),
                (false, false) => format!("{} is the bib of: {}.", printable(asked), chips.join(", ")),
                (false, true) => format!("This box knows neither a chip nor a bib {}.", printable(asked)),
            });
            page.reads = answer.reads.iter().map(shown).collect();
            page.more = answer.more;
            html(StatusCode::OK, &page)
        }
        Ok(Err(error)) => {
            page.error = Some(format!("The search failed: {error}."));
            html(StatusCode::SERVICE_UNAVAILABLE, &page)
        }
        Err(_) => {
            page.error = Some("The search takes too long. Try it again.".to_owned());
            html(StatusCode::SERVICE_UNAVAILABLE, &page)
        }
    }
}

fn shown(read: &FoundRead) -> ShownRead {
    let zone = ShownIn::of_the_box();
    let mut signal = Vec::new();
    if let Some(hits) = read.hits {
        signal.push(format!("{hits} hits"));
    }
    if let Some(rssi) = read.rssi {
        signal.push(format!("{rssi} dBm"));
    }
    ShownRead {
        time: read.time.map_or_else(|| "time not known".to_owned(), |time| zone.milli(time)),
        utc: read.time.map_or_else(String::new, |time| format!("{time:.3}")),
        decoder: printable(&read.decoder),
        antenna: read.antenna.as_ref().map_or_else(String::new, |antenna| printable(&antenna.to_string())),
        chip: printable(&read.chip),
        bib: read.bib.as_deref().map_or_else(String::new, printable),
        signal: signal.join(", "),
        standing: read.standing.as_ref().map_or_else(|| "kept a moment ago".to_owned(), standing_in_words),
    }
}

/// What became of a read. It says "in the cloud" only if the cloud has said so.
fn standing_in_words(standing: &ReadStanding) -> String {
    let number = match (standing.num_passing, standing.token_tail.as_deref()) {
        (Some(number), Some(tail)) => format!(" under number {number} in session …{tail}"),
        _ => String::new(),
    };
    match standing.state {
        UploadMark::Sent => format!("in the cloud{number}"),
        UploadMark::Pending => format!("waits{number}"),
        UploadMark::SetAside => {
            let answer = standing.refusal.as_ref().map_or_else(String::new, |refusal| {
                format!(". The cloud answers: {} {}", refusal.status, printable(&refusal.answer))
            });
            format!("set aside{number}{answer}")
        }
        UploadMark::Suppressed => "not sent: a repeat, within the dead time, or dropped by choice".to_owned(),
        UploadMark::HeldBack => "held back, because it may be of another race".to_owned(),
        UploadMark::Held => "on hold".to_owned(),
    }
}
