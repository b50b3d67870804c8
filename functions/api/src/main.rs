//! The API, but for what `start` and `approval` answer.

use std::process::ExitCode;

fn main() -> ExitCode {
    functions::run::<functions::Api>()
}
