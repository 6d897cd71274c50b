//! What is seen and asked for from outside the process: the commands ([`ops`]), the control socket
//! through which they are given, and the page with its metrics.

pub(crate) mod control;
pub(crate) mod ops;
pub(crate) mod web;
