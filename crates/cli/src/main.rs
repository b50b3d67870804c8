//! The `stepwell` binary: checks, runs, serves and tests workflows.
//!
//! - Files: `validate`, `graph`, `test`, `expr`.
//! - Runs: `run`, `runs`, `decide`, all through `client`, which is the API of a server or the same API here.
//! - A home: `serve`, `sync`, `home` (the database and who holds it), `doctor`.
//!
//! Data goes to stdout, everything else to stderr (`output`). It deliberately decides nothing: what a command means is
//! said by the crates below.
//!
//! Start reading at `args.rs`, the table of commands.

// Until every command exists.
#![allow(dead_code)]

mod args;
mod expr;
mod graph;
mod input;
mod output;
mod project;
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
    match run(&cli, output) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(Exit::Refused.code())
        }
    }
}

fn run(cli: &Cli, output: Output) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Validate(args) => validate::run(args, output),
        Command::Graph(args) => graph::run(args, output),
        Command::Expr(args) => expr::run(args, &cli.global, output),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "stepwell", &mut std::io::stdout());
            Ok(Exit::Done)
        }
        _ => Err(Failure::new("NOT_YET", "this command does not exist yet")),
    }
}
