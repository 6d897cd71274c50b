//! Finds the API key and the token of the page.
//!
//! The key is taken from the environment, else from `[cloud].api_key_file`, else from systemd's
//! credential `api_key`, else from the usual file. The user of the service need not have the right
//! to read the file, because a credential from systemd is used instead if there is one.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// The file in which the key is looked for if the configuration names none. The systemd unit passes
/// the same file as a credential.
pub(crate) const USUAL_KEY_FILE: &str = "/etc/passbridge/api_key";
/// A key has a few dozen characters, so a longer file is another file.
const LIMIT: u64 = 4096;

/// A secret and where it was found.
pub(super) struct Found {
    pub(super) secret: SecretString,
    /// The place in words: a file, the environment, or systemd's credential.
    pub(super) from: String,
    /// The file from which it was read, or `None` for the environment.
    pub(super) file: Option<PathBuf>,
    /// A warning if every user of the box may read the file.
    pub(super) warning: Option<String>,
}

/// Why a file has no usable secret. It does not show the content of the file.
#[derive(Clone, Debug)]
pub(crate) struct Unusable {
    /// `NotFound`: there is no file. `InvalidData`: the file was read, and holds no secret that can
    /// be used. Others: the file could not be read.
    pub(crate) kind: ErrorKind,
    what: String,
}

impl Unusable {
    /// The file was read, and what it holds cannot be used because of `what`.
    pub(crate) fn content(what: String) -> Self {
        Self { kind: ErrorKind::InvalidData, what }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Reads a secret from a file. A line end after the secret does not count.
pub(super) fn from_file(path: &Path) -> Result<Found, Unusable> {
    // The buffer never grows, so that no copy of the secret stays in memory at an earlier place.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT as usize + 1));
    let read = |bytes: &mut Vec<u8>| -> io::Result<u32> {
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory"));
        }
        file.take(LIMIT + 1).read_to_end(bytes)?;
        Ok(metadata.mode())
    };
    let mode = read(&mut bytes).map_err(|error| {
        let what = match error.kind() {
            ErrorKind::NotFound => "there is no such file".to_owned(),
            ErrorKind::PermissionDenied => "this user may not read the file".to_owned(),
            _ => format!("the file cannot be read: {error}"),
        };
        Unusable { kind: error.kind(), what }
    })?;
    let secret = of_bytes(&bytes)?;
    // The last digit of the mode is the rights of all other users. The group may have rights,
    // because that is how a service gets access on purpose.
    let warning = (mode & 0o007 != 0).then(|| {
        let path = path.display();
        format!("{path} holds a secret and its mode {:03o} is open to every user: chmod 640 {path}", mode & 0o777)
    });
    Ok(Found { secret, from: path.display().to_string(), file: Some(path.to_owned()), warning })
}

/// The secret in the content of a file. The mark that some editors put at the beginning of a text
/// does not count.
///
/// # Errors
/// Why the content is no secret.
pub(crate) fn of_bytes(bytes: &[u8]) -> Result<SecretString, Unusable> {
    let unusable = |what: &str| Unusable::content(what.to_owned());
    if bytes.len() as u64 > LIMIT {
        return Err(unusable("the file is too long to be a key"));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(unusable(
            "the file holds no text in UTF-8 (it is saved as Unicode, UTF-16): save it with the encoding UTF-8",
        ));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| unusable("the file holds no text"))?;
    checked(text).map_err(|what| unusable(&format!("the file {what}")))
}

/// Reads a secret again from the file in which it was. With it comes a warning if every user of the
/// box may read the file.
///
/// # Errors
/// Why the file has no secret.
pub(crate) fn reread(path: &Path) -> Result<(SecretString, Option<String>), Unusable> {
    from_file(path).map(|found| (found.secret, found.warning))
}

/// A secret without the space around it. It must be valid in an HTTP header.
fn checked(text: &str) -> Result<SecretString, &'static str> {
    match text.trim() {
        "" => Err("is empty"),
        text if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(SecretString::from(text)),
        _ => Err("holds more than one word of plain characters"),
    }
}

/// Why there is no API key.
pub(super) enum NoKey {
    /// The variable is set, but its value cannot be used.
    Environment(&'static str),
    /// The file that the configuration names cannot be used.
    File(PathBuf, Unusable),
    /// No place has a key.
    Nowhere,
}

/// The API key from the first place that has one. `file` is what the configuration names, and
/// `credentials` is systemd's directory.
pub(super) fn api_key(variable: Option<&str>, file: Option<&Path>, credentials: Option<&Path>) -> Result<Found, NoKey> {
    if let Some(text) = variable {
        let secret = checked(text).map_err(NoKey::Environment)?;
        return Ok(Found { secret, from: "the environment".to_owned(), file: None, warning: None });
    }
    // The unit passes an empty credential if there is no file, so that a box without a cloud starts
    // too.
    let credential = || {
        let found = from_file(&credentials?.join("api_key")).ok()?;
        Some(Found { from: "systemd's credential api_key".to_owned(), warning: None, ..found })
    };
    let Some(path) = file else {
        if let Some(found) = credential() {
            return Ok(found);
        }
        return from_file(Path::new(USUAL_KEY_FILE)).map_err(|why| match why.kind {
            ErrorKind::NotFound => NoKey::Nowhere,
            _ => NoKey::File(PathBuf::from(USUAL_KEY_FILE), why),
        });
    };
    match from_file(path) {
        Err(why) if why.kind == ErrorKind::PermissionDenied => {
            let mut found = credential().ok_or_else(|| NoKey::File(path.to_owned(), why))?;
            if path != Path::new(USUAL_KEY_FILE) {
                let path = path.display();
                found.warning = Some(format!(
                    "{path} may not be read by this user, so the key is {}; make sure that LoadCredential= in the unit names {path}",
                    found.from
                ));
            }
            Ok(found)
        }
        read => read.map_err(|why| NoKey::File(path.to_owned(), why)),
    }
}

/// Whether a value in the wrong place is an API key (the samples are `ror-` and 20 hex digits).
/// Such a value is not repeated.
pub(super) fn looks_like_key(text: &str) -> bool {
    keys_in(text).next().is_some()
}

/// The text without the parts that look like a key.
pub(super) fn without_keys(text: &str) -> String {
    keys_in(text).fold(text.to_owned(), |clean, key| clean.replace(key, "(hidden: an API key?)"))
}

fn keys_in(text: &str) -> impl Iterator<Item = &str> {
    const SHORTEST: usize = 16;
    let like = |word: &&str| word.strip_prefix("ror-").is_some_and(|rest| rest.len() >= SHORTEST);
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(like)
}

/// Whether two secrets are the same. The time of the comparison does not show how many characters
/// agree.
pub(crate) fn same(secret: &SecretString, shown: &[u8]) -> bool {
    let secret = secret.expose_secret().as_bytes();
    let differ = secret.iter().zip(shown).fold(0u8, |differ, (a, b)| std::hint::black_box(differ | (a ^ b)));
    secret.len() == shown.len() && differ == 0
}
