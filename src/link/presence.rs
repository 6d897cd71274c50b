//! Whether a decoder is connected and answers. The connections of a decoder begin, send, fall
//! silent and end, and the board shows what that means for the decoder.

use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::connection::End;
use super::decoder::{Decoder, Presence};
use crate::status::{LinkState, ProblemCode};

impl Decoder {
    pub(super) fn state(&self, state: LinkState) {
        self.board.decoder(&self.name, |status| {
            status.state = state;
            status.was_connected |= matches!(state, LinkState::Connected | LinkState::Idle);
        });
    }

    pub(super) fn unreachable(&self, reason: &str, state: LinkState) {
        let next = match state {
            LinkState::Connecting => "Waiting for its software to connect again",
            _ => "Check its power, cable and address; it is tried again by itself",
        };
        let message = format!("`{}` at {}: {reason}. {next}", self.name, self.place);
        self.board.raise(ProblemCode::DecoderUnreachable, &self.name, message);
        self.state(state);
    }

    pub(super) fn presence(&self) -> std::sync::MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was made.
    pub(super) fn on_connected(&self) {
        let mut presence = self.presence();
        presence.up += 1;
        if presence.up == 1 {
            presence.since = Some(Instant::now());
            presence.conditions.values_mut().for_each(|earlier| *earlier = true);
        }
        if presence.doubted {
            return self.state(LinkState::Connecting);
        }
        self.board.clear(ProblemCode::DecoderUnreachable, &self.name);
        let doubtful = presence.silent && presence.up == 1;
        self.state(if doubtful { LinkState::Idle } else { LinkState::Connected });
    }

    /// The decoder works: after a connection that ended at once, the next one has lasted, or it has
    /// delivered a read.
    pub(super) fn works(&self, lasted: bool) {
        let mut presence = self.presence();
        let steady = presence.since.is_some_and(|since| since.elapsed() >= self.limits.steady);
        if presence.doubted && presence.up > 0 && (steady || !lasted) {
            presence.doubted = false;
            self.board.clear(ProblemCode::DecoderUnreachable, &self.name);
            self.state(if presence.silent { LinkState::Idle } else { LinkState::Connected });
        }
    }

    /// The link cannot listen on the port to which the decoder's software is to connect.
    pub(super) fn cannot_listen(&self, error: &io::Error) {
        let (here, other) = (ProblemCode::DecoderPortTaken, ProblemCode::DecoderUnreachable);
        let (code, gone, why) = match error.kind() {
            io::ErrorKind::AddrInUse => {
                (here, other, "another program listens on this port: stop it, or choose another port")
            }
            io::ErrorKind::PermissionDenied => {
                (here, other, "a port below 1024 is not for the user of this service: choose 1024 or above")
            }
            _ => (other, here, "is the address on this box? Look at its network"),
        };
        let message =
            format!("`{}` at {}: cannot listen ({error}); {why}. It is tried again by itself", self.name, self.place);
        // Nobody can connect to this port now, so it is no news that nobody does.
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.board.clear(gone, &self.name);
        self.board.raise(code, &self.name, message);
        self.state(LinkState::Failed);
    }

    /// The link listens on the port. From now on the decoder's software can connect.
    pub(super) fn on_listening(&self) {
        *self.awaited.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.state(LinkState::Connecting);
        self.board.clear(ProblemCode::DecoderUnreachable, &self.name);
        self.board.clear(ProblemCode::DecoderPortTaken, &self.name);
    }

    /// The first byte of a connection arrived, so the decoder is no longer silent.
    pub(super) fn on_first_byte(&self) {
        let mut presence = self.presence();
        if std::mem::take(&mut presence.silent) {
            self.board.clear(ProblemCode::DecoderSilent, &self.name);
            self.state(LinkState::Connected);
        }
    }

    /// A connection ended that was up for the time `up`. `dialled` means that we opened it, so we
    /// also open the next one.
    pub(super) fn on_closed(&self, end: &End, up: Duration, dialled: bool) {
        let mut presence = self.presence();
        presence.up -= 1;
        let alone = presence.up == 0;
        match end {
            End::Stopped | End::Rewind | End::Displaced => {}
            End::Restarted if alone => self.state(LinkState::Connecting),
            End::Restarted => {}
            End::Silent(limit) => {
                let message = format!(
                    "`{}` at {} is connected but has sent nothing for {} s. Look at the decoder: it may be frozen, or \
                     its antenna off",
                    self.name,
                    self.place,
                    limit.as_secs_f32()
                );
                self.board.raise(ProblemCode::DecoderSilent, &self.name, message);
                presence.silent = true;
                if alone {
                    self.state(LinkState::Idle);
                }
            }
            End::Closed | End::Broken(_) | End::NotTaking(_) | End::HungUp(_) if alone => {
                // A decoder that takes a connection and ends it at once does not work, so the next
                // connection alone proves nothing.
                presence.doubted = dialled && (up < self.limits.steady || matches!(end, End::HungUp(_)));
                let state = if dialled { LinkState::Failed } else { LinkState::Connecting };
                self.unreachable(&end.to_string(), state);
            }
            End::Closed | End::Broken(_) | End::NotTaking(_) | End::HungUp(_) => {}
        }
    }
}
