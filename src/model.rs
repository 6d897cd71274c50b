//! What everybody talks about: reads and stamps, the rules of the clock, names of sources, waits,
//! and raw bytes as text.

pub mod chip;
pub mod clock;
pub mod escape;
pub(crate) mod retry;
pub mod source;
pub(crate) mod text;
