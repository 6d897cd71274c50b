//! What the fuzz targets share: inputs become links ([`harness`]), and every so often it is told how far they get.

pub mod allowed;
pub mod capture;
pub mod harness;
pub mod repair;
pub mod seeds;

use std::sync::Mutex;

static SEEN: Mutex<(u64, harness::Seen)> =
    Mutex::new((0, harness::Seen { accepted: 0, rejected: 0, chatter: 0, replies: 0 }));

/// One input for a protocol of the registry. Every 2^20 inputs what they reached is written to standard error.
///
/// # Panics
/// See [`harness::run`].
pub fn protocol(name: &'static str, data: &[u8]) {
    let seen = harness::run(name, data);
    let mut sum = SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.0 += 1;
    sum.1 += seen;
    if sum.0 % (1 << 20) == 0 {
        eprintln!("reached: {name} {} inputs, {:?}", sum.0, sum.1);
    }
}

/// One capture file. Every 2^20 files it is told how many records they had.
///
/// # Panics
/// See [`capture::run`].
pub fn capture_file(data: &[u8]) {
    let records = capture::run(data);
    let mut sum = SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.0 += 1;
    sum.1.accepted += records;
    if sum.0 % (1 << 20) == 0 {
        eprintln!("reached: capture {} files, {} records", sum.0, sum.1.accepted);
    }
}
