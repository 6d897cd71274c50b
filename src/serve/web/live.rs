//! The page, live: one drawing for everybody who looks, and a stream of what changed.
//!
//! Must hold:
//! * It is drawn only while somebody looks, and once for all of them: at most every [`PACE`], at
//!   least once in [`BEAT`].
//! * A stream sends what is newer than what it sent before. A client that reads slowly gets fewer
//!   events, never old ones: the buffer of its connection is small, and nothing is queued here.
//! * Drawing runs beside the tasks of the box and takes no lock of them for longer than a snapshot.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::artist::{Artist, Sources};
use super::frame::PageFrame;
use crate::status::Board;

/// Least time between two drawings.
const PACE: Duration = Duration::from_millis(200);
/// Most time between two drawings. The page says that there is no news after five times that.
const BEAT: Duration = Duration::from_secs(1);
/// A drawing that is not older is good for a first view.
const FRESH: Duration = Duration::from_millis(250);
/// For how long nobody may look before the reads are forgotten.
const REST: Duration = Duration::from_secs(30);

/// The drawing, shared by all who look. Clones share it.
#[derive(Clone)]
pub(super) struct Live {
    board: Board,
    artist: Arc<Mutex<Artist>>,
    drawn: watch::Sender<(Option<Instant>, Arc<PageFrame>)>,
    /// Told when somebody begins to look.
    looks: Arc<Notify>,
    /// Places for streams.
    streams: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Live {
    /// `streams`: the places that all event streams share.
    pub(super) fn new(
        board: Board,
        sources: Sources,
        version: &str,
        streams: Arc<Semaphore>,
        stop: CancellationToken,
    ) -> Self {
        let artist = Artist::new(board.clone(), sources, version);
        let drawn = watch::Sender::new((None, artist.last()));
        Self { board, artist: Arc::new(Mutex::new(artist)), drawn, looks: Arc::default(), streams, stop }
    }

    /// A drawing that is fresh enough for a first view.
    pub(super) async fn frame(&self) -> Arc<PageFrame> {
        let (at, frame) = self.drawn.borrow().clone();
        if at.is_some_and(|at| at.elapsed() < FRESH) {
            return frame;
        }
        self.looks.notify_one();
        self.draw().await
    }

    /// Draws, and shows it to everybody who looks.
    async fn draw(&self) -> Arc<PageFrame> {
        let (artist, drawn) = (Arc::clone(&self.artist), self.drawn.clone());
        let drawing = tokio::task::spawn_blocking(move || {
            let mut artist = artist.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody else may have drawn while this one waited for its turn.
            let (at, frame) = drawn.borrow().clone();
            if at.is_some_and(|at| at.elapsed() < PACE) {
                return frame;
            }
            let frame = artist.draw();
            drawn.send_replace((Some(Instant::now()), Arc::clone(&frame)));
            frame
        });
        match drawing.await {
            Ok(frame) => frame,
            Err(_) => self.drawn.borrow().1.clone(), // the daemon is stopping
        }
    }

    /// The board that is drawn.
    pub(super) fn board(&self) -> &Board {
        &self.board
    }

    /// Draws as long as somebody looks, until the box stops.
    pub(super) async fn run(self) {
        let _ = self.stop.run_until_cancelled(self.keep_drawing()).await;
    }

    async fn keep_drawing(&self) {
        let mut changed = self.board.changed();
        loop {
            if self.drawn.receiver_count() == 0 {
                if timeout(REST, self.looks.notified()).await.is_err() {
                    self.artist.lock().unwrap_or_else(PoisonError::into_inner).rest();
                    self.looks.notified().await;
                }
                continue;
            }
            changed.mark_unchanged();
            self.draw().await;
            sleep(PACE).await;
            let _ = timeout(BEAT - PACE, changed.changed()).await;
        }
    }
}

/// One stream of the page.
struct PageStream {
    drawn: watch::Receiver<(Option<Instant>, Arc<PageFrame>)>,
    /// The number of the last drawing that was sent. 0: none.
    sent: u64,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl PageStream {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.stop.run_until_cancelled(self.drawn.changed()).await?.ok()?;
            let frame = self.drawn.borrow_and_update().1.clone();
            let before = std::mem::replace(&mut self.sent, frame.number);
            if before == frame.number {
                continue;
            }
            let event = match before + 1 == frame.number && before > 0 {
                true => frame.step.to_string(), // as nearly all of them
                false => frame.event_since(before),
            };
            return Some(event.into());
        }
    }
}

/// The stream of the page. The first event has all of it, and each later one what changed.
pub(super) async fn watch_page(State(live): State<Live>) -> Response {
    let Ok(place) = Arc::clone(&live.streams).try_acquire_owned() else { return too_many_streams() };
    let mut drawn = live.drawn.subscribe();
    drawn.mark_changed();
    let fresh = drawn.borrow().0.is_some_and(|at| at.elapsed() < BEAT);
    if !fresh {
        drawn.mark_unchanged(); // what was drawn for somebody else, long ago, is no news
    }
    live.looks.notify_one();
    let first = PageStream { drawn, sent: 0, stop: live.stop.clone(), _place: place };
    let events = stream::unfold(first, |mut watching| async move {
        let event = watching.next().await?;
        Some((Ok::<_, Infallible>(event), watching))
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))];
    (StatusCode::OK, kind, Body::from_stream(events)).into_response()
}

/// The answer when every place for a stream is taken.
pub(super) fn too_many_streams() -> Response {
    let later = [(header::RETRY_AFTER, HeaderValue::from_static("10"))];
    (StatusCode::SERVICE_UNAVAILABLE, later, "too many event streams are open\n").into_response()
}
