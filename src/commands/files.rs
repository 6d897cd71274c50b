//! The configuration and the key's file as commands write them: where the key goes, who may read the
//! files, and whether a text is a right configuration.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::commands::check::service::ServiceUser;
use crate::config::edit::ConfigText;
use crate::config::failure::Failure;
use crate::config::replace::{self, FileRights};
use crate::config::{Config, ConfigError, LoadOptions, Loaded, Part, USUAL_KEY_FILE};

/// The name of the key's file beside the configuration.
const KEY_NAME: &str = "api_key";

/// What may wait in a configuration that a command writes: decoders that come later, and files that
/// are looked for while the box runs.
pub(crate) const COMES_LATER: [Part; 4] = [Part::NoDecoder, Part::Token, Part::Page, Part::Bibs];

/// The file of the key, according to the text of the configuration `file`. If the text names none
/// and the usual one is elsewhere, it is written into the text.
pub(crate) fn key_file(file: &Path, text: &mut ConfigText) -> PathBuf {
    let dir = file.parent().unwrap_or(Path::new("/"));
    if let Some(named) = text.get("cloud", "api_key_file") {
        return dir.join(named);
    }
    let beside = dir.join(KEY_NAME);
    if beside != Path::new(USUAL_KEY_FILE) && text.has("cloud") {
        text.set("cloud", "api_key_file", KEY_NAME);
    }
    beside
}

/// The rights of the configuration: those that it has, else everybody may read it. It holds no key,
/// and the user of the service is not known while the service does not run.
pub(crate) fn config_rights(file: &Path) -> FileRights {
    FileRights::of(file).unwrap_or(FileRights { mode: 0o644, owner: None })
}

/// The rights of the key's file: those that it has, but nobody outside of its group. A new one
/// belongs to its owner alone, because systemd hands it to the service. Where it does not, and the
/// service has a user of its own, the group of that user may read it.
pub(crate) fn key_rights(file: &Path) -> FileRights {
    if let Some(found) = FileRights::of(file) {
        return FileRights { mode: found.mode & 0o770, ..found };
    }
    match ServiceUser::of_the_unit().filter(|user| geteuid().is_root() && !user.is_handed(file)) {
        Some(ServiceUser { gid: Some(gid), .. }) => FileRights { mode: 0o640, owner: Some((0, gid)) },
        _ => FileRights { mode: 0o600, owner: None },
    }
}

/// Loads `text` as the content of `file`, which it is not yet.
///
/// # Errors
/// Every mistake, but those about the parts in `waits`: the box runs, and they wait for something
/// that comes later.
pub(crate) fn load(file: &Path, text: &str, has_key: bool, waits: &[Part]) -> Result<Loaded, Vec<ConfigError>> {
    let options = LoadOptions::of_text(file, text.to_owned(), has_key);
    let loaded = Config::load_what_is_right(&options).map_err(|error| vec![error])?;
    let matters = loaded.config.faults.iter().filter(|fault| !waits.contains(&fault.part));
    let wrong: Vec<_> = matters.map(|fault| fault.error.clone()).collect();
    if wrong.is_empty() { Ok(loaded) } else { Err(wrong) }
}

/// Tries whether a new `file` can be written, before something happens that nobody takes back. It
/// changes nothing.
///
/// # Errors
/// Permission (77) or I/O (74): it cannot.
pub(crate) fn must_take(file: &Path) -> Result<(), Failure> {
    replace::rehearse(file).map_err(|error| cannot_write(file, &error))
}

/// The failure of a command that cannot write `file`.
pub(crate) fn cannot_write(file: &Path, error: &io::Error) -> Failure {
    let text = format!("{} cannot be written: {error}", file.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::permission(format!("{text}; run it with sudo")),
        _ => Failure::io(text),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_relative_key_file_is_beside_the_link_to_the_configuration_for_the_box_and_for_setup() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, shared) = (dir.path().join("etc"), dir.path().join("shared"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&shared).unwrap();
        let text = "[cloud]\nurl = \"https://api.runonrufus.com/v0\"\ndevice_id = \"D\"\napi_key_file = \"api_key\"\n";
        fs::write(shared.join("passbridge.toml"), text).unwrap();
        let file = etc.join("passbridge.toml");
        symlink(shared.join("passbridge.toml"), &file).unwrap();
        fs::write(etc.join("api_key"), "ror-0123456789abcdef0123\n").unwrap();
        fs::write(shared.join("api_key"), "ror-of-somebody-else\n").unwrap();
        let options = LoadOptions { environment: Vec::new(), ..LoadOptions::new(&file) };
        let cloud = Config::load_what_is_right(&options).unwrap().config.cloud.unwrap();
        assert_eq!(cloud.api_key_file.as_deref(), Some(&*etc.join("api_key")));
        assert_eq!(cloud.api_key.unwrap().expose_secret(), "ror-0123456789abcdef0123");
        let mut text = ConfigText::parse(&file, text).unwrap();
        assert_eq!(key_file(&file, &mut text), etc.join("api_key"));
    }
}
