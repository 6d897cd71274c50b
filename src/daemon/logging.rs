//! What is logged, and the form of a line: for people on a terminal, for journald, or JSON.
//!
//! Must hold: reads are kept whatever happens to the log. No log line, no panic and no end of the
//! process waits for standard error or fails because of it (`output`).
//!
//! Rejected: a log file of our own. journald already keeps, rotates and limits the log, and the
//! record of a race is the journal.

mod output;

use std::backtrace::BacktraceStatus;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::output::LogOutput;
use crate::config::{LogConfig, LogFormat, level};

/// Crates whose log lines say nothing to a timer. A directive for one of them in `level` or
/// `RUST_LOG` has priority.
const QUIET: [&str; 5] = ["hyper=warn", "hyper_util=warn", "reqwest=warn", "rustls=warn", "sled=warn"];

/// The parts of the program: the names that `level` and `RUST_LOG` use, and the modules that they
/// stand for.
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
/// How long a thread that panics waits until its message is written, because it may be the last
/// one.
const LAST_WORDS: Duration = Duration::from_millis(500);

static OUTPUT: OnceLock<LogOutput> = OnceLock::new();

/// Starts logging to standard error for the rest of the process. `RUST_LOG`, if set and right,
/// replaces `config.level`. A second call changes nothing.
pub(crate) fn start(config: &LogConfig) {
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
    // Both lists were judged before, so what stands in for them is never needed.
    let filter: Targets = directives.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE) // the filter decides
        .log_internal_errors(false) // it would panic when standard error is gone
        .with_writer(output.clone());
    // This fails only if logging was started before, as in tests.
    let _ = match form {
        Shape::Human => builder.with_ansi(true).with_target(false).finish().with(filter).try_init(),
        Shape::Plain => builder.with_ansi(false).with_target(false).without_time().finish().with(filter).try_init(),
        Shape::Journal => {
            let plain = builder.with_ansi(false).with_target(false).without_time();
            plain.map_event_format(Prioritised).finish().with(filter).try_init()
        }
        Shape::Timed => builder.with_ansi(false).with_target(false).finish().with(filter).try_init(),
        Shape::Json => builder.json().flatten_event(true).finish().with(filter).try_init(),
    };
    log_panics();
    if let Some(mistake) = mistake {
        tracing::warn!("{mistake}");
    }
}

/// A directive in which the name of a part is replaced by its module.
fn placed(directive: &str) -> String {
    let directive = directive.trim();
    let placed = PARTS.iter().find_map(|(name, place)| {
        let rest = directive.strip_prefix(name)?;
        (rest.starts_with('=') || rest.starts_with("::")).then(|| format!("{place}{rest}"))
    });
    placed.unwrap_or_else(|| directive.to_owned())
}

/// The output to standard error. It has a thread of its own from the first line on.
fn output(form: Shape) -> Option<&'static LogOutput> {
    if let Some(output) = OUTPUT.get() {
        return Some(output);
    }
    // A handle of our own, because whoever writes to standard error holds a lock meanwhile.
    let sink = File::from(io::stderr().as_fd().try_clone_to_owned().ok()?);
    let output = LogOutput::start(sink, form.notice()).ok()?;
    Some(OUTPUT.get_or_init(|| output))
}

/// Makes a panic a line of the log. The usual report of a panic would wait for a pipe that nobody
/// empties.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let trace = std::backtrace::Backtrace::capture(); // only if RUST_BACKTRACE asks for it
        let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
        match tracing::enabled!(tracing::Level::ERROR) {
            true => tracing::error!(thread = thread.name(), "{panic}{trace}"),
            false => say(&format!("passbridge: {panic}{trace}")), // also if the level is `off`
        }
        finish_within(LAST_WORDS);
    }));
}

/// What is wrong with the output of the log, and how many lines were dropped since the start. A
/// dropped line costs nothing but itself.
pub(crate) fn trouble() -> (Option<String>, u64) {
    OUTPUT.get().map_or((None, 0), LogOutput::state)
}

/// Writes a line for the user to standard error, beside the log if there is one. It never fails and
/// never waits: a relay continues although nobody reads its messages. [`finish`] waits for the last
/// lines.
pub(crate) fn say(line: &str) {
    say_as("<5>", line);
}

/// Like [`say`], for the reason why the process ends.
pub(crate) fn complain(line: &str) {
    say_as("<3>", line);
}

fn say_as(priority: &str, line: &str) {
    let priority = if is_journal() { priority } else { "" };
    if let Some(output) = output(if is_journal() { Shape::Journal } else { Shape::Plain }) {
        output.put(format!("{priority}{line}\n").as_bytes());
    }
}

/// Whether standard error leads to the journal of systemd, which understands priorities at the
/// beginning of a line.
fn is_journal() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let is = |stat: rustix::fs::Stat| names(&stream, stat.st_dev, stat.st_ino);
        rustix::fs::fstat(io::stderr()).is_ok_and(is)
    })
}

/// Whether `JOURNAL_STREAM` names this file. Somebody may have redirected standard error since.
fn names(stream: &str, device: u64, inode: u64) -> bool {
    let named = stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    named == Some((device, inode))
}

/// Writes in front of each line the priority under which journald files it, so that `journalctl -p
/// warning` finds the lines.
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        let priority = priority(*event.metadata().level());
        text.lines().try_for_each(|line| writeln!(to, "{priority}{line}"))
    }
}

/// The priority number of syslog.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// To be called last. It waits, for a limited time, until all lines are written.
pub(crate) fn finish() {
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
    /// Like `Plain`, for the journal of systemd.
    Journal,
    Timed,
    Json,
}

impl Shape {
    /// The line that is written where lines are missing, in the same form as the others.
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
            Self::Journal => |missing| format!("<4> WARN {}\n", missing_in_words(missing)),
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
        LogFormat::Plain if is_journal() => Shape::Journal,
        LogFormat::Plain => Shape::Plain,
        LogFormat::Auto if terminal => Shape::Human,
        // journald adds the time itself, and a file or a pipe does not.
        LogFormat::Auto if is_journal() => Shape::Journal,
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
    fn each_line_for_the_journal_begins_with_its_priority() {
        #[derive(Clone, Default)]
        struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let sink = lines.clone();
        let builder = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_writer(move || sink.clone());
        let plain = builder.with_ansi(false).with_target(false).without_time();
        tracing::subscriber::with_default(plain.map_event_format(Prioritised).finish(), || {
            tracing::error!("a panic\nwith a trace");
            tracing::warn!(decoder = "mat", "the battery is low");
            tracing::info!("ready");
            tracing::debug!("detail");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[..3]).collect();
        assert_eq!(lines, ["<3>", "<3>", "<4>", "<6>", "<7>"], "{text}");
        assert!(text.contains("<4> WARN the battery is low decoder=\"mat\"\n"), "{text}");
        assert!(Shape::Journal.notice()(7).starts_with("<4> WARN 7 lines"));
    }

    #[test]
    fn the_journal_is_known_by_the_file_that_systemd_names() {
        assert!(names("8:1234", 8, 1234));
        for other in ["", "8", "8:1235", "9:1234", "8:1234:5", "x:1234"] {
            assert!(!names(other, 8, 1234), "{other}");
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
