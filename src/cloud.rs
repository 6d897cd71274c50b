//! The way to the RUFUS Cloud: its wire types and calls, what a passing consists of, the uplink, and the audit.

pub mod audit;
pub mod passing;
pub mod rufus;
pub mod uplink;
