//! What is seen and asked for from outside the process: the commands ([`ops`]), the control socket
//! through which they are given, and the page with its metrics.

pub(crate) mod control;
pub(crate) mod invite;
pub(crate) mod ops;
mod random;
pub(crate) mod web;
