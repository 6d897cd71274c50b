//! The pages that have the forms, and show what became of them.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::hands::Doing;
use crate::model::shown::ShownIn;
use crate::model::text::{printable, tail};
use crate::serve::web::door::{How, OutcomeLine, Visitor};
use crate::serve::web::shell::{Shell, html};
use crate::status::{DecoderStatus, LinkState, Snapshot, UploadStatus};

/// What became of something, as a page shows it.
struct ShownOutcome {
    time: String,
    /// A mark, a word for those who do not see it, and the class.
    mark: (&'static str, &'static str, &'static str),
    text: String,
}

/// The outcomes that a page shows, and whether one of them is not over.
struct Outcomes {
    lines: Vec<ShownOutcome>,
    running: bool,
}

impl Outcomes {
    fn of(visitor: &Visitor, page: &str) -> Self {
        let zone = ShownIn::of_the_box();
        let kept = visitor.login().map(|login| login.outcomes(page)).unwrap_or_default();
        let running = kept.iter().any(|line| line.how == How::Running);
        let shown = |line: OutcomeLine| ShownOutcome {
            time: zone.second(line.at),
            mark: match line.how {
                How::Running => ("…", "Not over", "running"),
                How::Done => ("✓", "Done", "good"),
                How::Failed => ("✕", "Not done", "bad"),
            },
            text: printable(&line.text),
        };
        Self { lines: kept.into_iter().map(shown).collect(), running }
    }
}

/// The answer with a page. One that waits for an outcome loads itself again.
fn page(running: bool, page: &impl Template) -> Response {
    let response = html(StatusCode::OK, page);
    match running {
        true => {
            ([(header::HeaderName::from_static("refresh"), HeaderValue::from_static("2"))], response).into_response()
        }
        false => response,
    }
}

#[derive(Template)]
#[template(path = "decoders.html")]
struct DecodersPage<'a> {
    shell: Shell<'a>,
    outcomes: Outcomes,
    decoders: Vec<ShownDecoder>,
}

struct ShownDecoder {
    name: String,
    protocol: String,
    state: &'static str,
    reads: u64,
}

fn link_words(state: LinkState) -> &'static str {
    match state {
        LinkState::Connected => "connected",
        LinkState::Connecting => "connecting",
        LinkState::Failed => "not connected",
        LinkState::Idle => "connected, silent",
    }
}

/// The decoders, with what can be asked of them.
pub(super) async fn decoders(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let status = doing.ops().status();
    let outcomes = Outcomes::of(&visitor, "/decoders");
    let shown = |decoder: &DecoderStatus| ShownDecoder {
        name: decoder.name.clone(),
        protocol: decoder.protocol.clone(),
        state: link_words(decoder.state),
        reads: decoder.reads,
    };
    let decoders = status.decoders.iter().map(shown).collect();
    page(outcomes.running, &DecodersPage { shell: doing.shell(&visitor, "/decoders"), outcomes, decoders })
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage<'a> {
    shell: Shell<'a>,
    outcomes: Outcomes,
    devices: Vec<ShownDevice>,
}

struct ShownDevice {
    id: String,
    tail: String,
    /// Name, end of the token, and passings with a number.
    session: Option<(String, String, String)>,
    state: &'static str,
}

fn devices(status: &Snapshot) -> Vec<ShownDevice> {
    let shown = |upload: &UploadStatus| ShownDevice {
        id: upload.device_id.clone(),
        tail: tail(&upload.device_id),
        session: upload.session.as_ref().map(|session| {
            let alias = session.alias.as_deref().map_or_else(|| "without a name".to_owned(), printable);
            let count = session.numbered.map_or_else(|| "not known".to_owned(), |count| count.to_string());
            (alias, session.token_tail.clone(), count)
        }),
        state: upload.state.in_words(),
    };
    status.uploads.iter().map(shown).collect()
}

/// The session of each device.
pub(super) async fn sessions(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let outcomes = Outcomes::of(&visitor, "/sessions");
    let devices = devices(&doing.ops().status());
    page(outcomes.running, &SessionsPage { shell: doing.shell(&visitor, "/sessions"), outcomes, devices })
}

#[derive(Template)]
#[template(path = "hold.html")]
struct HoldPage<'a> {
    shell: Shell<'a>,
    outcomes: Outcomes,
    /// Since when, by whom, and how many reads. `None`: the box is not on hold.
    hold: Option<(String, String, u64)>,
}

/// The hold: reads are kept and not sent.
pub(super) async fn hold(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let outcomes = Outcomes::of(&visitor, "/hold");
    let zone = ShownIn::of_the_box();
    let hold = doing.ops().status().hold;
    let hold = hold.map(|hold| (zone.second(hold.since), printable(&hold.by), hold.reads));
    page(outcomes.running, &HoldPage { shell: doing.shell(&visitor, "/hold"), outcomes, hold })
}

#[derive(Template)]
#[template(path = "set_aside.html")]
struct SetAsidePage<'a> {
    shell: Shell<'a>,
    outcomes: Outcomes,
    set_aside: u64,
    held_back: u64,
}

/// What is not sent, and why.
pub(super) async fn set_aside(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let outcomes = Outcomes::of(&visitor, "/set-aside");
    let journal = doing.ops().status().journal;
    let held_back = journal.reads.map_or(0, |reads| reads.held_back);
    let (shell, set_aside) = (doing.shell(&visitor, "/set-aside"), journal.dead_letters);
    page(outcomes.running, &SetAsidePage { shell, outcomes, set_aside, held_back })
}

#[derive(Template)]
#[template(path = "card.html")]
struct CardPage<'a> {
    shell: Shell<'a>,
    outcomes: Outcomes,
}

/// The files that can be downloaded, and the room on the card.
pub(super) async fn card(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let outcomes = Outcomes::of(&visitor, "/card");
    page(outcomes.running, &CardPage { shell: doing.shell(&visitor, "/card"), outcomes })
}
