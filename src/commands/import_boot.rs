//! `import-boot`: takes the configuration and the key over from the boot partition, for a box without
//! screen and keyboard. It runs once at each boot, before the service.
//!
//! What must hold:
//! * **Checked first.** What is there is taken over as a whole, or not at all. If it is refused, what
//!   the box had stays in force, and a file beside it says which line is wrong and what to do.
//! * **A power cut costs nothing.** The steps ([`Step`]) are in an order in which every beginning of
//!   them can be followed by all of them again: first the box has the new files, then the partition
//!   is tidied up. The key is on the box, durably, before it is removed from the partition.
//! * **The service starts in any case.** A refusal has an exit code of its own, so that whoever looks
//!   sees it (`systemctl status passbridge-import-boot`). The unit is only ordered before the service
//!   and not required by it, so a failure keeps nothing from starting.
//!
//! A memory card may keep the old content of a sector that is written over. So the key is written over
//! and removed as far as a program can do it, and the documents say that.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::OFlags;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::commands::files;
use crate::config::edit::ConfigText;
use crate::config::failure::Failure;
use crate::config::replace::{FileRights, replace, sync_dir};
use crate::config::{self, Part};
use crate::daemon::logging;
use crate::model::text::printable;

/// Where a Raspberry Pi has its boot partition: newer systems first.
const PLACES: [&str; 2] = ["/boot/firmware", "/boot"];
const CONFIG: &str = "passbridge.toml";
const KEY: &str = "passbridge.key";
const ERROR: &str = "passbridge-error.txt";
/// Behind the name of a file that was taken over.
const TAKEN: &str = ".taken-over";
/// A configuration is written by hand, so a file that is larger than this is another file.
const CONFIG_LIMIT: u64 = 1 << 20;
/// A key has a few dozen characters.
const KEY_LIMIT: u64 = 4096;
/// A key has at least so many characters.
const KEY_MIN: usize = 12;

/// `import-boot`
#[derive(Debug, Args)]
pub(crate) struct ImportBootArgs {
    /// The configuration that is replaced. The key's file is where this or the new configuration
    /// says, else `api_key` beside it.
    #[arg(long, value_name = "FILE", default_value = "/etc/passbridge/passbridge.toml")]
    config: PathBuf,
    /// The boot partition. Without it the first of /boot/firmware and /boot that has one of the files.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

/// Takes the files over, or says on the partition why not.
///
/// # Errors
/// 64: `--from` names no directory. 78: the configuration is refused. 65: the key is refused. 74: a file
/// cannot be read or written.
pub(crate) fn run(args: &ImportBootArgs) -> Result<(), Failure> {
    let file = std::path::absolute(&args.config)
        .map_err(|error| Failure::usage(format!("--config {}: {error}", args.config.display())))?;
    let places: Vec<PathBuf> = match &args.from {
        Some(place) if !place.is_dir() => {
            return Err(Failure::usage(format!("--from {}: there is no such directory", place.display())));
        }
        Some(place) => vec![place.clone()],
        None => PLACES.iter().map(PathBuf::from).collect(),
    };
    let where_to =
        args.from.as_ref().map_or("on the boot partition".to_owned(), |place| format!("in {}", place.display()));
    let Some(place) = places.into_iter().find(|place| Boot(place.clone()).has_something()) else {
        logging::say(&format!("passbridge: there is no {CONFIG} and no {KEY} {where_to}"));
        return Ok(());
    };
    let boot = Boot(place);
    boot.finish_the_last_one();
    let taken = boot.offer(&file).and_then(|offer| match offer {
        Some(offer) => {
            let has_key = offer.key.is_some();
            offer.plan(&file, has_key)?.carry_out(&boot).map(Some)
        }
        None => boot.forget_the_error().map(|()| None),
    });
    match taken {
        Ok(None) => Ok(()),
        Ok(Some(what)) => {
            logging::say(&format!("passbridge: took {what} over from {}", boot.0.display()));
            if boot.at(ERROR).is_file() {
                logging::say(&format!("passbridge: something is still missing: see {}", boot.at(ERROR).display()));
            }
            Ok(())
        }
        Err(refusal) => Err(boot.tell(&refusal)),
    }
}

/// Why nothing was taken over.
#[derive(Debug)]
struct Refusal {
    /// One sentence for each mistake.
    what: Vec<String>,
    /// What to do about it.
    cure: &'static str,
    failure: fn(String) -> Failure,
}

const CORRECT: &str = "Correct it on this card, put the card into the box and switch the box on again.";
const LATER: &str = "If it happens again, the disk of the box is full, broken or read-only.";

impl Refusal {
    fn of_config(what: Vec<String>) -> Self {
        Self { what, cure: CORRECT, failure: |text| Failure::config(text) }
    }

    fn of_key(what: String) -> Self {
        Self { what: vec![what], cure: CORRECT, failure: |text| Failure::data(text) }
    }

    /// Both, so that a person corrects everything at once.
    fn and(mut self, other: Self) -> Self {
        self.what.extend(other.what);
        Self { cure: if other.cure == CORRECT { CORRECT } else { self.cure }, ..self }
    }

    fn of_io(what: String) -> Self {
        Self { what: vec![what], cure: LATER, failure: |text| Failure::io(text) }
    }
}

/// The boot partition.
struct Boot(PathBuf);

impl Boot {
    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn has_something(&self) -> bool {
        let named = [CONFIG, KEY].iter().flat_map(|name| [(*name).to_owned(), format!("{name}.txt")]);
        let others = [ERROR.to_owned(), format!("{KEY}{TAKEN}")];
        named.chain(others).any(|name| self.at(&name).is_file())
    }

    /// What is on the partition to be taken over into `file`, if there is anything. A refusal names the
    /// mistakes of both files.
    fn offer(&self, file: &Path) -> Result<Option<Offer>, Refusal> {
        match (self.config(), self.key()) {
            (Ok(None), Ok(None)) => Ok(None),
            (Ok(config), Ok(key)) => Ok(Some(Offer { config, key })),
            (Ok(config @ Some(_)), Err(no_key)) => {
                // The key is there, and it is wrong, so it is not called missing as well.
                match (Offer { config, key: None }).plan(file, true) {
                    Err(mistakes) => Err(mistakes.and(no_key)),
                    Ok(_) => Err(no_key),
                }
            }
            (Err(no_config), Err(no_key)) => Err(no_config.and(no_key)),
            (Err(refusal), Ok(_)) | (Ok(None), Err(refusal)) => Err(refusal),
        }
    }

    fn config(&self) -> Result<Option<String>, Refusal> {
        self.must_be_named(CONFIG)?;
        let Some(bytes) = self.read(CONFIG, CONFIG_LIMIT)? else { return Ok(None) };
        text(&bytes).map(Some).map_err(|what| Refusal::of_config(vec![format!("{CONFIG}: {what}")]))
    }

    fn key(&self) -> Result<Option<SecretString>, Refusal> {
        self.must_be_named(KEY)?;
        let Some(bytes) = self.read(KEY, KEY_LIMIT)? else { return Ok(None) };
        let key = config::secret_of(&bytes).map_err(|why| Refusal::of_key(format!("{KEY}: {why}")))?;
        match no_key(key.expose_secret()) {
            Some(why) => Err(Refusal::of_key(format!("{KEY}: {why}."))),
            None => Ok(Some(key)),
        }
    }

    /// Notepad adds an ending to a name, and Windows hides it.
    fn must_be_named(&self, name: &str) -> Result<(), Refusal> {
        let with_ending = format!("{name}.txt");
        if self.at(name).is_file() || !self.at(&with_ending).is_file() {
            return Ok(());
        }
        Err(Refusal::of_config(vec![format!(
            "{with_ending} must be named {name}, without .txt at the end. Windows shows the endings of names when View > \
             Show > File name extensions is on."
        )]))
    }

    /// The content of a file, which may hold a key. `None`: there is no such file.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Refusal> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LIMIT as usize + 1));
        let place = self.at(name);
        match fs::symlink_metadata(&place) {
            Ok(meta) if !meta.is_file() => {
                return Err(Refusal::of_config(vec![format!(
                    "{name}: it is no file but a link, a folder or something else. Put the file itself there."
                )]));
            }
            _ => {}
        }
        let read =
            open_file(&place, File::options().read(true)).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        match read {
            Ok(length) if length as u64 > limit => {
                Err(Refusal::of_config(vec![format!("{name}: it is larger than {limit} bytes, so it is another file")]))
            }
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Refusal::of_io(format!("{name} cannot be read: {error}."))),
        }
    }

    /// Removes the key of the last time, if the power failed before it was removed.
    fn finish_the_last_one(&self) {
        let left = self.at(&format!("{KEY}{TAKEN}"));
        if left.is_file()
            && let Err(error) = overwrite(&left).and_then(|()| self.remove(&left))
        {
            logging::complain(&format!("passbridge: {} cannot be removed: {error}", left.display()));
        }
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        fs::remove_file(file)?;
        sync_dir(&self.0)
    }

    fn forget_the_error(&self) -> Result<(), Refusal> {
        match self.remove(&self.at(ERROR)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Refusal::of_io(format!("{ERROR} cannot be removed: {error}.")))
            }
            _ => Ok(()),
        }
    }

    /// Writes a file for a person at a Windows laptop.
    fn note(&self, text: &str) -> io::Result<()> {
        let text = format!("{}\r\n", text.replace('\n', "\r\n"));
        // A FAT partition keeps no rights, and a note needs none.
        replace(&self.at(ERROR), text.as_bytes(), FileRights { mode: 0o644, owner: None })
    }

    /// Says on the partition why nothing was taken over, and gives the failure for the exit code.
    fn tell(&self, refusal: &Refusal) -> Failure {
        let what: Vec<String> = refusal.what.iter().map(|line| printable(line)).collect();
        let text = format!(
            "passbridge did not take over what is on this card. The box goes on with what it had before.\n\n{}\n\n{}",
            what.join("\n"),
            refusal.cure
        );
        if let Err(error) = self.note(&text) {
            logging::complain(&format!("passbridge: {} cannot be written: {error}", self.at(ERROR).display()));
        }
        (refusal.failure)(format!("nothing was taken over from {}: {}", self.0.display(), what.join("; ")))
    }
}

/// The text of a configuration as it is kept: without the mark that Notepad puts at its beginning,
/// and with the line ends of this system.
fn text(bytes: &[u8]) -> Result<String, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("it is saved as Unicode (UTF-16). Save it with the encoding UTF-8".to_owned());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.replace("\r\n", "\n")),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            Err(format!("line {line} is no UTF-8 text. Save it with the encoding UTF-8"))
        }
    }
}

/// What a person put on the partition.
struct Offer {
    config: Option<String>,
    key: Option<SecretString>,
}

impl Offer {
    /// Checks everything, and gives the steps that are left to do. With `has_key`, a key is on the
    /// partition.
    fn plan(self, file: &Path, has_key: bool) -> Result<Plan, Refusal> {
        let shown = file.display().to_string();
        let here = |error: &config::ConfigError| on_the_card(&shown, &error.to_string());
        let had = fs::read_to_string(file).ok();
        let named = match (&self.config, &had) {
            (Some(text), _) => ConfigText::parse(file, text).map_err(|error| Refusal::of_config(vec![here(&error)]))?,
            // A mistake in the box's own file is no reason to refuse a key.
            (None, Some(text)) => ConfigText::parse(file, text).unwrap_or_else(|_| ConfigText::new()),
            (None, None) => ConfigText::new(),
        };
        let mut text = named.clone();
        let key_file = files::key_file(file, &mut text);
        let mut warnings = Vec::new();
        if let Some(given) = &self.config {
            let load = |text: &str| files::load(file, text, has_key, &[Part::Key]);
            let loaded = load(&text.to_string()).map_err(|wrong| {
                // The lines are told as they are on the card, where the line of the key's file is not added.
                let mut what: Vec<String> = load(given).err().unwrap_or(wrong).iter().map(here).collect();
                if !has_key && text.has("cloud") && config::reread_secret(&key_file).is_err() {
                    what.push(format!(
                        "The box has no API key: put it, and nothing else, into a file {KEY} on this card."
                    ));
                }
                Refusal::of_config(what)
            })?;
            let missing = loaded.config.faults.iter().filter(|fault| fault.part == Part::Key);
            warnings.extend(missing.map(|fault| here(&fault.error)));
        }
        let new = (self.config.is_some() || named.to_string() != text.to_string()).then(|| text.to_string());
        let mut steps = Vec::new();
        let (with_config, with_key) = (self.config.is_some(), self.key.is_some());
        if let Some(key) = self.key {
            steps.push(Step::WriteKey { rights: files::key_rights(&key_file), file: key_file, key });
        }
        if let Some(text) = new.filter(|text| had.as_ref() != Some(text)) {
            steps.push(Step::WriteConfig { rights: files::config_rights(file), file: file.to_owned(), text });
        }
        if with_config {
            steps.push(Step::SetConfigAside);
        }
        if with_key {
            steps.extend([Step::SetKeyAside, Step::OverwriteKey, Step::RemoveKey]);
        }
        steps.push(Step::Note(warnings));
        let what = match (with_config, with_key) {
            (true, true) => "the configuration and the key",
            (true, false) => "the configuration",
            _ => "the key",
        };
        Ok(Plan { what, steps })
    }
}

/// The message about the new text of `file`, for a person who has the text on the partition.
fn on_the_card(file: &str, error: &str) -> String {
    let Some(rest) = error.strip_prefix(file) else { return error.to_owned() };
    match rest.strip_prefix(':').and_then(|rest| rest.split_once(':')) {
        Some((line, what)) if line.parse::<u32>().is_ok() => format!("{CONFIG}, line {line}:{what}"),
        _ => format!("{CONFIG}{rest}"),
    }
}

/// What is done, in this order. A power cut after any step is mended by doing all of them again.
enum Step {
    /// The key is on the box. Until the next step the box has the old configuration, and the service
    /// does not run yet.
    WriteKey {
        file: PathBuf,
        key: SecretString,
        rights: FileRights,
    },
    /// The new configuration is in force.
    WriteConfig {
        file: PathBuf,
        text: String,
        rights: FileRights,
    },
    /// The configuration on the partition gets another name, so that the next boot does not take it
    /// over again and undo what was changed on the box since.
    SetConfigAside,
    /// The key on the partition gets another name, so that a half overwritten one is never read.
    SetKeyAside,
    OverwriteKey,
    RemoveKey,
    /// The note of the last time goes. If something still waits, a new one says so.
    Note(Vec<String>),
}

struct Plan {
    what: &'static str,
    steps: Vec<Step>,
}

impl Plan {
    fn carry_out(&self, boot: &Boot) -> Result<&'static str, Refusal> {
        for step in &self.steps {
            step.take(boot)?;
        }
        Ok(self.what)
    }
}

impl Step {
    fn take(&self, boot: &Boot) -> Result<(), Refusal> {
        let aside =
            |name: &str| fs::rename(boot.at(name), boot.at(&format!("{name}{TAKEN}"))).and_then(|()| sync_dir(&boot.0));
        let key_aside = boot.at(&format!("{KEY}{TAKEN}"));
        let failed =
            |file: &Path, error: io::Error| Refusal::of_io(format!("{} cannot be written: {error}.", file.display()));
        match self {
            Self::WriteKey { file, key, rights } => {
                let text = Zeroizing::new(format!("{}\n", key.expose_secret()));
                replace(file, text.as_bytes(), *rights).map_err(|error| failed(file, error))
            }
            Self::WriteConfig { file, text, rights } => {
                replace(file, text.as_bytes(), *rights).map_err(|error| failed(file, error))
            }
            Self::SetConfigAside => aside(CONFIG).map_err(|error| failed(&boot.at(CONFIG), error)),
            Self::SetKeyAside => aside(KEY).map_err(|error| failed(&boot.at(KEY), error)),
            Self::OverwriteKey => overwrite(&key_aside).map_err(|error| failed(&key_aside, error)),
            Self::RemoveKey => boot.remove(&key_aside).map_err(|error| failed(&key_aside, error)),
            Self::Note(warnings) if warnings.is_empty() => boot.forget_the_error(),
            Self::Note(warnings) => {
                let text = format!(
                    "passbridge took {CONFIG} over, and something is still missing:\n\n{}\n\nUntil then the box reads its decoders \
                     and keeps every read, and uploads nothing. Put the API key, and nothing else, into a file {KEY} on this card.",
                    warnings.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
                );
                boot.note(&text).map_err(|error| failed(&boot.at(ERROR), error))
            }
        }
    }
}

/// Opens a file, and no file behind a link: whoever can write on the partition must not choose which
/// file of the box is read, or written over.
fn open_file(file: &Path, options: &mut fs::OpenOptions) -> io::Result<File> {
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(file)
}

/// Says why a text is certainly no API key. The documents show `ror-` and 20 hexadecimal digits, and
/// promise no form. So only what people put there by mistake is refused: a word, a line of the
/// configuration, a page of a browser.
fn no_key(key: &str) -> Option<&'static str> {
    if key.chars().count() < KEY_MIN {
        return Some("it is too short for an API key. Put the whole key there, and nothing else");
    }
    let marks = ['"', '\'', '=', '<', '>', '{', '}'];
    key.contains(marks).then_some("it holds more than an API key. Put the key there without quotes and without a name")
}

/// Writes zeros over the content of a file.
fn overwrite(file: &Path) -> io::Result<()> {
    let mut out = open_file(file, File::options().write(true))?;
    let length = out.metadata()?.len().min(CONFIG_LIMIT);
    out.write_all(&vec![0; length as usize])?;
    out.sync_all()
}
