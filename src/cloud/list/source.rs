//! Where a list comes from: pages of passings, the place that each passing has in the list, and why
//! the rest of a list cannot be had.

use std::time::Duration;

use crate::cloud::pages::patiently;
use crate::cloud::rufus::{CallError, Client, FullPage, FullPassing, Scope};

/// A page with at most this many passings is not taken for cut short.
pub(super) const SHORT_PAGE: usize = 3;
/// The highest number that the cloud can have (JSON carries no higher one exactly).
pub(super) const HIGHEST: i64 = 1 << 53;

/// Why a list ended before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// The cloud does not answer, or refuses.
    #[error("{0}")]
    Cloud(#[from] CallError),
    /// The cloud returns the same page again and again.
    #[error("the cloud shows the same page whichever page it is asked for, and it may hold more")]
    Cut,
    /// The pages overlap, so that passings may be listed twice, or not at all.
    #[error("the pages of the cloud overlap, so passings may be listed twice or be missing")]
    Overlap,
    /// There is no end.
    #[error("the cloud's list has no end")]
    Endless,
}

/// Source of pages: the cloud, or its imitation in a test.
pub(crate) trait FullPages: Sync {
    /// Returns a page of what the cloud holds, like [`Client::stored_in_full`].
    fn page(&self, scope: &Scope, page: u32) -> impl Future<Output = Result<FullPage, CallError>> + Send;
}

impl FullPages for Client {
    async fn page(&self, scope: &Scope, page: u32) -> Result<FullPage, CallError> {
        patiently(Duration::ZERO, || once(self, scope, page)).await
    }
}

async fn once(client: &Client, scope: &Scope, page: u32) -> Result<FullPage, CallError> {
    let answer = client.stored_in_full(scope, page).await;
    let (Scope::Numbers { token, .. } | Scope::Session { token }) = scope else { return answer };
    match answer {
        // If the session exists, this answer means that it holds no passings.
        Err(gone @ CallError::SessionGone { .. }) => match client.session(token).await? {
            Some(_) => Ok(FullPage { passings: Vec::new(), more: Some(false) }),
            None => Err(gone),
        },
        other => other,
    }
}

/// A number as a place in a list.
pub(super) fn position(num: u64) -> i64 {
    i64::try_from(num).unwrap_or(HIGHEST).min(HIGHEST)
}

/// The place of a passing in the list. `None`: its number (or time) cannot be read.
pub(super) fn place(scope: &Scope, row: &FullPassing) -> Option<i64> {
    match scope {
        Scope::Times { .. } => row.time_ms,
        _ => row.num_passing.map(position),
    }
}
