//! How a command ends when it fails: one line for people, and an exit code after sysexits(3).

use std::fmt;
use std::io;

/// Why a command fails. `Display` is the one line for people, and the kind decides the exit code.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    told: bool,
}

/// The kind says what a person has to do about the failure, and not where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usage,
    Data,
    Unavailable,
    Io,
    Permission,
    Config,
    Interrupted,
    Quiet,
    State(u8),
}

impl Failure {
    /// The command line asks for something that is not possible (64).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, message: message.into(), told: false }
    }

    /// The data that was given or found is wrong (65).
    pub fn data(message: impl Into<String>) -> Self {
        Self { kind: Kind::Data, message: message.into(), told: false }
    }

    /// Something outside does not answer: the daemon, a decoder or the cloud (69).
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: Kind::Unavailable, message: message.into(), told: false }
    }

    /// Reading or writing failed (74).
    pub fn io(message: impl Into<String>) -> Self {
        Self { kind: Kind::Io, message: message.into(), told: false }
    }

    /// The user who runs the command may not do this (77).
    pub fn permission(message: impl Into<String>) -> Self {
        Self { kind: Kind::Permission, message: message.into(), told: false }
    }

    /// The configuration must be changed (78). systemd would only repeat the message, so it must
    /// say what to change.
    pub fn config(message: impl Into<String>) -> Self {
        Self { kind: Kind::Config, message: message.into(), told: false }
    }

    /// The same failure, with one more sentence behind its message.
    #[must_use]
    pub(crate) fn with(self, sentence: &str) -> Self {
        Self { message: format!("{}. {sentence}", self.message), ..self }
    }

    /// The command did what it should, and the state that it shows is not in order. The exit code
    /// says which state it is ([`BoxState::exit_code`](crate::status::BoxState::exit_code)).
    pub fn state(code: u8) -> Self {
        Self { kind: Kind::State(code), message: String::new(), told: true }
    }

    /// Ctrl-C ended the command (130, as shells have it). The message says what that leaves.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self { kind: Kind::Interrupted, message: message.into(), told: false }
    }

    /// Writing the output of a command failed. If its reader closed the pipe (`| head`), the
    /// command ends without a message and with exit code 0.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { kind: Kind::Quiet, message: String::new(), told: true },
            _ => Self::io(format!("writing the output failed: {error}")),
        }
    }

    /// Marks the failure as shown by the command's own output, so that only the exit code is left.
    #[must_use]
    pub fn already_told(self) -> Self {
        Self { told: true, ..self }
    }

    /// The exit code after sysexits(3).
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 64,
            Kind::Data => 65,
            Kind::Unavailable => 69,
            Kind::Io => 74,
            Kind::Permission => 77,
            Kind::Config => 78,
            Kind::Interrupted => 130,
            Kind::Quiet => 0,
            Kind::State(code) => code,
        }
    }

    /// Whether the failure was already shown.
    pub fn is_told(&self) -> bool {
        self.told
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::config(error.to_string())
    }
}
