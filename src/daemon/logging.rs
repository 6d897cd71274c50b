//! What is logged and how a line looks: for people on a terminal, for journald, or JSON.
//!
//! Must hold: reads are kept whatever becomes of the log. Nothing that is said here, in a panic or at the end of the process
//! waits for standard error or fails with it (`output`).
//!
//! Rejected: a log file of our own. journald keeps, rotates and limits already; the record of a race is the journal.

mod output;

use std::backtrace::BacktraceStatus;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use self::output::LogOutput;
use crate::config::{LogConfig, LogFormat, level};

/// Crates whose chatter says nothing to a timer; a directive for one of them in `level` or `RUST_LOG` wins.
const QUIET: [&str; 5] = ["hyper=warn", "hyper_util=warn", "reqwest=warn", "rustls=warn", "sled=warn"];

/// Parts of the program by the names that `level` and `RUST_LOG` know them by, and where they are.
const PARTS: [(&str, &str); 7] = [
    ("passbridge::audit", "passbridge::cloud::audit"),
    ("passbridge::control", "passbridge::serve::control"),
    ("passbridge::logging", "passbridge::daemon::logging"),
    ("passbridge::passing", "passbridge::cloud::passing"),
    ("passbridge::service", "passbridge::daemon::service"),
    ("passbridge::uplink", "passbridge::cloud::uplink"),
    ("passbridge::web", "passbridge::serve::web"),
];

/// How long the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long a thread that panics waits for its words to be written: they may be the last.
const LAST_WORDS: Duration = Duration::from_millis(500);

static OUTPUT: OnceLock<LogOutput> = OnceLock::new();

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
    let directives =
        quiet.copied().map(str::to_owned).chain(given.split(',').map(placed)).collect::<Vec<_>>().join(",");
    let form = shape(config.format, io::stderr().is_terminal());
    let Some(output) = output(form) else { return }; // a system without a thread for the log has none for the journal
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(directives))
        .log_internal_errors(false) // it would panic when standard error is gone
        .with_writer(output.clone());
    // Fails only when logging was started before, as in tests.
    let _ = match form {
        Shape::Human => builder.with_ansi(true).with_target(false).finish().try_init(),
        Shape::Plain => builder.with_ansi(false).with_target(false).without_time().finish().try_init(),
        Shape::Timed => builder.with_ansi(false).with_target(false).finish().try_init(),
        Shape::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    log_panics();
    if let Some(mistake) = mistake {
        tracing::warn!("{mistake}");
    }
}

/// A directive with the place of the part that it names.
fn placed(directive: &str) -> String {
    let directive = directive.trim();
    let placed = PARTS.iter().find_map(|(name, place)| {
        let rest = directive.strip_prefix(name)?;
        (rest.starts_with('=') || rest.starts_with("::")).then(|| format!("{place}{rest}"))
    });
    placed.unwrap_or_else(|| directive.to_owned())
}

/// The way to standard error; a thread of its own from the first line on.
fn output(form: Shape) -> Option<&'static LogOutput> {
    if let Some(output) = OUTPUT.get() {
        return Some(output);
    }
    // A handle of our own: whoever writes to standard error holds a lock meanwhile.
    let sink = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
    let output = LogOutput::start(sink, form.notice()).ok()?;
    Some(OUTPUT.get_or_init(|| output))
}

/// A panic is a line of the log: the usual report of one would wait for a pipe that nobody empties.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let trace = std::backtrace::Backtrace::capture(); // only where RUST_BACKTRACE asks for it
        let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
        match tracing::enabled!(tracing::Level::ERROR) {
            true => tracing::error!(thread = thread.name(), "{panic}{trace}"),
            false => say(&format!("passbridge: {panic}{trace}")), // also where the level is `off`
        }
        finish_within(LAST_WORDS);
    }));
}

/// What is wrong with where the log goes, and how many lines of it were dropped since the start. A line that is dropped
/// costs nothing but itself.
pub fn trouble() -> (Option<String>, u64) {
    OUTPUT.get().map_or((None, 0), LogOutput::state)
}

/// A line for whoever watches, on standard error, beside the log if there is one. Never fails and never waits: a relay goes on
/// although nobody takes what it says. [`finish`] sees to the last ones.
pub fn say(line: &str) {
    if let Some(output) = output(Shape::Plain) {
        output.put(format!("{line}\n").as_bytes());
    }
}

/// To be called last: waits, for a limited time, until what was said is written.
pub fn finish() {
    finish_within(LAST_LINES);
}

fn finish_within(limit: Duration) {
    if let Some(output) = OUTPUT.get() {
        output.flush(limit);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Human,
    Plain,
    Timed,
    Json,
}

impl Shape {
    /// The line that stands where lines are missing, in the same form as the others.
    fn notice(self) -> fn(u64) -> String {
        match self {
            Self::Json => |missing| {
                format!(
                    "{{\"timestamp\":\"{:.6}\",\"level\":\"WARN\",\"message\":\"{}\",\"dropped\":{missing},\"target\":\"passbridge::logging\"}}\n",
                    Timestamp::now(),
                    missing_in_words(missing)
                )
            },
            Self::Plain => |missing| format!(" WARN {}\n", missing_in_words(missing)),
            Self::Human | Self::Timed => {
                |missing| format!("{:.6}  WARN {}\n", Timestamp::now(), missing_in_words(missing))
            }
        }
    }
}

fn missing_in_words(missing: u64) -> String {
    format!("{missing} lines of this log are missing here: nobody took them in time. No read is missing for that")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_by_the_name_that_the_configuration_has_for_it() {
        assert_eq!(placed(" passbridge::uplink=debug"), "passbridge::cloud::uplink=debug");
        assert_eq!(placed("passbridge::uplink::machine=trace"), "passbridge::cloud::uplink::machine=trace");
        for as_it_is in ["info", "passbridge=debug", "passbridge::cloud::uplink=debug", "passbridge::uplinks=debug"] {
            assert_eq!(placed(as_it_is), as_it_is);
        }
    }

    #[test]
    fn the_line_about_missing_lines_has_the_form_of_the_others() {
        let json: serde_json::Value = serde_json::from_str(&Shape::Json.notice()(7)).unwrap();
        assert_eq!((&json["dropped"], &json["level"]), (&7.into(), &"WARN".into()));
        assert!(json["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());
        for form in [Shape::Plain, Shape::Human, Shape::Timed] {
            let line = form.notice()(7);
            assert!(line.contains(" WARN 7 lines") && line.ends_with('\n') && line.lines().count() == 1, "{line}");
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
