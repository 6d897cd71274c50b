//! The simulated decoder and cloud that `demo`, `simulate`, tests and benches share.

pub(crate) mod cloud;
pub(crate) mod decoder;
pub(crate) mod replay;
