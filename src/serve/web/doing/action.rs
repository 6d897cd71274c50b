//! Each thing that can be done over the page: its form, its question, its outcome in words.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cloud::audit::keep::ResendRange;
use crate::cloud::uplink::{Ends, Outcome, SessionChange, Wanted};
use crate::decoders::Range;
use crate::journal::control::Held;
use crate::model::chip::{Label, Seq};
use crate::model::shown::ShownIn;
use crate::model::text::{printable, tail};
use crate::model::typed::{end_moment, moment};
use crate::serve::ops::{MARKER_MAX, Ops, OpsError, marker_text};
use crate::serve::web::door::form::FormFields;

/// Longest name or text that somebody types, in characters.
const LONGEST: usize = 200;

/// A thing to do, as a form asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PageAction {
    /// Ask a decoder for reads that it has stored.
    Rewind { decoder: String, range: Range },
    /// Upload the reads that are held back.
    LetGo { decoder: Option<String> },
    /// Send again the passings at which the cloud failed.
    TryAgain,
    /// Open a session. The running one ends.
    SessionOpen {
        device: String,
        alias: String,
        /// The running session.
        ends: Option<KnownSession>,
    },
    /// Close the running session.
    SessionClose { device: String, session: KnownSession },
    /// Keep every read, and send none.
    Hold,
    /// End the hold.
    Release { how: Held },
    /// Put a marker with the time of the box.
    Marker { text: String, decoder: Option<String> },
    /// End the connection of a decoder, so that its link reconnects.
    RestartLink { decoder: String },
    /// Take the ticks of all mats away, so that they are checked anew.
    CheckAgain,
    /// Acknowledge a loss.
    Seen { code: String, about: String },
    /// Send passings again that are set aside.
    ReleaseSetAside { ids: Vec<u64> },
    /// Never send passings that are set aside.
    DropSetAside { ids: Vec<u64> },
    /// Remove the oldest files of the log up to an entry.
    MakeRoom { through: Seq },
    /// Send passings again that the cloud lost.
    Resend { device: String, range: ResendRange },
}

/// The running session of a device, as the box knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownSession {
    token: Box<str>,
    alias: String,
}

impl KnownSession {
    fn in_words(&self) -> String {
        format!("“{}” (…{})", printable(&self.alias), tail(&self.token))
    }
}

/// What is asked before something that cannot be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfirmQuestion {
    /// The question.
    pub title: String,
    /// What happens, and to how many.
    pub happens: String,
    /// What stays.
    pub stays: String,
    /// The button that does it.
    pub yes: String,
    /// The button that does nothing.
    pub no: &'static str,
}

/// What is wrong with a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FormMistake {
    /// What is wrong, and what to do.
    pub text: String,
    /// The page of the form.
    pub page: &'static str,
    /// There is no such form.
    pub unknown: bool,
}

const HOLD: &str = "/hold";
const DECODERS: &str = "/decoders";
const SESSIONS: &str = "/sessions";
const CARD: &str = "/card";
const SET_ASIDE: &str = "/set-aside";

impl PageAction {
    /// Understands a form.
    ///
    /// # Errors
    /// What is wrong, in words for the person who sent it.
    pub(super) fn parse(what: &str, form: &FormFields, ops: &Ops) -> Result<Self, FormMistake> {
        let wrong = |page: &'static str| move |text: String| FormMistake { text, page, unknown: false };
        match what {
            "rewind" => rewind(form, ops).map_err(wrong(DECODERS)),
            "let-go" => {
                let all = form.get("decoder").is_empty();
                let decoder = if all { None } else { Some(known_decoder(form, ops).map_err(wrong(SET_ASIDE))?) };
                Ok(Self::LetGo { decoder })
            }
            "try-again" => Ok(Self::TryAgain),
            "check-again" => Ok(Self::CheckAgain),
            "hold" => Ok(Self::Hold),
            "release" => match form.get("send") {
                "all" => Ok(Self::Release { how: Held::Send }),
                "none" => Ok(Self::Release { how: Held::Drop }),
                _ => Err(wrong(HOLD)("Say whether the reads are sent: send=all or send=none.".to_owned())),
            },
            "marker" => marker(form, ops).map_err(wrong(HOLD)),
            "restart-link" => {
                let decoder = known_decoder(form, ops).map_err(wrong(DECODERS))?;
                Ok(Self::RestartLink { decoder })
            }
            "seen" => Ok(Self::Seen { code: form.get("code").to_owned(), about: form.get("about").to_owned() }),
            "release-set-aside" => Ok(Self::ReleaseSetAside { ids: ids(form).map_err(wrong(SET_ASIDE))? }),
            "drop-set-aside" => Ok(Self::DropSetAside { ids: ids(form).map_err(wrong(SET_ASIDE))? }),
            "make-room" => match form.get("through").parse() {
                Ok(through) => Ok(Self::MakeRoom { through: Seq(through) }),
                Err(_) => Err(wrong(CARD)("Say up to which entry. Load the page again.".to_owned())),
            },
            "resend" => resend(form, ops).map_err(wrong(SESSIONS)),
            "session-open" => session_open(form, ops).map_err(wrong(SESSIONS)),
            "session-close" => session_close(form, ops).map_err(wrong(SESSIONS)),
            _ => {
                let text = "This box cannot do that. The page may be of an older version: load it again.".to_owned();
                Err(FormMistake { text, page: DECODERS, unknown: true })
            }
        }
    }

    /// The page that has the form, and shows the outcome.
    pub(super) fn page(&self) -> &'static str {
        match self {
            Self::Rewind { .. } | Self::RestartLink { .. } => DECODERS,
            Self::LetGo { .. } | Self::TryAgain | Self::ReleaseSetAside { .. } | Self::DropSetAside { .. } => SET_ASIDE,
            Self::SessionOpen { .. } | Self::SessionClose { .. } | Self::Resend { .. } => SESSIONS,
            Self::Hold | Self::Release { .. } | Self::Marker { .. } => HOLD,
            Self::Seen { .. } | Self::MakeRoom { .. } => CARD,
            Self::CheckAgain => "/gun",
        }
    }

    /// What is done, in words that begin an outcome.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Rewind { decoder, range } if range.is_whole() => {
                format!("Fetch the file {} of {decoder} again", range.file.as_ref().map_or_else(String::new, label))
            }
            Self::Rewind { decoder, range } => {
                format!("Fetch reads {} to {} of {decoder} again", range.from, range.to)
            }
            Self::LetGo { decoder: Some(decoder) } => format!("Upload the reads of {decoder} that are held back"),
            Self::LetGo { decoder: None } => "Upload all reads that are held back".to_owned(),
            Self::TryAgain => "Send passings again at which the cloud failed".to_owned(),
            Self::SessionOpen { device, alias, .. } => {
                format!("Open the session “{}” of device …{}", printable(alias), tail(device))
            }
            Self::Marker { text, .. } => format!("Put the marker “{}”", printable(text)),
            Self::RestartLink { decoder } => format!("Reconnect to {decoder}"),
            Self::Seen { code, about } => {
                format!("Seen: {} {}", printable(code), printable(about)).trim_end().to_owned()
            }
            Self::ReleaseSetAside { ids } => format!("Try passings again that are set aside: {}", some(ids)),
            Self::DropSetAside { ids } => format!("Drop passings that are set aside: {}", some(ids)),
            Self::MakeRoom { through } => format!("Make room up to entry {}", through.0),
            Self::Resend { device, range } => {
                format!("Send again what the cloud lost of device …{}, {}", tail(device), range.in_words())
            }
            Self::CheckAgain => "Check all mats anew".to_owned(),
            Self::Hold => "Put the box on hold".to_owned(),
            Self::Release { how: Held::Send } => "Release the hold and send the reads".to_owned(),
            Self::Release { how: Held::Drop } => "Release the hold and send none".to_owned(),
            Self::SessionClose { device, session } => {
                format!("Close the session {} of device …{}", session.in_words(), tail(device))
            }
        }
    }

    /// The question before it, if it cannot be taken back.
    pub(super) fn question(&self, ops: &Ops) -> Option<ConfirmQuestion> {
        match self {
            Self::Rewind { .. } | Self::TryAgain | Self::Hold | Self::SessionOpen { ends: None, .. } => None,
            Self::Marker { .. } | Self::RestartLink { .. } | Self::Seen { .. } => None,
            Self::ReleaseSetAside { .. } | Self::Resend { .. } => None,
            Self::CheckAgain => Some(ConfirmQuestion {
                title: "Check all mats anew?".to_owned(),
                happens: "All ticks are taken away, for everybody who looks.".to_owned(),
                stays: "No read changes.".to_owned(),
                yes: "Yes, start again".to_owned(),
                no: "No, keep the ticks",
            }),
            Self::DropSetAside { ids } => Some(ConfirmQuestion {
                title: format!("Drop {} passings?", ids.len()),
                happens: format!("{} passings never go to the cloud.", ids.len()),
                stays: "Their reads stay on this box and in every export, with the reason.".to_owned(),
                yes: format!("Yes, drop {}", ids.len()),
                no: "No, keep them set aside",
            }),
            Self::MakeRoom { through } => Some(ConfirmQuestion {
                title: "Remove the oldest files of the log?".to_owned(),
                happens: format!(
                    "The files up to entry {} are removed from this box. Nobody gets them back, unless you have downloaded \
                     the backup before.",
                    through.0
                ),
                stays: "No file goes that has a read which is not in the cloud yet. All newer files stay.".to_owned(),
                yes: "Yes, remove them".to_owned(),
                no: "No, keep them",
            }),
            // Nothing is lost by it, and it must be quick before the gun.
            Self::Release { how: Held::Send } => None,
            Self::Release { how: Held::Drop } => {
                let count = ops.status().hold.map_or(0, |hold| hold.reads);
                Some(ConfirmQuestion {
                    title: format!("Send none of the {count}?"),
                    happens: format!("The {count} reads since the hold began never go to a session."),
                    stays: "They stay on this box and in every export, with the reason.".to_owned(),
                    yes: "Yes, send none".to_owned(),
                    no: "No, go on holding",
                })
            }
            Self::LetGo { .. } => {
                let count = ops.status().journal.reads.map_or(0, |reads| reads.held_back);
                Some(ConfirmQuestion {
                    title: "Upload reads that are held back?".to_owned(),
                    happens: format!(
                        "{count} reads are held back, because they may be of another race. They become passings \
                                      of the session that is open, and nobody can take them back from here."
                    ),
                    stays: "All reads stay on this box.".to_owned(),
                    yes: "Yes, upload them".to_owned(),
                    no: "No, keep holding them back",
                })
            }
            Self::SessionOpen { alias, ends: Some(ends), .. } => Some(ConfirmQuestion {
                title: format!("Open “{}”?", printable(alias)),
                happens: format!("The running session {} ends for ever.", ends.in_words()),
                stays:
                    "What waits goes into the running session first. What is read from then on goes into the new one."
                        .to_owned(),
                yes: format!("Yes, open “{}”", printable(alias)),
                no: "No, keep the running session",
            }),
            Self::SessionClose { session, .. } => Some(ConfirmQuestion {
                title: format!("Close {}?", session.in_words()),
                happens: "The session ends for ever. Until another one is open, nothing is uploaded.".to_owned(),
                stays: "What waits goes into it first. What is read from then on stays safe on this box.".to_owned(),
                yes: "Yes, close it".to_owned(),
                no: "No, keep it open",
            }),
        }
    }

    /// Whether whoever carries it out writes it into the log.
    pub(super) fn notes_itself(&self) -> bool {
        !matches!(self, Self::Rewind { .. } | Self::LetGo { .. } | Self::TryAgain | Self::CheckAgain)
    }

    /// Does it. Returns what became of it, in words.
    ///
    /// # Errors
    /// Why it was not done, or not for sure.
    pub(super) async fn run(self, ops: &Ops, by: &str) -> Result<String, String> {
        match self {
            Self::Rewind { decoder, range } => {
                let asked = ops.rewind(&decoder, &range).await.map_err(|error| error.to_string());
                asked
                    .map(|()| "the decoder was asked. New reads are uploaded, known ones are not sent twice".to_owned())
            }
            Self::LetGo { decoder } => {
                let count = ops.let_go(decoder.as_deref()).await.map_err(said)?;
                Ok(format!("{count} reads are on their way"))
            }
            Self::TryAgain => Ok(match ops.try_again() {
                0 => "there are none".to_owned(),
                count => format!("{count} passings are tried again"),
            }),
            Self::Marker { text, decoder } => {
                let marked = ops.marker(&text, decoder.as_deref(), by).await.map_err(said)?;
                let time = ShownIn::of_the_box().milli(marked.at);
                Ok(format!("it has the time {time}, entry {}", marked.seq.0))
            }
            Self::RestartLink { decoder } => {
                let done = ops.restart_link(&decoder, by).await.map_err(|error| error.to_string());
                done.map(|()| "the connection was ended, and the box reconnects".to_owned())
            }
            Self::Seen { code, about } => {
                let done = ops.seen(&code, &about, by).await.map_err(said);
                done.map(|()| "it is not shown any more".to_owned())
            }
            Self::ReleaseSetAside { ids } => {
                let count = ops.release_set_aside(&ids, by).await.map_err(said)?;
                Ok(format!("{count} passings are tried again"))
            }
            Self::DropSetAside { ids } => {
                let count = ops.drop_set_aside(&ids, by).await.map_err(said)?;
                Ok(format!("{count} passings are never sent"))
            }
            Self::MakeRoom { through } => {
                let freed = ops.make_room(through, by).await.map_err(said)?;
                Ok(format!("{} files with {} MB were removed", freed.segments, freed.bytes / 1_000_000))
            }
            Self::Resend { device, range } => match ops.resend(&device, range, by).await.map_err(said)? {
                0 => Ok("the cloud has all of them".to_owned()),
                count => {
                    Ok(format!("{count} passings that the cloud did not have were sent again, under the same numbers"))
                }
            },
            Self::CheckAgain => {
                ops.check_again();
                Ok("pass a chip over each mat".to_owned())
            }
            Self::Hold => {
                ops.hold(by).await.map_err(said)?;
                Ok("every read is kept, and nothing new goes to the cloud until the hold is released".to_owned())
            }
            Self::Release { how } => {
                let count = ops.release(how, by).await.map_err(said)?;
                let what = if how == Held::Send { "are sent" } else { "stay on this box and are not sent" };
                Ok(format!("{count} reads {what}"))
            }
            Self::SessionOpen { device, alias, ends } => {
                let ends = ends.map_or(Ends::Nothing, |known| Ends::Session(known.token));
                told(ops.session(&device, Wanted::Open { alias: alias.into(), ends }, by).await)
            }
            Self::SessionClose { device, session } => {
                told(ops.session(&device, Wanted::Close { token: session.token }, by).await)
            }
        }
    }
}

/// The first of some numbers, and how many there are.
fn some(ids: &[u64]) -> String {
    let first: Vec<String> = ids.iter().take(8).map(u64::to_string).collect();
    let more = if ids.len() > first.len() { format!(" and {} more", ids.len() - first.len()) } else { String::new() };
    first.join(", ") + &more
}

fn said(error: OpsError) -> String {
    error.to_string()
}

fn label(label: &Label) -> String {
    match label {
        Label::Number(number) => number.to_string(),
        Label::Text(text) => printable(text),
    }
}

/// What became of an order about a session.
fn told(done: Result<SessionChange, OpsError>) -> Result<String, String> {
    let SessionChange { outcome, left, on_their_way } = done.map_err(said)?;
    let whither = if matches!(outcome, Outcome::Opened { .. }) { "the new" } else { "the next" };
    let mut rest = String::new();
    if left > 0 {
        rest += &format!(" {left} reads that waited go into {whither} session.");
    }
    if on_their_way > 0 {
        rest += &format!(" {on_their_way} passings are looked for in the session before.");
    }
    match outcome {
        Outcome::Opened { before: Some(before), .. } => {
            let alias = before.alias.as_deref().unwrap_or("without a name");
            Ok(format!("it is open. “{}” (…{}) has ended.{rest}", printable(alias), tail(&before.token)))
        }
        Outcome::Opened { before: None, .. } => Ok(format!("it is open.{rest}")),
        Outcome::Closed { .. } => Ok(format!("it is closed.{rest}")),
        Outcome::Failed(error) => Err(format!("nothing was changed: {error}")),
        Outcome::Other(other) => {
            let alias = other.alias.as_deref().unwrap_or("without a name");
            let token = tail(&other.token);
            Err(format!(
                "nothing was changed: another session is running, “{}” (…{token}). Look again",
                printable(alias)
            ))
        }
        Outcome::Unknown { error, .. } => Err(format!(
            "nobody knows whether it was done: {error}. Look at the session again in a minute before you repeat it"
        )),
    }
}

/// A decoder that a form names.
fn known_decoder(form: &FormFields, ops: &Ops) -> Result<String, String> {
    let name = form.get("decoder");
    let known = ops.status().decoders.iter().any(|decoder| decoder.name == name);
    match known {
        true => Ok(name.to_owned()),
        false => Err(format!("This box has no decoder “{}”. Load the page again.", printable(name))),
    }
}

fn rewind(form: &FormFields, ops: &Ops) -> Result<PageAction, String> {
    let decoder = known_decoder(form, ops)?;
    let number = |name: &str, label: &str| {
        let text = form.get(name);
        text.parse::<u64>().map_err(|_| {
            format!("{label}: “{}” is not a number. Give the decoder's own number of the read.", printable(text))
        })
    };
    let optional = |name: &str| (!form.get(name).is_empty()).then(|| form.get(name));
    let (from, to) = match (optional("from"), optional("to"), optional("file")) {
        (None, None, Some(_)) => Range::WHOLE,
        _ => (number("from", "First number")?, number("to", "Last number")?),
    };
    let file = optional("file").map(|file| match file.parse() {
        Ok(number) => Label::Number(number),
        Err(_) => Label::Text(file.into()),
    });
    let range = Range { unit: optional("unit").map(Into::into), file, from, to };
    range.check().map_err(|why| format!("This range cannot be asked for: {why}."))?;
    Ok(PageAction::Rewind { decoder, range })
}

/// The device that a form names, and its running session.
fn device(form: &FormFields, ops: &Ops) -> Result<(String, Option<KnownSession>), String> {
    let status = ops.status();
    let found = status.uploads.into_iter().find(|upload| upload.device_id == form.get("device"));
    let upload = found.ok_or("This box does not upload to that device. Load the page again.")?;
    let session = upload.session.map(|session| KnownSession {
        alias: session.alias.unwrap_or_else(|| "without a name".to_owned()),
        token: session.token,
    });
    let (shown, now) = (form.get("shown"), session.as_ref().map_or_else(String::new, |known| tail(&known.token)));
    if shown == now {
        return Ok((upload.device_id, session));
    }
    Err(match &session {
        Some(session) => {
            format!("Another session is running now: {}. Nothing was changed. Look again.", session.in_words())
        }
        None => "The session that you saw is not running any more. Nothing was changed. Look again.".to_owned(),
    })
}

fn session_open(form: &FormFields, ops: &Ops) -> Result<PageAction, String> {
    let (device, ends) = device(form, ops)?;
    let alias = name(form.get("alias"))?;
    Ok(PageAction::SessionOpen { device, alias, ends })
}

fn session_close(form: &FormFields, ops: &Ops) -> Result<PageAction, String> {
    let (device, session) = device(form, ops)?;
    let session = session.ok_or("No session is running, so there is none to close.")?;
    Ok(PageAction::SessionClose { device, session })
}

/// A name that somebody types.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("Give the new session a name.".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("A name is one line without control characters.".to_owned());
    }
    if text.chars().count() > LONGEST {
        return Err(format!("A name has at most {LONGEST} characters."));
    }
    Ok(text.to_owned())
}

fn marker(form: &FormFields, ops: &Ops) -> Result<PageAction, String> {
    let text = marker_text(form.get("text"))
        .ok_or_else(|| format!("A marker needs a text of 1 to {MARKER_MAX} characters, such as “gun”."))?;
    let decoder = match form.get("decoder") {
        "" => None,
        _ => Some(known_decoder(form, ops)?),
    };
    Ok(PageAction::Marker { text, decoder })
}

/// The passings that a form names.
fn ids(form: &FormFields) -> Result<Vec<u64>, String> {
    let ids: Result<Vec<u64>, _> = form.all("id").map(str::parse).collect();
    match ids {
        Ok(ids) if ids.is_empty() => Err("Choose at least one passing.".to_owned()),
        Ok(ids) => Ok(ids),
        Err(_) => Err("This list is not one of this page. Load it again.".to_owned()),
    }
}

fn resend(form: &FormFields, ops: &Ops) -> Result<PageAction, String> {
    let device = form.get("device");
    if !ops.status().uploads.iter().any(|upload| upload.device_id == device) {
        return Err("This box does not upload to that device. Load the page again.".to_owned());
    }
    let range = match (form.get("from").parse(), form.get("to").parse()) {
        (Ok(first), Ok(last)) if last < first => return Err("The last number is below the first.".to_owned()),
        (Ok(first), Ok(last)) => ResendRange { numbers: Some((first, last)), ..ResendRange::default() },
        _ => window(form)?,
    };
    Ok(PageAction::Resend { device: device.to_owned(), range })
}

/// The passings of a time, as somebody types it.
fn window(form: &FormFields) -> Result<ResendRange, String> {
    let (zone, now) = (TimeZone::system(), Timestamp::now());
    let wrong = |label: &str, text: &str, must: &str| {
        format!("{label}: “{}” must be a number of a passing, or {must}.", printable(text))
    };
    let (from, to) = (form.get("from"), form.get("to"));
    let begin = moment(from, &zone, now).map_err(|must| wrong("From", from, &must))?;
    let end = match to {
        "" => None,
        _ => Some(end_moment(to, Some(begin), &zone, now).map_err(|must| wrong("To", to, &must))?),
    };
    if end.is_some_and(|end| end <= begin) {
        return Err("The end is not after the beginning.".to_owned());
    }
    Ok(ResendRange { from: Some(begin), to: end, ..ResendRange::default() })
}
