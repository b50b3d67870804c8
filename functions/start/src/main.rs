//! Creates runs: by the API, by webhooks, by events of a bus.

use std::process::ExitCode;

fn main() -> ExitCode {
    functions::run::<functions::Start>()
}
