//! `cargo run`: see `nightshift::cli`.
#![forbid(unsafe_code)]
use std::process::ExitCode;

fn main() -> ExitCode {
    match nightshift::cli::main() {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            // One clear line: the whole chain of causes.
            eprintln!("nightshift: {e:#}");
            ExitCode::from(125)
        }
    }
}
