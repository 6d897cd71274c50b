//! The real binary as a child process: killed at any moment, stopped, on a full disk, with a broken queue, beside another
//! one, and as a timer types its commands. Decoders and cloud are simulated here, in the process of the test.

#![allow(clippy::unwrap_used)] // helpers of tests, outside of test functions

mod audit;
mod capture;
mod child;
mod commands;
mod disk;
mod faketime;
mod faults;
#[allow(dead_code, reason = "each of its users uses a part of it")]
#[path = "../front/mod.rs"]
mod front;
mod gone;
mod home;
#[path = "../image/mod.rs"]
mod image;
mod kill;
mod output;
mod overload;
mod probe;
mod queue;
mod rewind;
mod security;
mod signals;
mod stop;
mod tls;
