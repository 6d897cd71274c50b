//! The faults on the way from a simulated decoder to the box.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::decoders::simulator::outgoing::Outgoing;

/// What goes wrong between a decoder and the box. Counted in frames sent on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// Before every `every`-th frame comes noise that is none.
    Garbage {
        /// From 1.
        every: u64,
    },
    /// The connection is cut in the middle of every `every`-th frame.
    Cut {
        /// From 1.
        every: u64,
    },
    /// Every `every`-th frame is sent twice.
    Duplicate {
        /// From 1.
        every: u64,
    },
    /// Each byte is written for itself.
    Bytewise,
    /// Once, after `after` frames, the link stays open and nothing moves for `pause`.
    Freeze {
        /// Frames before it.
        after: u64,
        /// How long.
        pause: Duration,
    },
}

/// The sending half's faults on one connection.
pub(super) struct Faults<'a> {
    faults: &'a [WireFault],
    noise: Vec<u8>,
    /// The freeze has happened (it happens once for the decoder, not for each connection).
    frozen: &'a AtomicBool,
    frames: u64,
}

impl<'a> Faults<'a> {
    pub(super) fn new(faults: &'a [WireFault], noise: Vec<u8>, frozen: &'a AtomicBool) -> Self {
        Self { faults, noise, frozen, frames: 0 }
    }

    /// Writes the frames and empties `out`. An error also where a fault cuts the connection.
    pub(super) async fn write<W: AsyncWrite + Unpin>(&mut self, wire: &mut W, out: &mut Outgoing) -> io::Result<()> {
        if self.faults.is_empty() {
            wire.write_all(out.bytes()).await?;
        } else {
            for frame in out.frames() {
                self.frame(wire, frame).await?;
            }
        }
        out.clear();
        wire.flush().await
    }

    async fn frame<W: AsyncWrite + Unpin>(&mut self, wire: &mut W, frame: &[u8]) -> io::Result<()> {
        self.frames += 1;
        let turn = |every: u64| self.frames.is_multiple_of(every.max(1));
        let mut bytes = Vec::with_capacity(2 * frame.len());
        let mut cut = false;
        let mut bytewise = false;
        for fault in self.faults {
            match *fault {
                WireFault::Garbage { every } if turn(every) => bytes.extend_from_slice(&self.noise),
                WireFault::Duplicate { every } if turn(every) => bytes.extend_from_slice(frame),
                WireFault::Cut { every } => cut |= turn(every),
                WireFault::Bytewise => bytewise = true,
                WireFault::Freeze { after, pause } if self.frames > after => {
                    if !self.frozen.swap(true, Ordering::Relaxed) {
                        tokio::time::sleep(pause).await;
                    }
                }
                WireFault::Garbage { .. } | WireFault::Duplicate { .. } | WireFault::Freeze { .. } => {}
            }
        }
        bytes.extend_from_slice(if cut { &frame[..frame.len() / 2] } else { frame });
        for piece in bytes.chunks(if bytewise { 1 } else { bytes.len().max(1) }) {
            wire.write_all(piece).await?;
            wire.flush().await?;
        }
        if cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}
