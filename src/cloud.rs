//! Everything for the RUFUS Cloud: its wire types and calls, the fields of a passing, the uplink,
//! the audit, and the list of what the cloud holds.

pub(crate) mod audit;
pub(crate) mod list;
pub(crate) mod pages;
pub(crate) mod passing;
pub(crate) mod rufus;
pub(crate) mod uplink;
