//! Posts to a webhook when the state has been bad for a minute, and when that is over
//! (`[notify] webhook`).
//!
//! Must hold:
//! * **Few messages.** A state that is over within [`BAD_FOR`] is not told. After that, each other
//!   bad state that lasts as long is told, and the end of it.
//! * **The newest message wins.** One message waits at most. It is tried again with growing waits
//!   until it is taken, or until a newer one replaces it.
//! * **What is sent is in [`Message`]**: no read, no chip, no key. Of the problems only the codes are
//!   sent, because a message of a problem may hold a chip code or a name.
//! * The answer is not read, and redirects are not followed.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::news::StateNews;
use crate::cloud::rufus;
use crate::config::Webhook;
use crate::model::retry::Retry;
use crate::status::{Board, BoxState, ProblemCode};

/// How long a state must be bad before it is told.
const BAD_FOR: Duration = Duration::from_secs(60);
/// Longest time for one try.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The waits between tries: about the first one, then longer ones up to the second one.
const WAITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(120));
/// The webhook is a problem from this failed try on. The first one may be a matter of a moment.
const FAILS: u32 = 2;

/// What is posted, as JSON. Others script against this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Message {
    /// The name of the box.
    #[serde(rename = "box")]
    name: String,
    /// The word of the state.
    state: &'static str,
    /// The bad state that is over. `null`: a bad state is not over.
    over: Option<&'static str>,
    /// The state as sentences.
    sentence: String,
    /// What a person should do, at most three things.
    todo: Vec<String>,
    /// Since when the state is shown.
    since: Timestamp,
    /// The codes of all problems of the box.
    problems: Vec<String>,
    /// The version of passbridge.
    version: String,
}

impl Message {
    fn new(news: &StateNews, over: Option<BoxState>) -> Self {
        Self {
            name: news.name.clone(),
            state: news.state.word(),
            over: over.map(BoxState::word),
            sentence: news.sentence.clone(),
            todo: news.todo.clone(),
            since: news.since,
            problems: news.problems.clone(),
            version: news.version.clone(),
        }
    }
}

/// Whether somebody who is not there should know. A hold was ordered by somebody.
fn is_bad(state: BoxState) -> bool {
    matches!(state, BoxState::CannotKeep | BoxState::NotReading | BoxState::TimeWrong | BoxState::NotUploading)
}

/// What has been told, and since when it has been bad.
#[derive(Default)]
struct Episode {
    bad_since: Option<Instant>,
    /// The last bad state, and since when it is the state.
    state: Option<(BoxState, Instant)>,
    /// The bad state that was told last, until its end is told.
    told: Option<BoxState>,
}

/// What has to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    /// The state is bad.
    Bad,
    /// This bad state is over.
    Over(BoxState),
}

impl Episode {
    /// Whether something has to be told at `now`, when the box is in this state.
    fn look(&mut self, state: BoxState, now: Instant) -> Option<Tell> {
        if !is_bad(state) {
            (self.bad_since, self.state) = (None, None);
            return self.told.take().map(Tell::Over);
        }
        let bad_since = *self.bad_since.get_or_insert(now);
        let since = match self.state {
            Some((known, since)) if known == state => since,
            _ => now,
        };
        self.state = Some((state, since));
        // The first message counts from when anything was bad: a box that goes from bad to worse
        // must not stay silent.
        let lasts = now - if self.told.is_some() { since } else { bad_since };
        if self.told == Some(state) || lasts < BAD_FOR {
            return None;
        }
        self.told = Some(state);
        Some(Tell::Bad)
    }
}

/// Tells the webhook what has to be told, until `stop`.
pub(super) async fn tell(
    webhook: &Webhook,
    board: &Board,
    mut told: watch::Receiver<Option<StateNews>>,
    stop: &CancellationToken,
) {
    let (newest, message) = watch::channel(None);
    let decide = async {
        let mut episode = Episode::default();
        while told.changed().await.is_ok() {
            let news = told.borrow_and_update().clone();
            let Some(news) = news.filter(|news| !news.starting) else { continue };
            let message = episode.look(news.state, Instant::now()).map(|tell| match tell {
                Tell::Bad => Message::new(&news, None),
                Tell::Over(state) => Message::new(&news, Some(state)),
            });
            if message.is_some() {
                newest.send_replace(message);
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = decide => {}
        () = deliver(webhook, board, message) => {}
    }
}

/// Posts each message that comes. While one cannot be posted, a newer one takes its place.
async fn deliver(webhook: &Webhook, board: &Board, mut message: watch::Receiver<Option<Message>>) {
    let host = webhook.host();
    let raise = |why: &str| {
        let message = format!("the webhook at {host} does not take the message about the state, because {why}");
        board.raise(ProblemCode::WebhookFailed, "", message);
    };
    let client = match rufus::keyless_http(board.wall().clone(), TIMEOUT) {
        Ok(client) => client,
        Err(error) => {
            raise(&error.to_string());
            return std::future::pending().await; // the others go on
        }
    };
    let mut rng = fastrand::Rng::new();
    while message.changed().await.is_ok() {
        let (mut retry, mut failed) = (Retry::new(WAITS.0, WAITS.1), 0_u32);
        loop {
            let Some(now) = message.borrow_and_update().clone() else { break };
            let Err(why) = post(&client, webhook, &now).await else {
                board.clear(ProblemCode::WebhookFailed, "");
                break;
            };
            failed += 1;
            if failed >= FAILS {
                raise(&why);
            }
            let wait = retry.next(&mut rng, None);
            tokio::select! {
                () = sleep(wait) => {}
                changed = message.changed() => {
                    if changed.is_err() { return }
                    retry.reset(); // the newer one is worth a try at once
                }
            }
        }
    }
}

/// Posts one message. The error says why that failed, and shows nothing of the address.
async fn post(client: &reqwest::Client, webhook: &Webhook, message: &Message) -> Result<(), String> {
    let answer = client.post(webhook.url().clone()).json(message).send().await;
    let status = answer.map_err(|error| rufus::why_failed(&error))?.status();
    match status {
        _ if status.is_success() => Ok(()),
        _ if status.is_redirection() => Err(format!(
            "it answers {} and sends the box to another address: write that address into the configuration",
            status.as_u16()
        )),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Err(format!("it answers {}: is the address right, and still in force?", status.as_u16()))
        }
        _ => Err(format!("it answers {}", status.as_u16())),
    }
}

#[cfg(test)]
mod tests;
