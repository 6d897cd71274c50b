//! Questions at the terminal, and what a question leaves of the terminal when it is interrupted.

use std::io::{self, IsTerminal};

use dialoguer::console::Term;
use dialoguer::{Confirm, Input, Password, Select};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use secrecy::zeroize::Zeroize;

use crate::config::failure::Failure;
use crate::daemon::logging;

/// The state of the terminal when the command began.
pub(super) struct Terminal(Option<Termios>);

impl Terminal {
    pub(super) fn of_this_process() -> Self {
        let stdin = io::stdin();
        Self(if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None })
    }

    /// Does the work, unless Ctrl-C ends it. Then the terminal shows again what is typed, and `state`
    /// says what the interruption leaves.
    pub(super) async fn unless_interrupted<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
        state: &str,
    ) -> Result<T, Failure> {
        let interrupted = tokio::select! {
            done = work => match done {
                // A question that is asked key by key sees the key before the signal comes.
                Err(failure) if failure.exit_code() == INTERRUPTED => true,
                done => return done,
            },
            pressed = tokio::signal::ctrl_c() => pressed.is_ok(),
        };
        debug_assert!(interrupted, "the signal cannot be waited for");
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
            let term = Term::stderr();
            let _ = term.show_cursor().and_then(|()| term.write_line(""));
        }
        Err(Failure::interrupted(format!("interrupted. {state}")))
    }
}

/// The exit code of a command that Ctrl-C ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Asks, and says what happens, on standard error.
pub(super) struct Ask {
    /// Whether somebody is there to answer.
    pub(super) attended: bool,
}

impl Ask {
    pub(super) fn say(&self, line: &str) {
        logging::say(line);
    }

    /// Waits until everything is shown that was said.
    pub(super) fn flush(&self) {
        logging::finish();
    }

    /// Asks for something that is not shown. `None`: nothing was typed.
    pub(super) async fn secret(&self, prompt: &str) -> Result<Option<SecretString>, Failure> {
        let prompt = prompt.to_owned();
        let mut typed = self
            .on_a_thread(move || Password::new().with_prompt(prompt).allow_empty_password(true).report(true).interact())
            .await?;
        let secret = typed.trim();
        let secret = (!secret.is_empty()).then(|| SecretString::from(secret));
        typed.zeroize();
        Ok(secret)
    }

    /// Lets one of `items` be chosen, and returns its place.
    pub(super) async fn choose(&self, prompt: &str, items: Vec<String>, default: usize) -> Result<usize, Failure> {
        let prompt = prompt.to_owned();
        self.on_a_thread(move || {
            Select::new().with_prompt(prompt).items(&items).default(default).report(true).interact()
        })
        .await
    }

    /// Asks for a line that `check` accepts.
    pub(super) async fn line(
        &self,
        prompt: &str,
        default: Option<String>,
        check: impl Fn(&str) -> Result<(), String> + Send + 'static,
    ) -> Result<String, Failure> {
        let prompt = prompt.to_owned();
        self.on_a_thread(move || {
            let mut input =
                Input::<String>::new().with_prompt(prompt).validate_with(move |typed: &String| check(typed.trim()));
            if let Some(default) = default {
                input = input.default(default);
            }
            input.interact_text().map(|typed| typed.trim().to_owned())
        })
        .await
    }

    pub(super) async fn yes(&self, prompt: &str, default: bool) -> Result<bool, Failure> {
        let prompt = prompt.to_owned();
        self.on_a_thread(move || Confirm::new().with_prompt(prompt).default(default).report(true).interact()).await
    }

    /// A question blocks its thread. On a thread of its own it does not keep Ctrl-C from being seen.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.flush();
        let asked = tokio::task::spawn_blocking(question).await;
        let asked = asked.map_err(|error| Failure::io(format!("the question ended by itself: {error}")))?;
        asked.map_err(|dialoguer::Error::IO(error)| match error.kind() {
            io::ErrorKind::Interrupted => Failure::interrupted(String::new()),
            _ => Failure::io(format!("the terminal does not answer: {error}")),
        })
    }
}
