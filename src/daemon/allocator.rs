//! Memory that is freed goes back to the system, also where nobody set the allocator up for that.
//!
//! glibc gives each thread a pool of its own and keeps what is freed in it: the box holds a third more
//! memory after its first look at a long session, and twice as much while a backlog drains. Only
//! variables in the environment change that (or a call that is unsafe), and only at the start of a process. So `run` starts
//! its own program once more, in the same process, with the variables that are missing.
//!
//! Rejected, with figures in docs/evidence/disk-and-memory.md: jemalloc, which needs as much with one
//! pool and more as it comes; mimalloc, which needed three times as much. Not measured, only read:
//! dlmalloc in Rust writes zeros into the half megabyte of each of sled's forty histograms, which
//! nobody uses.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// One pool for all threads: they allocate little at the same time. What is freed at the end of
/// the pool goes back from 128 KiB on; that it is set keeps large pieces out of the pool, too.
pub const VARIABLES: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Starts the program anew if one of the variables is missing. It returns if all of them are there, or
/// if the system does not let it: then the box needs more memory and is the same otherwise.
pub(crate) fn set_up() {
    let mut missing = VARIABLES.iter().filter(|(name, _)| env::var_os(name).is_none()).peekable();
    if missing.peek().is_none() {
        return;
    }
    let mut arguments = env::args_os();
    let Some(name) = arguments.next() else { return };
    // By this path also when the file was replaced by a newer version since.
    let mut again = Command::new("/proc/self/exe");
    again.arg0(name).args(arguments).envs(missing.copied());
    let _ = again.exec(); // it returns only an error
}
