//! What everybody talks about: reads and stamps, the rules of the clock, names of lanes, waits, and raw bytes as text.

pub mod chip;
pub mod clock;
pub mod escape;
pub mod lane;
pub(crate) mod retry;
pub(crate) mod text;
