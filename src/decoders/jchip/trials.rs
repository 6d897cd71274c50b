//! What tests and fuzz targets try on this decoder.

use crate::decoders::trials::{Trials, nothing_of_its_own, nothing_to_repair};

pub(super) static TRIALS: Trials = Trials {
    options: &[&[]],
    greeting: b"N0000bridge\r",
    harmful: &[b"T0000\r"],
    in_order: true,
    is_costly: false,
    repair: nothing_to_repair,
    hostile: nothing_of_its_own,
};
