//! What is logged and how a line looks: for people on a terminal, for journald, or JSON.
//!
//! Rejected: a log file of our own. journald keeps, rotates and limits already; the record of a race is the journal.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Crates whose chatter says nothing to a timer; a directive for one of them in `level` or `RUST_LOG` wins.
const QUIET: [&str; 5] = ["hyper=warn", "hyper_util=warn", "reqwest=warn", "rustls=warn", "sled=warn"];

/// Starts logging to standard error for the rest of the process. `RUST_LOG`, if set and right, replaces `config.level`.
/// A second call changes nothing.
pub fn start(config: &LogConfig) {
    let (given, mistake) = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => match level(&text) {
            Ok(level) => (level, None),
            Err(must) => (config.level.clone(), Some(format!("RUST_LOG {must}; [log] level counts instead"))),
        },
        _ => (config.level.clone(), None),
    };
    let quiet = QUIET.iter().filter(|directive| {
        let target = directive.split_once('=').map_or("", |(target, _)| target);
        !given.split(',').any(|own| own.trim().split_once('=').is_some_and(|(own, _)| own == target))
    });
    let directives = quiet.copied().chain([given.as_str()]).collect::<Vec<_>>().join(",");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(directives))
        .with_writer(std::io::stderr);
    let form = shape(config.format, std::io::stderr().is_terminal());
    // Fails only when logging was started before, as in tests.
    let _ = match form {
        Shape::Human => builder.with_ansi(true).with_target(false).finish().try_init(),
        Shape::Plain => builder.with_ansi(false).with_target(false).without_time().finish().try_init(),
        Shape::Timed => builder.with_ansi(false).with_target(false).finish().try_init(),
        Shape::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    if let Some(mistake) = mistake {
        tracing::warn!("{mistake}");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Human,
    Plain,
    Timed,
    Json,
}

fn shape(format: LogFormat, terminal: bool) -> Shape {
    match format {
        LogFormat::Json => Shape::Json,
        LogFormat::Human => Shape::Human,
        LogFormat::Plain => Shape::Plain,
        LogFormat::Auto if terminal => Shape::Human,
        // journald adds the time itself; a file or a pipe does not.
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => Shape::Plain,
        LogFormat::Auto => Shape::Timed,
    }
}

/// Judges a filter: a level, or `target=level` and levels parted by commas. tracing itself would take a misspelt
/// level for the name of a module and say nothing.
pub fn level(text: &str) -> Result<String, String> {
    let must = || {
        "must be off, error, warn, info, debug or trace, or a list such as \"info,passbridge::uplink=debug\"".to_owned()
    };
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok() && !word.bytes().all(|b| b.is_ascii_digit());
    for directive in text.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !is_level(level) {
            return Err(must());
        }
    }
    EnvFilter::builder().parse(text).map_err(|_| must())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_an_error_and_not_the_name_of_a_module() {
        for right in ["info", "off", "warn,passbridge::uplink=debug", "passbridge=trace"] {
            assert_eq!(level(right), Ok(right.to_owned()));
        }
        for wrong in ["", "verbose", "3", "info,", "info,passbridge", "passbridge=loud", "passbridge=", "a[b"] {
            assert!(level(wrong).unwrap_err().contains("must be off, error"), "{wrong}");
        }
    }

    #[test]
    fn a_form_that_is_asked_for_is_taken_wherever_the_log_goes() {
        assert_eq!(shape(LogFormat::Json, true), Shape::Json);
        assert_eq!(shape(LogFormat::Plain, true), Shape::Plain);
        assert_eq!(shape(LogFormat::Human, false), Shape::Human);
        assert_eq!(shape(LogFormat::Auto, true), Shape::Human);
    }
}
