//! What a webhook gets, and when.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::post;

use super::*;

/// A server that takes messages, or refuses them.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    /// What it answers.
    status: Arc<Mutex<u16>>,
}

impl Server {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, seen: Arc::default(), status: Arc::new(Mutex::new(204)) };
        let take = |State(server): State<Self>, body: String| async move {
            server.seen.lock().unwrap().push(body);
            let status = *server.status.lock().unwrap();
            (StatusCode::from_u16(status).unwrap(), [("location", "/elsewhere/secret")])
        };
        let app = Router::new().fallback(post(take)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    fn answers(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    /// The sentences of the messages in order. A message that was tried several times in a row is
    /// there once.
    fn sentences(&self) -> Vec<String> {
        let sentence = |body: &String| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            body["sentence"].as_str().unwrap().to_owned()
        };
        let mut sentences: Vec<String> = self.seen().iter().map(sentence).collect();
        sentences.dedup();
        sentences
    }

    fn webhook(&self) -> Webhook {
        let text = format!("[notify]\nwebhook = \"http://{}/T0/secret?key=secret\"\n", self.address);
        crate::config::webhook_of(&text)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Waits until something is so, and not for ever.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_bad_state_is_told_after_a_minute_and_its_end_at_once() {
    use BoxState::{CannotKeep, Hold, NotReading, NotUploading, Reading, Ready};
    let (mut episode, begin) = (Episode::default(), Instant::now());
    let mut at = |second, state| episode.look(state, begin + Duration::from_secs(second));
    assert_eq!(at(0, Reading), None);
    assert_eq!(at(1, NotReading), None);
    assert_eq!(at(60, NotReading), None);
    assert_eq!(at(61, NotReading), Some(Tell::Bad));
    assert_eq!(at(62, NotReading), None, "it is told once");
    assert_eq!(at(70, CannotKeep), None, "another state must last, too");
    assert_eq!(at(130, CannotKeep), Some(Tell::Bad));
    assert_eq!(at(140, Ready), Some(Tell::Over(CannotKeep)));
    assert_eq!(at(141, Reading), None);
    // What is over within a minute is not told, whatever else was bad before.
    assert_eq!(at(200, NotUploading), None);
    assert_eq!(at(259, Reading), None);
    assert_eq!(at(260, NotUploading), None);
    assert_eq!(at(300, Reading), None);
    // From bad to worse: the minute counts from the first of them.
    assert_eq!(at(400, NotUploading), None);
    assert_eq!(at(440, NotReading), None);
    assert_eq!(at(460, NotReading), Some(Tell::Bad));
    // A hold was ordered, so it is told as an end and never as something bad.
    assert_eq!(at(470, Hold), Some(Tell::Over(NotReading)));
    assert_eq!(at(600, Hold), None);
}

#[test]
fn the_message_has_the_state_and_the_codes_of_the_problems_and_no_read() {
    let message = Message::new(&StateNews::example(BoxState::NotReading, "mat is not connected."), None);
    let expected = r#"{"box":"finish","state":"not-reading","over":null,"sentence":"mat is not connected.","todo":["Is its power on?"],"since":"2026-06-17T10:00:00Z","problems":["decoder_unreachable"],"version":"0.1.0"}"#;
    assert_eq!(serde_json::to_string(&message).unwrap(), expected);
    let message = Message::new(&StateNews::example(BoxState::Ready, "It is ready."), Some(BoxState::NotReading));
    assert!(serde_json::to_string(&message).unwrap().contains(r#""state":"ready","over":"not-reading""#));
}

#[tokio::test]
async fn a_message_that_is_refused_is_tried_again_and_the_problem_shows_nothing_but_the_host() {
    rufus::install_tls();
    let server = Server::start().await;
    server.answers(404);
    let (newest, message) = watch::channel(None);
    let board = Board::new("finish");
    let (webhook, shown) = (server.webhook(), board.clone());
    let delivering = tokio::spawn(async move { deliver(&webhook, &shown, message).await });
    let say =
        |sentence| newest.send_replace(Some(Message::new(&StateNews::example(BoxState::NotReading, sentence), None)));
    say("First.");
    until("the first try", || !server.seen().is_empty()).await;
    let shown = board.snapshot().problems;
    assert!(shown.is_empty() || server.seen().len() > 1, "one failure may be a matter of a moment");
    say("Second.");
    until("the newer message takes the place of the first one", || server.sentences() == ["First.", "Second."]).await;
    until("it is a problem", || !board.snapshot().problems.is_empty()).await;
    let problem = board.snapshot().problems.remove(0);
    assert_eq!(problem.code, "webhook_failed");
    assert!(problem.message.contains("127.0.0.1") && problem.message.contains("404"), "{}", problem.message);
    assert!(!problem.message.contains("secret"), "{}", problem.message);
    server.answers(302);
    say("Third.");
    let redirected = || board.snapshot().problems.iter().any(|problem| problem.message.contains("302"));
    until("a redirect is a failure", redirected).await;
    server.answers(204);
    say("Fourth.");
    until("it is taken", || board.snapshot().problems.is_empty()).await;
    assert_eq!(server.sentences(), ["First.", "Second.", "Third.", "Fourth."], "and the redirect is not followed");
    delivering.abort();
}

#[tokio::test]
async fn a_server_that_is_not_there_or_that_nobody_vouches_for_is_a_problem_without_the_address() {
    rufus::install_tls();
    let board = Board::new("finish");
    let client = rufus::keyless_http(board.wall().clone(), Duration::from_secs(20)).unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let message = Message::new(&StateNews::example(BoxState::NotReading, "No mat reads."), None);
    let webhook = crate::config::webhook_of(&format!("[notify]\nwebhook = \"http://{gone}/secret\"\n"));
    let why = super::post(&client, &webhook, &message).await.unwrap_err();
    assert!(why.contains("refused") && !why.contains("secret"), "{why}");
    let paper = front::self_signed("127.0.0.1", 2026, 2027);
    let server = Server::start().await;
    let front = front::Front::open(SocketAddr::from(([127, 0, 0, 1], 0)), server.address, paper).await;
    let webhook =
        crate::config::webhook_of(&format!("[notify]\nwebhook = \"https://127.0.0.1:{}/secret\"\n", front.port));
    let why = super::post(&client, &webhook, &message).await.unwrap_err();
    assert!(why.starts_with("its certificate is not trusted") && !why.contains("secret"), "{why}");
    assert!(server.seen().is_empty(), "nothing is sent to a server that nobody vouches for");
}

#[tokio::test]
async fn the_state_of_the_box_reaches_the_webhook_after_a_minute() {
    rufus::install_tls();
    let server = Server::start().await;
    let (news, told) = watch::channel(None);
    let (board, stop) = (Board::new("finish"), CancellationToken::new());
    let (webhook, stopping) = (server.webhook(), stop.clone());
    let telling = tokio::spawn(async move { tell(&webhook, &board, told, &stopping).await });
    // The minute passes on a clock that stands still otherwise: the server runs in real time.
    tokio::time::pause();
    for _ in 0..62 {
        news.send_replace(Some(StateNews::example(BoxState::NotReading, "No mat reads.")));
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::resume();
    until("it is told", || server.seen().len() == 1).await;
    news.send_replace(Some(StateNews::example(BoxState::Reading, "mat reads.")));
    until("its end is told", || server.seen().len() == 2).await;
    assert!(server.seen()[1].contains(r#""over":"not-reading""#), "{:?}", server.seen());
    stop.cancel();
    telling.await.unwrap();
}

#[allow(dead_code, clippy::duplicate_mod, reason = "each of its users uses a part of it")]
#[path = "../../../../tests/support/tls_proxy.rs"]
mod front;
