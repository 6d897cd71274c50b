//! How much a problem matters.

use std::fmt;

/// How much a problem matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// It is good to know. Nothing is in danger, and nobody has to hurry.
    Info,
    /// Something is not as it should be. No read is being lost now, but somebody should look at it.
    Warning,
    /// Reads are being lost, or results are about to be wrong, or nothing arrives in the cloud
    /// until somebody acts.
    Critical,
}

impl Severity {
    /// The stable word for the severity.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
