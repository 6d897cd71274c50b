//! What the process denies to other programs on the box. It is done before anything else, whatever
//! the command is.
//!
//! Must hold: nothing here can keep a box from starting. If a system refuses one of these calls,
//! the process continues without it.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// Denies a core file, and denies the memory, environment and open files to other programs of the
/// same user (root still has access). Users who are neither owner nor group get no right to files
/// that the process makes from now on.
pub(crate) fn process() {
    // The systemd unit sets the same, but a daemon that is started by hand has no unit.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // A stricter mask stays, because chips and bibs are personal data. The mask can only be read by
    // setting it.
    let before = umask(Mode::from_raw_mode(0o027));
    umask(before | Mode::from_raw_mode(0o027));
}
