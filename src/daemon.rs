//! (To be written.)

use crate::config::Config;
use crate::failure::Failure;

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config, warnings: Vec<String>) -> Result<(), Failure> {
    let _ = (config, warnings);
    Err(Failure::unavailable("`run` is not built into this version"))
}
