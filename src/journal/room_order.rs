//! An order to make room, from whoever asks to the follower that removes segments.

use serde::Serialize;
use tokio::sync::oneshot;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Freed {
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The oldest entry that is left.
    pub oldest: u64,
}

/// An order to the follower.
pub(super) struct RoomOrder {
    /// Segments that end here or before may go.
    pub through: u64,
    /// What went.
    pub done: Freed,
    /// Receives it.
    pub reply: oneshot::Sender<Freed>,
}
