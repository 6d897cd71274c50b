//! The places of a listening decoder port, and which connection gives way when all are taken.
//!
//! What must hold:
//! * At most [`CONNECTIONS`] are served, however many arrive. With those that gave way and are still
//!   being closed, at most twice as many are open.
//! * The decoder's software can connect again, whoever has the places: a port scan and a client
//!   that leaks connections are silent, and the software is not.
//! * A connection that speaks is never closed for another one.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::connection::Liveness;
use super::decoder::Decoder;
use crate::status::ProblemCode;

/// Connections that the software of one decoder may have at once.
pub(crate) const CONNECTIONS: usize = 16;

/// A connection that spoke within this time does not give way to another one.
const SPEAKING: Duration = Duration::from_secs(60);

/// How long the board shows that too many connections arrived, counted from the last one too many.
const CROWDED_SHOWN: Duration = Duration::from_secs(60);

/// The connections to a listening port, and whether they are too many.
#[derive(Default)]
pub(super) struct Places {
    open: Vec<Weak<Liveness>>,
    /// When the last connection too many arrived.
    crowded: Option<Instant>,
}

impl Places {
    /// A place for a new connection. `None` if connections that speak have all places.
    pub(super) fn admit(&mut self, decoder: &Decoder, peer: SocketAddr) -> Option<Arc<Liveness>> {
        self.open.retain(|life| life.strong_count() > 0);
        let staying: Vec<Arc<Liveness>> =
            self.open.iter().filter_map(Weak::upgrade).filter(|life| !life.displaced.is_cancelled()).collect();
        if staying.len() >= CONNECTIONS {
            self.crowded = Some(Instant::now());
            let gives_way = gives_way(&staying).filter(|_| self.open.len() < 2 * CONNECTIONS);
            let what =
                if gives_way.is_some() { "the one silent the longest was closed for" } else { "there is no room for" };
            let message = format!(
                "`{}` at {}: {CONNECTIONS} connections are open and more come; {what} {peer}. See what connects there: only \
                 the decoder's software should",
                decoder.name, decoder.place
            );
            decoder.board.raise(ProblemCode::TooManyConnections, &decoder.name, message);
            gives_way?.displaced.cancel();
        }
        let life = Arc::new(Liveness::default());
        self.open.push(Arc::downgrade(&life));
        Some(life)
    }

    /// Called about once a second.
    pub(super) fn calm(&mut self, decoder: &Decoder) {
        if self.crowded.is_some_and(|at| at.elapsed() >= CROWDED_SHOWN) {
            self.crowded = None;
            decoder.board.clear(ProblemCode::TooManyConnections, &decoder.name);
        }
    }
}

/// The oldest connection that never spoke. If all spoke, it is the one that was silent the longest,
/// unless it spoke just now. `lives` is in the order in which the connections arrived.
fn gives_way(lives: &[Arc<Liveness>]) -> Option<&Arc<Liveness>> {
    lives.iter().find(|life| life.heard().is_none()).or_else(|| {
        let silent = |life: &&Arc<Liveness>| life.heard().is_some_and(|heard| heard.elapsed() >= SPEAKING);
        lives.iter().filter(silent).min_by_key(|life| life.heard())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_never_spoke_gives_way_first_then_who_is_silent_longest_and_nobody_who_speaks() {
        let lives: Vec<Arc<Liveness>> = (0..4).map(|_| Arc::default()).collect();
        let at = |given: Option<&Arc<Liveness>>| {
            given.and_then(|given| lives.iter().position(|life| Arc::ptr_eq(life, given)))
        };
        lives[0].speaks();
        assert_eq!(at(gives_way(&lives)), Some(1), "the oldest that never spoke");
        for life in [2, 3, 1] {
            tokio::time::advance(Duration::from_millis(1)).await;
            lives[life].speaks();
        }
        assert_eq!(at(gives_way(&lives)), None, "all spoke just now");
        tokio::time::advance(SPEAKING / 2).await;
        lives[0].speaks();
        tokio::time::advance(SPEAKING / 2).await;
        assert_eq!(at(gives_way(&lives)), Some(2), "the first of those that were silent");
    }
}
