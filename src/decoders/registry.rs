//! Every protocol there is, a line each.

use super::protocol::Spec;
use super::{chronotrack, cloudbox, impinj, ipico, jchip, lines, llrp, mylaps, one4all, p3, raceresult, timy, ultra};

/// Every protocol: one line each, in alphabetical order.
pub static REGISTRY: &[&Spec] = &[
    &chronotrack::SPEC, //
    &cloudbox::SPEC,    //
    &impinj::SPEC,      //
    &ipico::SPEC,       //
    &jchip::SPEC,       //
    &lines::SPEC,       //
    &llrp::SPEC,        //
    &mylaps::SPEC,      //
    &one4all::SPEC,     //
    &p3::SPEC,          //
    &raceresult::SPEC,  //
    &timy::SPEC,        //
    &ultra::SPEC,       //
];

/// Protocols whose reads name the timing point they were made at.
pub const WITH_LOCATIONS: &[&str] = &["chronotrack", "mylaps"];

/// The registry line of `name`.
pub fn spec(name: &str) -> Option<&'static Spec> {
    REGISTRY.iter().copied().find(|spec| spec.name == name)
}
