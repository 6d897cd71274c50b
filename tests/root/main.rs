//! What only root can do to a box: cut the power of its disk, and put it into a network of its own.
//! All of it is ignored by default; tests/README.md has the commands.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

#[path = "../support/mod.rs"]
mod support;

mod network;
mod power;
