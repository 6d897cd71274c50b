//! The commands, a file or a folder each. What the process is started with is read in
//! [`crate::cli`].

pub(crate) mod args;
pub mod audit;
pub(crate) mod capture;
pub mod check;
pub mod decode;
pub mod demo;
pub(crate) mod export;
pub mod probe;
pub(crate) mod resend;
pub(crate) mod rewind;
pub(crate) mod simulate;
pub(crate) mod status;
