//! Decoder protocols: they turn bytes into frames and reply bytes.
//!
//! What must hold for every protocol:
//! * **Pure.** A protocol does no I/O, reads no clock and does not use tokio. It knows time only as
//!   the age of the link, which [`Protocol::tick`] passes to it.
//! * **Cannot fail.** Bytes that the protocol rejects are a frame too ([`Frame::Rejected`], with a
//!   typed reason and the raw bytes). The protocol never panics on any input. Its result does not
//!   depend on how the bytes were cut into pieces.
//! * **Bounded.** The buffer of a protocol has a limit, which is written beside it. Bytes beyond
//!   the limit become a rejected frame. Whatever a decoder sends, the protocol holds less than
//!   [`MEMORY_MAX`], and the output of one read stays below [`OUTPUT_MAX`] (tests/memory.rs).
//! * **Read-only.** The protocol sends no command that starts, stops, clears or sets a decoder,
//!   unless an option asks for it (`llrp`, `cloudbox`).
//! * **Acknowledgements follow the frames.** The link writes an [`Item::Reply`] to the wire only
//!   when every frame before it in the output is durable. The protocol only has to keep the order.
//!
//! A new decoder is one folder `src/decoders/<name>/` and one line in the list below
//! (docs/adding-a-decoder.md). The folder has:
//! * `mod.rs`: the [`Spec`], with a column for each fact that other code needs to know;
//! * `protocol.rs`: the protocol, with its wire layout in prose at the top;
//! * `recogniser.rs`: what the probe looks for, and `questions.rs`: what the probe may ask;
//! * `allowed.rs`: the list of the bytes that may ever be sent to the decoder, and `simulator.rs`:
//!   the simulated decoder. Both are written from the documents and use no code of the protocol,
//!   because they check it;
//! * `trials.rs`: what tests and fuzz targets try on the protocol;
//! * `samples.jsonl` and `captures/`: what such decoders send, and what the protocol must read in
//!   it.

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
pub(crate) mod question;
pub(crate) mod recognise;
pub(crate) mod recogniser;
pub(crate) mod simulator;
mod text;
pub(crate) mod trials;

pub(crate) use condition::Condition;
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

/// Every decoder that passbridge can read, in alphabetical order.
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

/// The descriptor of the decoder with this name in the configuration.
pub fn spec(name: &str) -> Option<&'static Spec> {
    REGISTRY.iter().copied().find(|spec| spec.name == name)
}
