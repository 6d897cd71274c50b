//! `check --service`: the check as the service itself would make it, with its user, its groups, its
//! devices, its view of the files and its credentials.
//!
//! systemd runs the check with the properties of the installed unit (`systemd-run`). They are read from
//! the unit as it counts, with every drop-in (`systemctl cat`), so that a unit that somebody changed
//! is checked as it is. Left out is only what says how a service is run and watched ([`RUNNING`]), and
//! not what it may do. Then root makes the same check, and what root sees differently is told: that is
//! what a check by root alone would have got wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::geteuid;
use serde::Deserialize;

use super::report::{CheckLine, CheckReport, CheckVerdict};
use super::service::UNIT;
use crate::config::failure::Failure;

/// What of `[Service]` says how the service is run and watched, by the beginning of the key. A check
/// runs once, and ends.
const RUNNING: [&str; 15] = [
    "BusName=",
    "Exec",
    "FileDescriptor",
    "GuessMainPID=",
    "KillMode=",
    "NotifyAccess=",
    "PIDFile=",
    "RemainAfterExit=",
    "Restart",
    "RootDirectoryStartOnly=",
    "Sockets=",
    "Standard",
    "Success",
    "Timeout",
    "Type=",
];
/// There is this directory where systemd is the first process, and nowhere else (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// How the installed service runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InstalledService {
    /// Its program.
    program: String,
    /// The configuration that it reads. `None`: the usual one.
    pub(super) config: Option<PathBuf>,
    /// `[Service]` without what is in [`RUNNING`], as `Key=value`.
    properties: Vec<String>,
    /// Assignments that `systemd-run` would take differently from systemd: with specifiers.
    pub(super) left_out: Vec<String>,
}

impl InstalledService {
    /// The service of the unit that is installed here.
    ///
    /// # Errors
    /// 69: systemd does not run here, or there is no unit. 77: only root may do this.
    pub(super) fn find() -> Result<Self, Failure> {
        if !Path::new(BOOTED).is_dir() {
            return Err(Failure::unavailable(
                "--service needs systemd, which does not run here. To check the rights of a user: passbridge check --user USER",
            ));
        }
        if !geteuid().is_root() {
            return Err(Failure::permission(
                "only root may run a check as the service: sudo passbridge check --service",
            ));
        }
        let unit = output(Command::new("systemctl").args(["cat", "--no-pager", UNIT]))?;
        if !unit.status.success() {
            return Err(Failure::unavailable(format!(
                "there is no {UNIT} here ({}): install the package",
                String::from_utf8_lossy(&unit.stderr).trim()
            )));
        }
        let text = String::from_utf8_lossy(&unit.stdout);
        Self::of(&text).ok_or_else(|| Failure::config(format!("{UNIT} says of no program what it runs (ExecStart=)")))
    }

    /// Reads the text of a unit, with its drop-ins one after the other. `None`: it runs nothing.
    fn of(unit: &str) -> Option<Self> {
        let assignments = assignments(unit);
        let starts = assignments.iter().rfind(|(key, value)| key == "ExecStart" && !value.is_empty())?;
        let mut words = starts.1.trim_start_matches(['-', '@', ':', '+', '!', '|']).split_whitespace();
        let program = words.next()?.to_owned();
        let words: Vec<&str> = words.collect();
        let after = words.iter().position(|word| *word == "--config").and_then(|at| words.get(at + 1).copied());
        let joined = words.iter().find_map(|word| word.strip_prefix("--config="));
        let runs = |key: &str| RUNNING.iter().any(|begins| format!("{key}=").starts_with(begins));
        let kept = assignments.iter().filter(|(key, _)| !runs(key) && key != "WatchdogSec");
        let (left_out, properties) = kept
            .map(|(key, value)| format!("{key}={value}"))
            .partition(|assignment| assignment.replace("%%", "").contains('%'));
        let properties: Vec<String> = properties;
        let properties = properties.into_iter().map(|assignment| assignment.replace("%%", "%")).collect();
        Some(Self { program, config: after.or(joined).map(PathBuf::from), properties, left_out })
    }

    /// The arguments of `systemd-run` for a check of this service with these arguments.
    fn command(&self, check: &[String]) -> Vec<String> {
        let fixed = ["--pipe", "--wait", "--collect", "--quiet", "--service-type=exec"];
        let described = std::iter::once("--description=passbridge: a check as the service".to_owned());
        let properties = self.properties.iter().map(|assignment| format!("--property={assignment}"));
        let program = ["--".to_owned(), self.program.clone(), "check".to_owned(), "--json".to_owned()];
        let before = fixed.into_iter().map(str::to_owned).chain(described).chain(properties);
        before.chain(program).chain(check.iter().cloned()).collect()
    }

    /// The lines of the check as the service sees them. `check`: further arguments.
    ///
    /// # Errors
    /// 69: systemd cannot start the check, and why.
    pub(super) fn check(&self, check: &[String]) -> Result<CheckReport, Failure> {
        let output = output(Command::new("systemd-run").args(self.command(check)))?;
        let found = serde_json::from_slice::<Vec<SeenLine>>(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().lines().last().unwrap_or("it says nothing");
            Failure::unavailable(format!(
                "systemd could not run the check as the service (systemd-run: {said}). What it was to run with: systemctl cat \
                 {UNIT}"
            ))
        })?;
        let lines = found.into_iter().map(CheckLine::from).collect();
        // The exit codes of `check`: what is wrong here comes before what is outside.
        Ok(CheckReport {
            lines,
            wrong: output.status.code() == Some(78),
            unreachable: output.status.code() == Some(69),
        })
    }
}

/// The assignments of `[Service]`, in order.
fn assignments(unit: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut service, mut begun) = (false, String::new());
    for line in unit.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && begun.is_empty()) {
            continue; // a comment may also stand between the lines of one assignment
        }
        if let Some(part) = trimmed.strip_suffix('\\') {
            begun = begun + part.trim_end() + " ";
            continue;
        }
        let whole = std::mem::take(&mut begun) + trimmed;
        if whole.starts_with('[') {
            service = whole == "[Service]";
        } else if let Some((key, value)) = whole.split_once('=')
            && service
        {
            found.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

fn output(command: &mut Command) -> Result<Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::unavailable(format!("{program} cannot be run: {error}")))
}

/// A line of the check in the sandbox.
#[derive(Deserialize)]
struct SeenLine {
    check: String,
    #[serde(default)]
    about: String,
    verdict: CheckVerdict,
    text: String,
}

impl From<SeenLine> for CheckLine {
    fn from(SeenLine { check, about, verdict, text }: SeenLine) -> Self {
        Self { check, about, verdict, text }
    }
}

/// What root sees in another way than the service, a sentence each: the subject of the line, and both
/// texts. Lines that both have alike, and lines about the process itself, are no difference.
pub(super) fn differences(service: &CheckReport, root: &CheckReport) -> Vec<(String, String)> {
    let worst = |report: &CheckReport, line: &CheckLine| {
        let same = report.lines.iter().filter(|other| other.check == line.check && other.about == line.about);
        same.max_by_key(|other| other.verdict as u8).map(|other| (other.verdict, other.text.clone()))
    };
    let mut told = Vec::new();
    for line in &service.lines {
        let subject = format!("{} {}", line.check, line.about).trim_end().to_owned();
        let (Some((of_service, says)), Some((of_root, root_says))) = (worst(service, line), worst(root, line)) else {
            continue;
        };
        if of_service != of_root && told.iter().all(|(known, _)| *known != subject) {
            told.push((subject, format!("the service: {says} — root: {root_says}")));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT_TEXT: &str = include_str!("../../../systemd/passbridge.service");

    fn has(command: &[String], property: &str) -> bool {
        command.iter().any(|argument| *argument == format!("--property={property}"))
    }

    #[test]
    fn a_check_as_the_service_has_every_property_of_the_unit_that_says_what_it_may_do() {
        let drop_in = "# /etc/systemd/system/passbridge.service.d/override.conf\n[Service]\nProtectHome=no\n\
                       DeviceAllow=char-189 \\\n  # both ways\n  rw\nEnvironment=HERE=%t SHARE=50%%\n[Unit]\nAfter=x.service\n";
        let service = InstalledService::of(&format!("{UNIT_TEXT}\n{drop_in}")).unwrap();
        assert_eq!(service.program, "/usr/bin/passbridge");
        assert_eq!(service.config.as_deref(), Some(Path::new("/etc/passbridge/passbridge.toml")));
        let command = service.command(&["--config".to_owned(), "/etc/p.toml".to_owned()]);
        let end: Vec<&str> = command.iter().skip_while(|argument| *argument != "--").map(String::as_str).collect();
        assert_eq!(end, ["--", "/usr/bin/passbridge", "check", "--json", "--config", "/etc/p.toml"]);
        for word in ["--pipe", "--wait", "--collect", "--quiet"] {
            assert!(command.iter().any(|argument| argument == word), "{command:?}");
        }
        // Whatever the unit allows or forbids, a line each and in its order.
        let mut in_service = false;
        for line in UNIT_TEXT.lines() {
            if line.starts_with('[') {
                in_service = line == "[Service]";
            }
            let runs = line.starts_with("WatchdogSec=") || RUNNING.iter().any(|begins| line.starts_with(begins));
            if in_service && line.contains('=') && !line.contains('%') && !line.starts_with('#') {
                assert_eq!(has(&command, line), !runs, "{line}");
            }
        }
        for property in
            ["ReadWritePaths=/var/lib", "SetCredential=api_key:\\n", "ProtectSystem=strict", "ProtectHome=no"]
        {
            assert!(has(&command, property), "{property}: {command:?}");
        }
        assert!(has(&command, "DeviceAllow=char-189 rw"), "an assignment of two lines: {command:?}");
        assert_eq!(service.left_out, ["Environment=HERE=%t SHARE=50%%"]);
        assert!(!command.iter().any(|argument| argument.contains("x.service")), "{command:?}");
    }

    #[test]
    fn the_program_and_the_configuration_are_those_that_count() {
        let of = |text: &str| InstalledService::of(text).map(|service| (service.program, service.config));
        assert_eq!(of("[Unit]\nExecStart=/bin/a\n[Service]\nUser=x\n"), None);
        let replaced =
            "[Service]\nExecStart=/bin/a run --config /a\n[Service]\nExecStart=\nExecStart=-/opt/b run --config=/b\n";
        assert_eq!(of(replaced), Some(("/opt/b".to_owned(), Some("/b".into()))));
        assert_eq!(of("[Service]\nExecStart=/bin/a run\n"), Some(("/bin/a".to_owned(), None)));
    }

    #[test]
    fn what_root_sees_differently_is_told_once_and_what_both_see_is_not() {
        let (mut service, mut root) = (CheckReport::default(), CheckReport::default());
        for report in [&mut service, &mut root] {
            report.ok("key", "", "the API key comes from systemd's credential");
            report.warn("clock", "", "nobody has set it");
        }
        service.wrong("decoder", "mat", "this user may not use /dev/ttyUSB0");
        service.wrong("decoder", "mat", "Operation not permitted");
        root.ok("decoder", "mat", "serial:///dev/ttyUSB0");
        service.ok("daemon", "", "does not run now"); // root has no such line
        let told = differences(&service, &root);
        let [(subject, text)] = &told[..] else { panic!("{told:?}") };
        assert_eq!(subject, "decoder mat");
        assert!(text.contains("root: serial:///dev/ttyUSB0"), "{text}");
    }
}
