//! What `passbridge --version` says: version, commit, and the formats of the log, so that whoever goes
//! back to an older version knows beforehand whether it can read the data directory.

use std::sync::LazyLock;

use crate::journal;

/// The commit from which the program was built, as `build.rs` found it.
const COMMIT: &str = env!("PASSBRIDGE_COMMIT_SHOWN");

/// The version, the commit and the formats of the log, a line each. `-V` shows only the version.
pub(crate) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let (oldest, newest) = (journal::FORMATS.start(), journal::FORMATS.end());
        format!("{}\ncommit {COMMIT}\nlog format {newest} (reads {oldest} to {newest})", env!("CARGO_PKG_VERSION"))
    });
    &TEXT
}
