//! What the board shows of an uplink.

use super::machine::{Machine, UplinkReport};
use crate::journal::Journal;
use crate::model::text::tail;
use crate::status::{Board, SessionStatus, UploadState};

/// Keeps the board equal to the machine's report.
pub(super) struct Display<'a> {
    pub(super) board: &'a Board,
    pub(super) shown: Option<UplinkReport>,
}

impl Display<'_> {
    pub(super) fn show(&mut self, device: &str, report: UplinkReport) {
        if self.shown.as_ref() == Some(&report) {
            return;
        }
        let before = self.shown.take().unwrap_or_default();
        for code in before.problems.keys().filter(|code| !report.problems.contains_key(*code)) {
            self.board.clear(*code, device);
        }
        for (code, text) in report.problems.iter().filter(|(code, text)| before.problems.get(*code) != Some(*text)) {
            self.board.raise(*code, device, text.clone());
        }
        if report.state != before.state || report.session != before.session {
            let session = report.session.as_ref().map_or_else(
                || "none".to_owned(),
                |(token, alias)| alias.as_deref().map_or_else(|| tail(token), str::to_owned),
            );
            let error = report.last_error.as_deref(); // none: the field is left out
            match (before.state, report.state) {
                // These states change with every batch, so they are not logged.
                (UploadState::Idle, UploadState::Sending) | (UploadState::Sending, UploadState::Idle)
                    if report.session == before.session => {}
                _ => tracing::info!(device, session, error, "upload: {}", report.state.in_words()),
            }
        }
        let now = self.board.now();
        self.board.upload(device, |upload| {
            upload.state = report.state;
            let shown = upload.session.take();
            upload.session = report.session.as_ref().map(|(token, alias)| {
                let token_tail = tail(token);
                // The journal counts it; see `Board::show_numbered`.
                let numbered = shown.filter(|shown| shown.token_tail == token_tail).and_then(|shown| shown.numbered);
                SessionStatus { alias: alias.as_deref().map(str::to_owned), token_tail, token: token.clone(), numbered }
            });
            upload.waits_for = report.waits_for.map(str::to_owned);
            upload.nothing_waits = report.nothing_waits;
            upload.per_minute = report.per_minute;
            if report.accepted_posts != before.accepted_posts {
                upload.last_ok = Some(now);
            }
            upload.last_error.clone_from(&report.last_error);
        });
        self.shown = Some(report);
    }
}

/// What the machine reports. It does not know of a hold, because the journal gives it nothing then.
pub(super) fn report(machine: &Machine, journal: &Journal) -> UplinkReport {
    let report = machine.report();
    match report.state {
        UploadState::Idle if journal.is_on_hold() => {
            UplinkReport { waits_for: Some("waits until somebody releases the hold"), nothing_waits: None, ..report }
        }
        _ => report,
    }
}
