//! `passbridge`: arguments to commands, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    passbridge::cli::main()
}
