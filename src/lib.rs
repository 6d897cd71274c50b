//! passbridge (head to be completed)
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod check;
pub mod chip;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod decode;
pub mod demo;
pub mod escape;
pub mod export;
pub mod failure;
pub mod glance;
pub mod journal;
pub mod link;
pub mod logging;
pub mod passing;
pub mod protocol;
mod retry;
pub mod rufus;
pub mod service;
pub mod sim;
pub mod status;
pub mod uplink;
pub mod web;
