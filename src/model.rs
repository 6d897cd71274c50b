//! What everybody talks about: reads and stamps, the rules of the clock, instants for people, names
//! of sources, waits, and raw bytes as text.

pub(crate) mod chip;
pub(crate) mod clock;
pub(crate) mod correction;
pub(crate) mod digits;
pub(crate) mod escape;
pub(crate) mod retry;
pub(crate) mod shown;
pub(crate) mod source;
pub(crate) mod text;
pub(crate) mod typed;
