//! The pages that have the forms, and show what became of them.

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::hands::Doing;
use crate::journal::making_room::RemovableSegment;
use crate::journal::set_aside::SetAside;
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
    /// The decoders to which a marker can belong.
    decoders: Vec<String>,
}

/// The hold: reads are kept and not sent.
pub(super) async fn hold(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let outcomes = Outcomes::of(&visitor, "/hold");
    let zone = ShownIn::of_the_box();
    let status = doing.ops().status();
    let decoders = status.decoders.into_iter().map(|decoder| decoder.name).collect();
    let hold = status.hold.map(|hold| (zone.second(hold.since), printable(&hold.by), hold.reads));
    page(outcomes.running, &HoldPage { shell: doing.shell(&visitor, "/hold"), outcomes, hold, decoders })
}

#[derive(Template)]
#[template(path = "set_aside.html")]
struct SetAsidePage<'a> {
    shell: Shell<'a>,
    outcomes: Outcomes,
    /// How many are set aside.
    count: u64,
    /// The oldest of them.
    passings: Vec<ShownPassing>,
    /// There are more than these.
    more: bool,
    /// Why they cannot be listed.
    error: Option<String>,
    held_back: u64,
}

/// A passing that is set aside.
struct ShownPassing {
    id: u64,
    bib: String,
    chip: String,
    time: String,
    decoder: String,
    number: String,
    why: String,
    since: String,
}

/// Most passings on one page. The others come when these are decided.
const LISTED: usize = 100;

/// What is not sent, and why.
pub(super) async fn set_aside(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let (outcomes, ops, zone) = (Outcomes::of(&visitor, "/set-aside"), doing.ops(), ShownIn::of_the_box());
    let journal = ops.status().journal;
    let held_back = journal.reads.map_or(0, |reads| reads.held_back);
    let (listed, error) = match ops.set_aside().await {
        Ok(listed) => (listed, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let shown = |passing: &SetAside| ShownPassing {
        id: passing.id,
        bib: printable(&passing.bib),
        chip: printable(&passing.chip),
        time: zone.milli(passing.time),
        decoder: passing.decoder.as_deref().map_or_else(|| "not known".to_owned(), printable),
        number: format!("{} in …{}", passing.num_passing, passing.token_tail),
        why: format!("{} {}", passing.status, printable(&passing.why)),
        since: zone.second(passing.since),
    };
    let (passings, more) = (listed.iter().take(LISTED).map(shown).collect(), listed.len() > LISTED);
    let (shell, count) = (doing.shell(&visitor, "/set-aside"), journal.dead_letters);
    page(outcomes.running, &SetAsidePage { shell, outcomes, count, passings, more, error, held_back })
}

#[derive(Template)]
#[template(path = "card.html")]
struct CardPage<'a> {
    shell: Shell<'a>,
    outcomes: Outcomes,
    /// Code, subject, message and time of each loss.
    losses: Vec<(String, String, String, String)>,
    free: String,
    segments: Vec<ShownSegment>,
    then: &'static str,
    error: Option<String>,
}

/// A file of the log that may go.
struct ShownSegment {
    last: u64,
    size: String,
    reads: u64,
    span: String,
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

/// The files that can be downloaded, the room on the card, and losses.
pub(super) async fn card(State(doing): State<Doing>, Extension(visitor): Extension<Visitor>) -> Response {
    let (outcomes, ops, zone) = (Outcomes::of(&visitor, "/card"), doing.ops(), ShownIn::of_the_box());
    let losses = ops.board().losses().into_iter();
    let losses =
        losses.map(|loss| (loss.code, loss.about, printable(&loss.message), zone.second(loss.since))).collect();
    let (room, error) = match ops.room().await {
        Ok(room) => (Some(room), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let span = |from, to| format!("{} to {}", zone.second(from), zone.second(to));
    let shown = |segment: &RemovableSegment| ShownSegment {
        last: segment.last,
        size: megabytes(segment.bytes),
        reads: segment.reads,
        span: segment.from.zip(segment.to).map_or_else(|| "no reads".to_owned(), |(from, to)| span(from, to)),
    };
    let card = CardPage {
        shell: doing.shell(&visitor, "/card"),
        losses,
        free: room.as_ref().map_or_else(|| "not known".to_owned(), |room| megabytes(room.free_bytes)),
        segments: room.iter().flat_map(|room| &room.segments).map(shown).collect(),
        then: room.as_ref().map_or("", |room| room.then),
        error,
        outcomes,
    };
    page(card.outcomes.running, &card)
}
