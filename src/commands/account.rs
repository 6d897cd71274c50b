//! What the commands about the account in the cloud share (`device`, `session`, `passings`,
//! `watch`): the client, which device and which session is meant, errors with their exit codes, and
//! the table (`table`).
//!
//! Must hold: nothing here changes anything in the cloud.

pub(crate) mod table;

use std::io::{BufRead, IsTerminal};

use crate::cloud::rufus::account::{Binding, Call, Repeat};
use crate::cloud::rufus::{Bound, CallError, Client, Listed, OutcomeDoubt, SessionInfo};
use crate::commands::args::{Paths, load_right};
pub(crate) use crate::commands::progress::Progress;
use crate::config::Config;
use crate::config::failure::Failure;
use crate::daemon::{self, logging};
use crate::model::clock::Wall;
use crate::model::text;

/// The shortest end of a token or an identity that may stand for the whole of it.
const END_MIN: usize = 6;
/// The longest name of a device or a session that is taken, in characters.
const NAME_MAX: usize = 200;

/// The configuration, and a client for its account.
pub(crate) struct Account {
    /// The configuration.
    pub config: Config,
    /// The cloud with the key of the configuration.
    pub client: Client,
}

impl Account {
    /// Loads the configuration and the key.
    ///
    /// # Errors
    /// Configuration (78): it has a mistake, no `[cloud]`, or no key.
    pub(crate) fn load(place: &Paths) -> Result<Self, Failure> {
        let config = load_right(place, false)?;
        let Some(cloud) = &config.cloud else {
            return Err(Failure::config(format!(
                "{} has no [cloud]: this box has no account in the cloud yet; `passbridge setup` makes one",
                place.config.display()
            )));
        };
        let client = daemon::client(cloud, &config, Wall::default())?;
        Ok(Self { config, client })
    }

    /// The devices that the configuration names. A box may have no decoder yet.
    pub(crate) fn devices(&self) -> Vec<&str> {
        let mut known = self.config.devices();
        if let Some(device) = self.config.cloud.as_ref().and_then(|cloud| cloud.device_id.as_deref()) {
            known.entry(device).or_default();
        }
        known.into_keys().collect()
    }

    /// Returns the device that is meant. `typed` is its identity, the end of it, or nothing if the
    /// configuration names one device only.
    ///
    /// # Errors
    /// Usage (64): no device is typed, and the configuration has several or none. Or the end that
    /// is typed fits several.
    pub(crate) fn device(&self, typed: Option<&str>) -> Result<String, Failure> {
        let known = self.devices();
        let names = || known.iter().map(|id| format!("…{}", text::tail(id))).collect::<Vec<_>>().join(", ");
        let Some(typed) = typed else {
            return match known.as_slice() {
                [one] => Ok((*one).to_owned()),
                [] => Err(Failure::usage("the configuration names no device: say which with --device")),
                _ => Err(Failure::usage(format!("there are several devices: say which with --device ({})", names()))),
            };
        };
        let end = long_enough(typed)?;
        match known.iter().filter(|id| is_end(id, end)).collect::<Vec<_>>().as_slice() {
            [one] => Ok((**one).to_owned()),
            [] => Ok(end.to_owned()), // a device of the account that the configuration does not use
            _ => Err(Failure::usage(format!("`{typed}` is the end of several devices: {}", names()))),
        }
    }

    /// Like [`Account::device`]. A device that the configuration does not name may be typed by its end
    /// too, because the cloud is asked for the devices of the account. A key that may not ask gets the
    /// identity as it is typed.
    ///
    /// # Errors
    /// Usage (64): the account has no such device, or several. Otherwise as [`failure`] says.
    pub(crate) async fn any_device(&self, typed: Option<&str>) -> Result<String, Failure> {
        let id = self.device(typed)?;
        if self.devices().contains(&&*id) {
            return Ok(id);
        }
        let listed = match self.client.devices().await {
            Ok(listed) => listed.all,
            Err(CallError::KeyRefused { .. }) => return Ok(id),
            Err(error) => return Err(failure(error)),
        };
        let ids = listed.into_iter().filter_map(|device| device.id).filter(|known| is_end(known, &id));
        one_of(&ids.collect::<Vec<_>>(), &id)
    }

    /// Like [`Account::any_device`], for what cannot be undone: the device of the configuration is
    /// not preferred if the end that was typed fits several of the account.
    pub(crate) async fn only_device(&self, typed: &str) -> Result<String, Failure> {
        let end = long_enough(typed)?;
        if self.devices().contains(&end) {
            return Ok(end.to_owned()); // the whole identity
        }
        match self.client.devices().await {
            Ok(listed) => {
                let ids = listed.all.into_iter().filter_map(|device| device.id).filter(|known| is_end(known, end));
                one_of(&ids.collect::<Vec<_>>(), end)
            }
            // A key that may only write gets no list, so the whole identity must be typed.
            Err(CallError::KeyRefused { .. }) => Ok(end.to_owned()),
            Err(error) => Err(failure(error)),
        }
    }

    /// Returns the session that is meant: `typed` is its token, or the end of the token of a session
    /// of `device`.
    ///
    /// # Errors
    /// Usage (64): there is no such session, or several. Otherwise as [`failure`] says.
    pub(crate) async fn session(&self, device: &str, typed: &str) -> Result<SessionInfo, Failure> {
        let end = long_enough(typed)?;
        let listed = match self.client.sessions(device).await {
            Ok(listed) => listed,
            // The token may be of another device.
            Err(CallError::DeviceUnknown { .. }) => Listed { all: Vec::new(), cut: false },
            Err(error) => return Err(failure(error)),
        };
        let fitting: Vec<SessionInfo> =
            listed.all.into_iter().filter(|info| is_end(&info.session.token, end)).collect();
        match <[SessionInfo; 1]>::try_from(fitting) {
            Ok([one]) => Ok(one),
            Err(none) if none.is_empty() => match self.client.session_info(end).await.map_err(failure)? {
                Some(info) => Ok(info),
                None if listed.cut => Err(Failure::unavailable(format!(
                    "the cloud did not list all sessions of the device, and `{typed}` is none of those that it did: type the \
                     whole token"
                ))),
                None => Err(Failure::usage(format!(
                    "the cloud has no session `{typed}`; `passbridge session list` shows those of the device"
                ))),
            },
            Err(several) => {
                let aliases = several.iter().map(|info| info.session.alias.as_deref().unwrap_or("without a name"));
                let aliases = aliases.collect::<Vec<_>>().join(", ");
                Err(Failure::usage(format!("`{typed}` is the end of several sessions ({aliases}): type more of it")))
            }
        }
    }
}

/// Returns the device whose identity was typed, or its end.
fn one_of(fitting: &[Box<str>], typed: &str) -> Result<String, Failure> {
    match fitting {
        [one] => Ok(one.to_string()),
        [] => Err(Failure::usage(format!(
            "this key sees no device `{typed}`: it is not there, or of another company; `passbridge device list` shows those \
             that it sees"
        ))),
        several => Err(Failure::usage(format!("`{typed}` is the end of several devices: {}", several.join(", ")))),
    }
}

/// What was typed, without the mark of a cut text before it.
///
/// # Errors
/// Usage (64): it is too short to be an end of an identity or a token.
fn long_enough(typed: &str) -> Result<&str, Failure> {
    let end = typed.trim_start_matches('…');
    match end.chars().count() >= END_MIN {
        true => Ok(end),
        false => Err(Failure::usage(format!(
            "`{typed}` is too short: give at least the last {END_MIN} characters, which `passbridge device list` and \
             `passbridge session list` show"
        ))),
    }
}

/// Checks whether `end` is the whole identity or a usable end of it. Hexadecimal identities are
/// typed in either case.
pub(crate) fn is_end(id: &str, end: &str) -> bool {
    let (id, end) = (id.to_ascii_lowercase(), end.to_ascii_lowercase());
    id == end || (end.chars().count() >= END_MIN && id.ends_with(&end))
}

/// The failure of a command whose call to the cloud did not succeed. Permission (77): the key.
/// Usage (64): what was asked about is not there. Data (65): the cloud refuses the content.
/// Unavailable (69): no answer, or none that counts.
pub(crate) fn failure(error: CallError) -> Failure {
    let message = with_wait(&error.to_string(), error.retry_after().map(|wait| wait.as_secs()));
    match error {
        CallError::KeyRefused { .. } => Failure::permission(message),
        CallError::DeviceUnknown { .. } => {
            Failure::usage(format!("{message}; `passbridge device list` shows the devices that this key may see"))
        }
        CallError::SessionGone { .. } => Failure::usage(message),
        CallError::BadRequest { .. } | CallError::TooLarge { .. } => Failure::data(message),
        CallError::Unknown { why: OutcomeDoubt::Unreadable(_), .. } => {
            Failure::unavailable(format!("{message}; is [cloud].url the address of the RUFUS Cloud?"))
        }
        CallError::NotSent(_) | CallError::Portal | CallError::TooMany { .. } | CallError::Unknown { .. } => {
            Failure::unavailable(message)
        }
    }
}

/// A message about a failed call, with the seconds that the cloud asks to wait.
pub(crate) fn with_wait(why: &str, retry_after_s: Option<u64>) -> String {
    match retry_after_s {
        Some(seconds) => format!("{why}. The cloud asks to wait {seconds} s"),
        None => why.to_owned(),
    }
}

/// Makes a call that changes something. If nobody knows whether it took effect, and a second one does
/// no harm, it is made once more.
pub(crate) async fn make<T>(call: Call, once: impl AsyncFn() -> Result<T, CallError>) -> Result<T, CallError> {
    match once().await {
        Err(CallError::Unknown { .. } | CallError::Portal) if call.repeat() == Repeat::Harmless => once().await,
        other => other,
    }
}

/// Binds a device.
///
/// # Errors
/// As [`failure`] says. If nobody knows whether it was bound, the message says so.
pub(crate) async fn bind(client: &Client, binding: &Binding) -> Result<Bound, Failure> {
    match make(Call::Bind, async || client.bind(binding).await).await {
        Ok(bound) => Ok(bound),
        Err(error @ (CallError::Unknown { .. } | CallError::Portal)) => Err(Failure::unavailable(format!(
            "{error}. Nobody knows whether the device was bound: bind it again with the same serial number, which does no harm"
        ))),
        Err(error) => Err(failure(error)),
    }
}

/// A number of things in words: `1 passing`, `2 passings`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

/// A name for a device or a session, as it is typed.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".to_owned());
    }
    if text.chars().count() > NAME_MAX {
        return Err(format!("must not be longer than {NAME_MAX} characters"));
    }
    Ok(text.to_owned())
}

/// Lets a person agree to what nobody takes back. `ends` says what that is.
///
/// # Errors
/// Usage (64): nobody agreed.
pub(crate) fn agreed(yes: bool, ends: &str, question: &str) -> Result<(), Failure> {
    if yes {
        logging::say(ends);
        return Ok(());
    }
    match typed_answer(&format!("{ends} {question} [y/N]"))? {
        None => Err(Failure::usage(format!("{ends} Nobody can be asked here: add --yes. Nothing was changed"))),
        Some(answer) if matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") => Ok(()),
        Some(_) => Err(Failure::usage("nothing was changed: that needs a y")),
    }
}

/// Reads a line that a person types as the answer to `question`. `None` if nobody can be asked here.
///
/// # Errors
/// I/O (74): the line cannot be read.
pub(crate) fn typed_answer(question: &str) -> Result<Option<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    logging::say(question);
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::io(format!("the answer cannot be read: {error}")))?;
    Ok(Some(answer.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_meant_by_its_end_in_either_case() {
        assert!(is_end("65A1FF115B", "65a1ff115b") && is_end("65A1FF115B", "ff115b"));
        assert!(!is_end("65A1FF115B", "f115b"), "five characters are too few");
        assert!(is_end("abc", "abc") && !is_end("65A1FF115B", "65A1FF"));
    }

    #[test]
    fn a_name_may_hold_quotes_and_emoji_and_is_one_line() {
        assert_eq!(name(" 5K \"Fun\" 🏃 ").unwrap(), "5K \"Fun\" 🏃");
        for wrong in ["", "  ", "a\nb", "\u{1b}[31m", &"x".repeat(201)] {
            assert!(name(wrong).unwrap_err().starts_with("must"), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn only_a_call_that_does_no_harm_twice_is_made_again_after_an_unknown_outcome() {
        for (call, times) in [(Call::Bind, 2), (Call::Unbind, 2), (Call::Close, 2), (Call::Open, 1)] {
            let made = std::cell::Cell::new(0);
            let once = async || {
                made.set(made.get() + 1);
                Err::<(), _>(CallError::Unknown { why: OutcomeDoubt::Timeout, retry_after: None })
            };
            assert!(make(call, once).await.is_err());
            assert_eq!(made.get(), times, "{call:?}");
        }
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let answer: Box<str> = "x".into();
        let code = |error| failure(error).exit_code();
        let fault = crate::cloud::rufus::KeyFault::Rejected;
        assert_eq!(code(CallError::KeyRefused { status: 403, fault, answer: answer.clone() }), 77);
        assert_eq!(code(CallError::DeviceUnknown { answer: answer.clone() }), 64);
        assert_eq!(code(CallError::SessionGone { status: 404, answer: answer.clone() }), 64);
        assert_eq!(code(CallError::BadRequest { status: 400, answer: answer.clone() }), 65);
        assert_eq!(code(CallError::Portal), 69);
        let why = OutcomeDoubt::Unreadable(answer);
        assert_eq!(code(CallError::Unknown { why, retry_after: None }), 69);
    }
}
