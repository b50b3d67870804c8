//! Performs steps: woken by the queue `steps`.

use std::process::ExitCode;

fn main() -> ExitCode {
    functions::run::<functions::Step>()
}
