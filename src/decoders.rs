//! Decoder protocols: bytes in, frames and reply bytes out.
//!
//! What must hold for every protocol:
//! * **Pure.** No I/O, no clock, no tokio. Time reaches it only as the link's age in [`Protocol::tick`].
//! * **Cannot fail.** Bytes it rejects are frames too ([`Frame::Rejected`], a typed reason, the raw bytes).
//!   It never panics on any input, and the result does not depend on how the bytes were cut into pieces.
//! * **Bounded.** Its buffer has a limit written beside it; beyond that the bytes become a rejected frame. Whatever a decoder
//!   sends, all that it holds stays below [`MEMORY_MAX`], what one read puts out below [`OUTPUT_MAX`] (tests/memory.rs).
//! * **Read-only.** No command that starts, stops, clears or sets a decoder, unless an option asks for it (`llrp`).
//! * **Acks come after.** A [`Item::Reply`] is written to the wire only when every frame before it in the
//!   output is durable (the link sees to that; the protocol only has to keep the order).
//!
//! A new decoder is one file in `src/decoders/` with its wire layout in prose at the top, one line in
//! [`REGISTRY`], one simulator, and a capture with its expected output.

mod chronotrack;
mod civil;
mod cloudbox;
mod condition;
mod gaps;
mod impinj;
mod ipico;
mod jchip;
mod line;
mod lines;
mod llrp;
mod mylaps;
mod objects;
mod one4all;
mod options;
mod p3;
mod protocol;
mod raceresult;
mod registry;
mod text;
mod timy;
mod ultra;

pub use condition::Condition;
pub use protocol::{
    Cleared, Frame, Framed, Info, Item, MEMORY_MAX, Missed, OUTPUT_MAX, Output, Protocol, READ_MAX, Range, Reject,
    SettingError, Settings, Spec,
};
pub use registry::{REGISTRY, WITH_LOCATIONS, spec};
