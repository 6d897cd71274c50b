//! The commands, a file or a folder each. What the process is started with is read in
//! [`crate::cli`].

pub(crate) mod account;
pub(crate) mod args;
pub(crate) mod audit;
pub(crate) mod capture;
pub(crate) mod check;
pub(crate) mod correct;
pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod generate;
pub(crate) mod here;
pub(crate) mod hold;
pub(crate) mod import_boot;
pub(crate) mod invite;
pub(crate) mod link;
pub(crate) mod machine;
pub(crate) mod marker;
pub(crate) mod passings;
pub(crate) mod probe;
pub(crate) mod progress;
pub(crate) mod reads;
pub(crate) mod report;
pub(crate) mod resend;
pub(crate) mod rewind;
pub(crate) mod room;
pub(crate) mod search;
pub(crate) mod seen;
pub(crate) mod session;
pub(crate) mod set_aside;
pub(crate) mod setup;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod watch;
