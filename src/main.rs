//! The `mongotap` command: does what the command line says and prints what went wrong.

use std::process::ExitCode;

use mongotap::cli;

#[expect(clippy::print_stderr, reason = "the one place where errors are printed")]
fn main() -> ExitCode {
    let error = match cli::run(std::env::args_os()) {
        Ok(code) => return ExitCode::from(code),
        Err(error) => error,
    };
    eprintln!("{}", error.said());
    ExitCode::from(error.code as u8)
}
