//! Everything for the RUFUS Cloud: its wire types and calls, the fields of a passing, the uplink,
//! and the audit.

pub(crate) mod audit;
pub(crate) mod passing;
pub(crate) mod rufus;
pub(crate) mod uplink;
