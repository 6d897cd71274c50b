//! What the fuzz targets share: inputs become links ([`harness`]), and every so often it is told
//! how far they get.

pub mod capture;
pub mod harness;
pub mod seeds;

use std::sync::{Mutex, OnceLock};

use passbridge::testing::decoders::REGISTRY;

static SEEN: Mutex<(u64, harness::Seen)> =
    Mutex::new((0, harness::Seen { accepted: 0, rejected: 0, chatter: 0, replies: 0 }));

/// The protocol that is fuzzed: the environment names it, so that a new one needs no target of its
/// own.
///
/// # Panics
/// Where it names none.
pub fn chosen() -> &'static str {
    static CHOSEN: OnceLock<&str> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("PASSBRIDGE_PROTOCOL").unwrap_or_default();
        let names: Vec<&str> = REGISTRY.iter().map(|spec| spec.name).collect();
        let chosen = names.iter().find(|known| **known == name);
        chosen.unwrap_or_else(|| panic!("which protocol? PASSBRIDGE_PROTOCOL is one of {}", names.join(", ")))
    })
}

/// One input for a protocol of the registry. What they reached is written to standard error now and
/// then.
///
/// # Panics
/// See [`harness::run`].
pub fn protocol(name: &'static str, data: &[u8]) {
    let seen = harness::run(name, data);
    let mut sum = SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.0 += 1;
    sum.1 += seen;
    if is_told(sum.0) {
        eprintln!("reached: {name} {} inputs, {:?}", sum.0, sum.1);
    }
}

fn is_told(inputs: u64) -> bool {
    inputs.is_multiple_of(1 << 20) || inputs >= 1 << 17 && inputs.is_power_of_two()
}

/// One capture file. It is told now and then how many records they had.
///
/// # Panics
/// See [`capture::run`].
pub fn capture_file(data: &[u8]) {
    let records = capture::run(data);
    let mut sum = SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.0 += 1;
    sum.1.accepted += records;
    if is_told(sum.0) {
        eprintln!("reached: capture {} files, {} records", sum.0, sum.1.accepted);
    }
}
