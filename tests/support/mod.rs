//! What the test programs share. Each includes all of it once and uses a part.
#![allow(dead_code, reason = "each test program uses its part, and benches and unit tests use single files of it")]

pub mod allowed;
pub mod child;
pub mod front;
/// The checks of the fuzz targets, which are a workspace of their own (fuzz/README.md).
#[path = "../../fuzz/src/lib.rs"]
pub mod fuzz;
pub mod image;
pub mod samples;
pub mod shaper;
pub mod way;
