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
use crate::export::found::words::{header, standing_of};
use crate::export::found::{FoundRead, SearchQuery, Sought};
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
            page.taken = Some(header(asked, &answer));
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
        signal.push(format!("hits {hits}"));
    }
    if let Some(rssi) = read.rssi {
        signal.push(format!("RSSI {rssi}"));
    }
    ShownRead {
        time: read.time.map_or_else(|| "time not known".to_owned(), |time| zone.milli(time)),
        utc: read.time.map_or_else(String::new, |time| format!("{time:.3}")),
        decoder: printable(&read.decoder),
        antenna: read.antenna.as_ref().map_or_else(String::new, |antenna| printable(&antenna.to_string())),
        chip: printable(&read.chip),
        bib: read.bib.as_deref().map_or_else(String::new, printable),
        signal: signal.join(", "),
        standing: match &read.standing {
            Some(standing) => standing_of(read, standing, &zone),
            None => "kept a moment ago".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::export::found::ReadStanding;
    use crate::export::{Refusal, UploadMark};
    use crate::model::chip::Label;

    /// A chip, a bib, a decoder and an answer of the cloud are whatever somebody else sends.
    #[test]
    fn text_of_decoders_bib_files_and_the_cloud_is_shown_as_text() {
        let evil = "\"><script>alert(1)</script>";
        let refusal = Some(Refusal { status: 400, answer: evil.into(), again: false });
        let (why, device, bib, sent_time, replaces) = (None, None, Some(evil.into()), None, None);
        let (token_tail, num_passing, state) = (Some("abc123".into()), Some(1), UploadMark::SetAside);
        let standing = ReadStanding { state, why, device, token_tail, num_passing, bib, sent_time, refusal, replaces };
        let read = FoundRead {
            seq: 1,
            decoder: evil.into(),
            chip: evil.into(),
            chip_code: evil.into(),
            bib: Some(evil.into()),
            time: None,
            corrected_ms: None,
            decoder_time: evil.into(),
            received: Timestamp::UNIX_EPOCH,
            antenna: Some(Label::Text(evil.into())),
            rssi: None,
            hits: None,
            standing: Some(standing),
        };
        let (shell, taken) = (Shell::outside(evil), Some(evil.to_owned()));
        let page = FindPage { shell, asked: evil, taken, reads: vec![shown(&read)], more: true, error: None };
        let page = page.render().unwrap();
        assert!(page.matches("alert(1)").count() >= 7, "it is shown: {page}");
        assert!(!page.contains("<script>") && !page.contains("value=\"\""), "{page}");
    }
}
