//! What the protocols' `make` functions share: options of `[decoder.set]`.

use super::{SettingError, Settings};

/// The words of an option that is on or off.
pub(super) const SWITCH: &[(&str, bool)] = &[("true", true), ("false", false)];

/// The error for an option or a value that is refused. `allowed` says what would be right.
pub(super) fn wrong(protocol: &'static str, key: &str, value: &str, allowed: impl Into<String>) -> SettingError {
    SettingError { protocol, key: key.to_owned(), value: value.to_owned(), allowed: allowed.into() }
}

/// For a protocol without options.
pub(super) fn none(protocol: &'static str, settings: &Settings) -> Result<(), SettingError> {
    match settings.first_key_value() {
        None => Ok(()),
        Some((key, value)) => Err(wrong(protocol, key, value, "it has no options")),
    }
}

/// For a protocol with only one option, `name`. Returns the meaning of the given word, or `None` if
/// the option is not set.
pub(super) fn one<T: Copy>(
    protocol: &'static str,
    settings: &Settings,
    (name, words): (&str, &[(&str, T)]),
    allowed: &str,
) -> Result<Option<T>, SettingError> {
    let mut meant = None;
    for (key, value) in settings {
        let word = words.iter().find(|(word, _)| key == name && value == word);
        meant = Some(word.ok_or_else(|| wrong(protocol, key, value, allowed))?.1);
    }
    Ok(meant)
}
