//! Tokens for one use. `passbridge status --qr` shows one as a QR code, and the phone that scans it
//! is logged in. So nobody has to type the token of the page, and the code on a screen is worth
//! nothing some minutes later.
//!
//! Must hold: a token counts once, for [`LIFE`] after it was made, and only in this process. At most
//! [`MOST`] count at the same time: one more replaces the oldest. Only who may use the control
//! socket can have one made.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::random::{same_word, word};

/// How long a token counts.
pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// Most tokens that count at the same time.
const MOST: usize = 8;

/// Tokens, each with the moment at which it ends, the oldest first.
type InviteQueue = VecDeque<(Box<str>, Instant)>;

/// The tokens that count now. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Invites(Arc<Mutex<InviteQueue>>);

/// A token for one use, and the address at which the page listens.
#[derive(Debug)]
pub(crate) struct Invitation {
    /// The token.
    pub token: Box<str>,
    /// The address of the page. An unspecified address (`0.0.0.0`) stands for every address of this
    /// box.
    pub listen: SocketAddr,
}

impl Invites {
    /// Makes a token.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub(crate) fn make(&self, now: Instant) -> io::Result<Box<str>> {
        let token = word()?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(_, end)| *end > now);
        if kept.len() >= MOST {
            kept.pop_front();
        }
        kept.push_back((token.clone(), now + LIFE));
        Ok(token)
    }

    /// Whether the token counts. It goes on counting.
    pub(crate) fn counts(&self, token: &str, now: Instant) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().any(|(known, end)| same_word(known, token) && *end > now)
    }

    /// Whether the token counted. It does not count any more.
    pub(crate) fn take(&self, token: &str, now: Instant) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|(known, _)| same_word(known, token));
        found.and_then(|at| kept.remove(at)).is_some_and(|(_, end)| end > now)
    }

    /// No token counts any more: the token of the page is another one.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_once_and_not_for_long_and_the_oldest_gives_way() {
        let (invites, now) = (Invites::default(), Instant::now());
        let token = invites.make(now).unwrap();
        assert!(invites.counts(&token, now) && invites.counts(&token, now), "looking at it does not use it");
        assert!(invites.take(&token, now) && !invites.take(&token, now) && !invites.counts(&token, now));
        let late = invites.make(now).unwrap();
        assert!(!invites.counts(&late, now + LIFE) && !invites.take(&late, now + LIFE));
        let many: Vec<_> = (0..=MOST).map(|_| invites.make(now).unwrap()).collect();
        assert!(!invites.counts(&many[0], now) && many[1..].iter().all(|token| invites.counts(token, now)));
        invites.forget();
        assert!(!many.iter().any(|token| invites.take(token, now)));
    }
}
