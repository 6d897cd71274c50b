//! Starts the service that the system has, if it reads the configuration that was written.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::args::{KEY_VARIABLE, SetupArgs};
use super::ask::Ask;
use crate::config::failure::Failure;

const UNIT: &str = "passbridge.service";

/// Starts the service if a flag says so, or asks whether to.
///
/// # Errors
/// 69: it was to be started, and cannot be.
pub(super) async fn offer(ask: &Ask, args: &SetupArgs, file: &Path) -> Result<(), Failure> {
    let by_hand = format!("To start it: passbridge run --config {}", file.display());
    if args.no_start || !(args.start || ask.attended) {
        return Ok(());
    }
    let unit = systemctl(&["cat", UNIT]).await;
    let unit = unit.ok().filter(|output| output.status.success());
    let reads_it = |output: &Output| {
        String::from_utf8_lossy(&output.stdout).lines().any(|line| {
            line.trim_start().starts_with("ExecStart=") && line.split_whitespace().any(|word| Path::new(word) == file)
        })
    };
    if !unit.as_ref().is_some_and(reads_it) {
        let why = match unit {
            None => format!("there is no service {UNIT} here"),
            Some(_) => format!("the service {UNIT} reads another configuration than {}", file.display()),
        };
        return match args.start {
            true => Err(Failure::unavailable(format!("nothing was started, because {why}. {by_hand}"))),
            false => {
                ask.say(&by_hand);
                Ok(())
            }
        };
    }
    if !args.start && !ask.yes("Start passbridge now, and at each boot?", true).await? {
        ask.say("To start it: sudo systemctl enable --now passbridge");
        return Ok(());
    }
    // A service that runs goes on with the configuration of its start, so it is started anew.
    for command in [["enable", UNIT], ["restart", UNIT]] {
        let done = systemctl(&command).await;
        let done = done.map_err(|error| Failure::unavailable(format!("systemctl {}: {error}", command.join(" "))))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            return Err(Failure::unavailable(format!(
                "systemctl {} failed: {said}. To see why: journalctl -u passbridge",
                command.join(" ")
            )));
        }
    }
    ask.say("passbridge runs. To see how it is: sudo passbridge status");
    Ok(())
}

async fn systemctl(arguments: &[&str]) -> io::Result<Output> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).env_remove(KEY_VARIABLE);
    tokio::task::spawn_blocking(move || command.output()).await.map_err(io::Error::other)?
}
