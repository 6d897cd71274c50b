//! What every page behind the login has in common: its head, its links, and the answer in which it
//! is sent.

use askama::Template;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The pages behind the login, and what each is called.
pub(crate) const LINKS: [(&str, &str); 8] = [
    ("/gun", "Before the gun"),
    ("/find", "Find a chip or bib"),
    ("/hold", "Hold and markers"),
    ("/decoders", "Decoders"),
    ("/sessions", "Sessions"),
    ("/set-aside", "Set aside"),
    ("/card", "Files, room and losses"),
    ("/report", "Report of the day"),
];

/// The head of a page.
#[derive(Clone, Debug)]
pub(crate) struct Shell<'a> {
    /// The name of the box.
    pub name: &'a str,
    /// The path of the page, to mark its link.
    pub here: &'a str,
    /// The word that forms carry. `None`: nobody is logged in, so that there are no links to pages
    /// that need a login.
    pub csrf: Option<&'a str>,
}

impl<'a> Shell<'a> {
    /// The head of a page that needs no login.
    pub(crate) fn outside(name: &'a str) -> Self {
        Self { name, here: "", csrf: None }
    }
}

/// The answer with a page.
pub(crate) fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n").into_response()
        }
    }
}
