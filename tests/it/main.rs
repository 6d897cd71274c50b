//! Everything that needs no root, no allocator of its own and no process of its own: the tests that
//! `cargo test` runs.
//!
//! They are one program so that a change is linked once. So they share a process: a test here sets
//! no environment variable, no current directory and no signal handler, judges no memory and no
//! descriptors of its own process, and takes only free ports. `cargo test --test it e2e::clock`
//! runs a part of them.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod binary;
mod configuration;
mod documents;
mod e2e;
mod export;
mod fuzzed;
mod journal;
mod packaging;
mod problems;
mod protocols;
mod recognise;
mod report;
mod spreadsheet;
mod uplink;
