//! The page in a real browser: Debian's Chromium, driven by [`chromium`].
//!
//! All of it is opt-in (`cargo test --test browser -- --ignored`), because it needs Chromium. `.ci/run`
//! installs it and runs these tests.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

#[path = "../support/mod.rs"]
mod support;

mod chromium;
mod pixels;
mod states;
