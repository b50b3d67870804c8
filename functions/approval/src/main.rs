//! Records people's decisions.

use std::process::ExitCode;

fn main() -> ExitCode {
    functions::run::<functions::Approval>()
}
