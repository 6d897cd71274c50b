//! (To be written.)

use crate::cli::DemoArgs;
use crate::failure::Failure;

/// Runs the demonstration.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let _ = args;
    Err(Failure::unavailable("`demo` is not built into this version"))
}
