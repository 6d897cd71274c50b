//! What the simulators of all decoders share: the race, the memory, and how they speak. They are
//! pure, and know no socket and no clock ([`crate::sim::decoder`] has these). Nothing here, nor in
//! a decoder's `simulator.rs`, uses the code that parses.

pub(crate) mod memory;
pub(crate) mod nature;
pub(crate) mod outgoing;
pub(crate) mod race;
pub(crate) mod talk;
