//! Everything for the RUFUS Cloud: its wire types and calls, the fields of a passing, the uplink,
//! and the audit.

pub mod audit;
pub mod passing;
pub mod rufus;
pub mod uplink;
