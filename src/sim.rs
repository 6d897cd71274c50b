//! The simulated decoder and cloud that `demo`, `simulate`, tests and benches share.

pub mod cloud;
pub mod decoder;
pub mod replay;
