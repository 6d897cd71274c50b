//! Who is logged in.
//!
//! Must hold:
//! * The cookie holds a random word and nothing of the token. Each login makes a new one, so nobody
//!   can give a browser a word that he knows (session fixation).
//! * A login ends after [`LIFE`], when somebody logs out, when the token of the page changes, and
//!   with the process: logins are only in memory, so that nothing on the card lets anybody in.
//! * Bounded: [`MOST`] logins, and one more replaces the oldest.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::config::same;
use crate::serve::random::{same_word, word};

/// How long a login lasts.
pub(crate) const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most logins at the same time.
const MOST: usize = 32;
/// Most outcomes that are kept for one login.
const OUTCOMES: usize = 24;

/// What became of something that somebody did on the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutcomeLine {
    /// The page on which it is shown.
    pub page: &'static str,
    /// When it ended, or when it began if it is not over.
    pub at: Timestamp,
    /// How it went.
    pub how: How,
    /// What was done, and what became of it.
    pub text: String,
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It is not over.
    Running,
    /// It is done.
    Done,
    /// It was not done, or nobody knows.
    Failed,
}

/// One browser that is logged in.
#[derive(Debug)]
pub(crate) struct Login {
    /// The word that each form of this login carries, and that no other site can know.
    pub csrf: Box<str>,
    outcomes: Mutex<VecDeque<(u64, OutcomeLine)>>,
}

impl Login {
    /// Keeps a line with the number `number`, in the place of an earlier one with that number.
    pub(crate) fn show(&self, number: u64, line: OutcomeLine) {
        let mut kept = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != number);
        if kept.len() >= OUTCOMES {
            kept.pop_front();
        }
        kept.push_back((number, line));
    }

    /// The lines of a page, the newest first.
    pub(crate) fn outcomes(&self, page: &str) -> Vec<OutcomeLine> {
        let kept = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().filter(|(_, line)| line.page == page).map(|(_, line)| line.clone()).collect()
    }
}

#[derive(Debug)]
struct Kept {
    /// The word of the cookie.
    id: Box<str>,
    /// The token that counted at the login.
    token: Arc<SecretString>,
    end: Instant,
    login: Arc<Login>,
}

/// All logins.
#[derive(Debug, Default)]
pub(super) struct Logins(VecDeque<Kept>);

impl Logins {
    /// Begins a login. Returns the word for the cookie.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub(super) fn begin(&mut self, token: &Arc<SecretString>, now: Instant) -> io::Result<Box<str>> {
        let (id, csrf) = (word()?, word()?);
        self.0.retain(|kept| kept.end > now);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        let login = Arc::new(Login { csrf, outcomes: Mutex::default() });
        self.0.push_back(Kept { id: id.clone(), token: Arc::clone(token), end: now + LIFE, login });
        Ok(id)
    }

    /// The login of a cookie, if it counts while the page has this token.
    pub(super) fn get(&self, id: &str, token: &SecretString, now: Instant) -> Option<Arc<Login>> {
        let found = self.0.iter().find(|kept| same_word(&kept.id, id))?;
        let counts = found.end > now && same(token, found.token.expose_secret().as_bytes());
        counts.then(|| Arc::clone(&found.login))
    }

    /// Ends the login of a cookie.
    pub(super) fn end(&mut self, id: &str) {
        self.0.retain(|kept| !same_word(&kept.id, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Arc<SecretString> {
        Arc::new(SecretString::from(text))
    }

    #[test]
    fn a_login_lasts_a_week_and_as_long_as_the_token_is_the_same() {
        let (mut logins, now, sesame) = (Logins::default(), Instant::now(), token("sesame"));
        let id = logins.begin(&sesame, now).unwrap();
        let login = logins.get(&id, &sesame, now).unwrap();
        assert_ne!(*login.csrf, *id);
        assert!(logins.get(&id, &token("sesame"), now).is_some(), "the file was read again");
        assert!(logins.get(&id, &token("another"), now).is_none());
        assert!(logins.get("", &sesame, now).is_none() && logins.get(&id[1..], &sesame, now).is_none());
        assert!(logins.get(&id, &sesame, now + LIFE).is_none());
        logins.end(&id);
        assert!(logins.get(&id, &sesame, now).is_none());
    }

    #[test]
    fn logins_and_their_outcomes_are_bounded_and_the_oldest_goes() {
        let (mut logins, now, sesame) = (Logins::default(), Instant::now(), token("sesame"));
        let ids: Vec<_> = (0..=MOST).map(|_| logins.begin(&sesame, now).unwrap()).collect();
        assert!(logins.get(&ids[0], &sesame, now).is_none());
        let login = logins.get(&ids[1], &sesame, now).unwrap();
        for number in 0..100 {
            let (at, text) = (Timestamp::UNIX_EPOCH, number.to_string());
            login.show(number % 50, OutcomeLine { page: "/x", at, how: How::Done, text });
        }
        let texts: Vec<_> = login.outcomes("/x").into_iter().map(|line| line.text).collect();
        assert_eq!((texts.len(), texts[0].as_str()), (OUTCOMES, "99"));
        assert_eq!(login.outcomes("/y"), []);
    }
}
