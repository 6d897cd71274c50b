//! What is seen and asked for from outside the process: the page with its metrics, and the control socket.

pub mod control;
pub mod web;
