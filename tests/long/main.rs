//! Tests that judge the memory and the descriptors of their own process, so nothing else may run in
//! it, and that take long. A short version of each runs by default.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

mod soak;
