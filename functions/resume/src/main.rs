//! Appends what has become true: woken by the queue `resume`.

use std::process::ExitCode;

fn main() -> ExitCode {
    functions::run::<functions::Resume>()
}
