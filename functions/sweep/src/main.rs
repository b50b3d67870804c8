//! Each minute: rings what is due, fires schedules.

use std::process::ExitCode;

fn main() -> ExitCode {
    functions::run::<functions::Sweep>()
}
