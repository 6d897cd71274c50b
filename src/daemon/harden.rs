//! What the process denies to other programs on the box, done first of all, whatever the command.
//!
//! Must hold: nothing here can keep a box from starting. A system that refuses one of these goes on without it.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};

/// No core file, no memory, environment or open file for other programs of the same user (root still may), and no
/// right for strangers in the files made from now on.
pub fn process() {
    // The unit says the same; a daemon that is started by hand has no unit.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // A stricter mask stays: chips and bibs are personal data. It can only be read by setting it.
    let before = umask(Mode::from_raw_mode(0o027));
    umask(before | Mode::from_raw_mode(0o027));
}
