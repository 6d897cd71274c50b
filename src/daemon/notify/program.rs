//! Runs a program of the timer at each change of the state (`[notify] on_state`).
//!
//! Must hold:
//! * At most one is running. A state that comes meanwhile waits, and only the newest one does.
//! * After [`LIMIT`] it is killed, and so is what it started: the program leads a process group, and
//!   the group is killed in any case when the program ended, was too slow, or the box stops.
//! * It gets the word and the sentence as arguments, nothing on its standard input, and an
//!   environment that is named here ([`environment`]). Nothing of the box's own environment is in
//!   it: that may hold the key.
//! * What it writes to its standard error is read and forgotten, but for its end, which the problem
//!   shows if the program fails. A program that writes without end fills no log.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::news::StateNews;
use crate::status::{Board, BoxState, ProblemCode};

/// How long the program may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of its standard error that are shown.
const LAST_WORDS: usize = 200;

/// Runs the program for each state that comes, until `stop`.
pub(super) async fn tell(
    program: &Path,
    board: &Board,
    mut told: watch::Receiver<Option<StateNews>>,
    stop: CancellationToken,
) {
    let mut last: Option<BoxState> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = told.changed() => if changed.is_err() { return },
        }
        let Some(news) = told.borrow_and_update().clone() else { continue };
        if news.starting || last == Some(news.state) {
            continue;
        }
        last = Some(news.state);
        match stop.run_until_cancelled(run(program, &news, LIMIT)).await {
            None => return,
            Some(Ok(())) => board.clear(ProblemCode::OnStateFailed, ""),
            Some(Err(why)) => {
                let message = format!("the program {} that tells the state {why}", program.display());
                board.raise(ProblemCode::OnStateFailed, "", message);
            }
        }
    }
}

/// What the program finds in its environment.
fn environment(news: &StateNews) -> [(&'static str, &str); 4] {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LANG", "C.UTF-8"),
        ("HOME", "/"),
        ("PASSBRIDGE_BOX", &news.name),
    ]
}

/// A process group that is killed when this value is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL); // an empty group is what is wanted
        }
    }
}

/// Runs the program once. The error says what is wrong with it, in words that follow its name.
async fn run(program: &Path, news: &StateNews, limit: Duration) -> Result<(), String> {
    let mut child = Command::new(program)
        .args([news.state.word(), &news.sentence])
        .env_clear()
        .envs(environment(news))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "is not there, or what its first line names is not".to_owned(),
            std::io::ErrorKind::PermissionDenied => {
                "may not be run by the user of the service: chmod 755 it".to_owned()
            }
            _ => format!("cannot be run: {error}"),
        })?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let group = Group(id.and_then(Pid::from_raw));
    if let Some(id) = id {
        // If memory becomes short, the program has to go and not the box. The box may do without.
        let _ = std::fs::write(format!("/proc/{id}/oom_score_adj"), "1000");
    }
    let mut words = LastWords { from: child.stderr.take(), bytes: Vec::new() };
    let ended = timeout(limit, async {
        tokio::select! {
            ended = child.wait() => ended,
            never = words.read() => match never {},
        }
    })
    .await;
    drop(group); // so that nobody holds the other end of its standard error any more
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            let _ = timeout(Duration::from_secs(1), words.rest()).await;
            Err(format!("{}{}", ending(status), words.shown()))
        }
        Ok(Err(error)) => Err(format!("was lost: {error}")),
        Err(_) => Err(format!("did not end within {} s and was killed{}", limit.as_secs(), words.shown())),
    }
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

/// The end of what the program wrote to its standard error.
struct LastWords {
    from: Option<ChildStderr>,
    bytes: Vec<u8>,
}

impl LastWords {
    /// Reads on. It never ends: a program that closes its standard error still runs.
    async fn read(&mut self) -> std::convert::Infallible {
        self.rest().await;
        std::future::pending().await
    }

    /// Reads until the end. Only the last bytes are remembered.
    async fn rest(&mut self) {
        let mut chunk = [0; 512];
        while let Some(from) = &mut self.from {
            match from.read(&mut chunk).await {
                Ok(0) | Err(_) => self.from = None,
                Ok(count) => {
                    self.bytes.extend_from_slice(&chunk[..count]);
                    let surplus = self.bytes.len().saturating_sub(LAST_WORDS);
                    self.bytes.drain(..surplus);
                }
            }
        }
    }

    /// The last line, as the end of a sentence.
    fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        match text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
            Some(line) => format!(": {line}"),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
