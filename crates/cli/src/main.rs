//! The `stepwell` binary: checks, runs, serves and tests workflows.
//!
//! - Files: `validate`, `graph`, `test`, `expr`.
//! - Runs: `run`, `runs`, all through `client`, which is the API of a server or the same API here.
//! - A stack: `deploy`, and every command about runs with `--endpoint` (`aws`: where it is, and who asks).
//! - A home: `serve`, `sync`, `home` (the database and who holds it), `doctor`.
//!
//! Data goes to stdout, everything else to stderr (`output`). It deliberately decides nothing: what a command means is
//! said by the crates below.
//!
//! Start reading at `args.rs`, the table of commands.

mod args;
mod aws;
mod client;
mod codes;
mod deploy;
mod doctor;
mod expr;
mod follow;
mod graph;
mod home;
mod input;
mod output;
mod project;
mod run;
mod runs;
mod serve;
mod sync;
mod table;
mod test;
mod tls;
mod validate;

use std::process::ExitCode;

use clap::CommandFactory;
use clap::Parser;

use crate::args::Cli;
use crate::args::Command;
use crate::output::Exit;
use crate::output::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(&cli.global);
    match perform(&cli, output) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(Exit::Refused.code())
        }
    }
}

fn perform(cli: &Cli, output: Output) -> Result<Exit, Failure> {
    let global = &cli.global;
    match &cli.command {
        Command::Validate(args) => validate::run(args, output),
        Command::Run(args) => run::run(args, global, output),
        Command::Serve(args) => serve::run(args, global, output),
        Command::Sync(args) => sync::run(args, global, output),
        Command::Deploy(args) => deploy::run(args, global, output),
        Command::Runs(args) => runs::run(args, global, output),
        Command::Approvals(args) => runs::approvals(args, global, output),
        Command::Approve(args) => runs::decide(args, true, global, output),
        Command::Reject(args) => runs::decide(args, false, global, output),
        Command::Signal(args) => runs::signal(args, global, output),
        Command::Test(args) => test::run(args, output),
        Command::Graph(args) => graph::run(args, output),
        Command::Expr(args) => expr::run(args, global, output),
        Command::Doctor(args) => doctor::run(args, global, output),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "stepwell", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    }
}
