//! The whole box against a cloud with habits: what is judged is what the cloud holds in the end.
//!
//! Written from the public facts about the cloud and from nothing of the uploader: a test here knows what must be true of the
//! cloud's storage, not how the box brings it about.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

mod cover;
mod habits;
#[path = "../image/mod.rs"]
mod image;
mod seen;
#[allow(dead_code, reason = "shared with another target, which uses the rest")]
#[path = "../way/support.rs"]
mod support;
mod trial;
