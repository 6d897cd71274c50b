//! What is on this cable? Bytes to a protocol, for somebody with a box, a cable and no manual.

pub mod foreign;
mod marks;
pub mod recognise;

pub use self::recognise::{Candidate, Grade, Tally, recognise};
