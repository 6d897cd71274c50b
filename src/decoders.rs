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
//! A new decoder is one folder `src/decoders/<name>/` and one line in the list below (docs/adding-a-decoder.md). The folder has:
//! * `mod.rs`: the [`Spec`], a column for each thing that other code needs to know;
//! * `protocol.rs`: the protocol, with its wire layout in prose at the top;
//! * `recogniser.rs`: what the probe looks for, and `questions.rs`: what it may ask;
//! * `allowed.rs`: the list of what may ever be said to it, and `simulator.rs`: the simulated decoder. Both are written from the
//!   documents and use no code of the protocol, because they judge it;
//! * `trials.rs`: what tests and fuzz targets try on it;
//! * `samples.jsonl` and `captures/`: what such decoders send, and what must be read in it.

mod allowed;
mod civil;
mod condition;
pub(crate) mod descriptor;
pub(crate) mod foreign;
mod gaps;
mod line;
mod objects;
mod options;
mod protocol;
pub mod question;
pub mod recognise;
pub mod recogniser;
pub(crate) mod simulator;
mod text;
pub mod trials;

pub use condition::Condition;
pub use descriptor::{Dials, Missed, Spec, settings};
pub use protocol::{
    Cleared, Frame, Framed, Info, Item, MEMORY_MAX, OUTPUT_MAX, Output, Protocol, READ_MAX, Range, Reject,
    SettingError, Settings,
};

mod chronotrack;
mod cloudbox;
mod impinj;
mod ipico;
mod jchip;
mod lines;
mod llrp;
mod mylaps;
mod one4all;
mod p3;
mod raceresult;
mod timy;
mod ultra;

/// Every decoder there is, in alphabetical order.
pub static REGISTRY: &[&Spec] = &[
    &chronotrack::SPEC,
    &cloudbox::SPEC,
    &impinj::SPEC,
    &ipico::SPEC,
    &jchip::SPEC,
    &lines::SPEC,
    &llrp::SPEC,
    &mylaps::SPEC,
    &one4all::SPEC,
    &p3::SPEC,
    &raceresult::SPEC,
    &timy::SPEC,
    &ultra::SPEC,
];

/// The registry line of `name`.
pub fn spec(name: &str) -> Option<&'static Spec> {
    REGISTRY.iter().copied().find(|spec| spec.name == name)
}
