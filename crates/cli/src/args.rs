//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap_complete::Shell;

/// What every exit code means; printed behind `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done: the run COMPLETED, the files are valid, the tests passed
  1  an error: it stands on stderr with its code (`docs/errors/CODE.md`); files are invalid, tests failed
  2  the command line is wrong
  3  the run FAILED
  4  the run TIMED_OUT
  5  the run was CANCELLED
  6  the run is not over yet (it waits, is paused, or the time given was over)

Variables:
  STEPWELL_DB        the database file (--db)
  STEPWELL_ENDPOINT  the address of a running server (--endpoint)
  STEPWELL_STACK     the stack of --endpoint aws (--stack)
  STEPWELL_API_URL   where the API of --endpoint aws begins, if no stack is named
  STEPWELL_OUTPUT    text or json (--output)
  STEPWELL_LOG       what is logged to stderr: error, warn, info, debug, or `target=level`
  NO_COLOR           no colours, whatever the terminal";

/// Durable workflows for AI agents and the people who approve what they do.
#[derive(Debug, Parser)]
#[command(name = "stepwell", version, after_long_help = EXIT_CODES, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command knows.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The database file [default: .stepwell/stepwell.db]
    #[arg(long, global = true, env = "STEPWELL_DB", value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,
    /// A running server, as http://127.0.0.1:PORT or `https://HOST/STAGE`, or `aws` for a deployed stack. Without it: the
    /// one that holds the database, if any
    #[arg(long, global = true, env = "STEPWELL_ENDPOINT", value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The CloudFormation stack whose API is meant; implies `--endpoint aws`
    #[arg(long, global = true, env = "STEPWELL_STACK", value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// How results are printed: text for people, or one JSON document (NDJSON where it streams)
    #[arg(
        long,
        short,
        global = true,
        env = "STEPWELL_OUTPUT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(crate) output: Format,
    /// Colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check workflow and agent files
    Validate(Validate),
    /// Run a workflow file and print its output
    Run(Run),
    /// Serve the API and perform runs until stopped
    Serve(Serve),
    /// Register a project's workflows and agents
    Sync(Sync),
    /// Register a project's workflows and agents with a deployed stack, or any server, over its API
    Deploy(Deploy),
    /// Look at runs and control them
    #[command(subcommand)]
    Runs(Runs),
    /// See what waits for a decision
    #[command(subcommand)]
    Approvals(Approvals),
    /// Approve what a run asks
    Approve(Decide),
    /// Reject what a run asks
    Reject(Decide),
    /// Send a signal to a run
    Signal(Signal),
    /// Run the tests of workflows (*.test.yaml)
    Test(Test),
    /// Draw a workflow as a Mermaid flowchart
    Graph(Graph),
    /// Evaluate an expression against a context
    Expr(Expr),
    /// Say whether everything is in order, and what to do if not
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// Files, or folders that are searched for *.workflow.yaml|yml|json, *.agent.yaml, *.prompt and *.test.yaml
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Warnings are errors
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The workflow's file
    pub(crate) file: PathBuf,
    /// Its input: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON", default_value = "{}")]
    pub(crate) input: String,
    /// Approve whatever it asks
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// In whose name approvals are decided [default: user:NAME of the one logged in]
    #[arg(long, env = "STEPWELL_USER", value_name = "USER")]
    pub(crate) approver: Option<String>,
    /// The same key and input start the same run (needs --db or --endpoint)
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Stop following after this time; the run goes on where a server performs it
    #[arg(long, value_name = "DURATION")]
    pub(crate) wait: Option<String>,
    /// Register a changed definition under a new version instead of refusing it
    #[arg(long)]
    pub(crate) new_version: bool,
    /// No progress on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address to listen on; port 0 takes a free one and prints it
    #[arg(long, env = "STEPWELL_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:7878")]
    pub(crate) listen: String,
    /// The project whose workflows/ and agents/ are registered at the start [default: the current folder, if it has workflows/]
    #[arg(long, short, env = "STEPWELL_PROJECT", value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// A folder of workflow files, with agents/ in or beside it, registered at the start
    #[arg(long, value_name = "DIR", conflicts_with = "project")]
    pub(crate) workflows: Option<PathBuf>,
    /// Register changed definitions under a new version instead of refusing them
    #[arg(long)]
    pub(crate) new_version: bool,
    /// How many seconds the steps being performed may go on when the server is told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// The project
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Register changed definitions under a new version instead of refusing them
    #[arg(long)]
    pub(crate) new_version: bool,
    /// Only say what would change; 1 when something would
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The project
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Register changed definitions under a new version instead of refusing them
    #[arg(long)]
    pub(crate) new_version: bool,
    /// Disable what was deployed from files that this project does not have; those of another project too
    #[arg(long)]
    pub(crate) prune: bool,
    /// Only say what would change; 1 when something would
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Runs {
    /// List runs, the newest first
    Ls {
        /// Only of this workflow
        #[arg(long, short, value_name = "ID")]
        workflow: Option<String>,
        /// Only with this status; several with commas
        #[arg(long, short, value_name = "STATUS")]
        status: Option<String>,
        /// How many
        #[arg(long, short, default_value_t = 50)]
        limit: u32,
        /// Where the page before ended
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// Show a run
    Get {
        /// Its id
        run: String,
        /// Wait until it is over, at most so long
        #[arg(long, value_name = "DURATION")]
        wait: Option<String>,
    },
    /// Show everything that happened in a run
    Timeline {
        /// Its id
        run: String,
        /// Go on printing what happens until it is over
        #[arg(long, short)]
        follow: bool,
    },
    /// End a run
    Cancel {
        /// Its id
        run: String,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Stop a run's clocks; nothing new begins
    Pause {
        /// Its id
        run: String,
    },
    /// Let a paused run go on
    Resume {
        /// Its id
        run: String,
    },
    /// Let a failed or cancelled run go on from where it failed
    Redrive {
        /// Its id
        run: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List what is asked
    Ls {
        /// Only of this run (decided ones too)
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    /// The run
    pub(crate) run: String,
    /// The approval's id or the state that asks; may be left out where only one thing is asked
    pub(crate) approval: Option<String>,
    /// Why
    #[arg(long, short, visible_alias = "reason")]
    pub(crate) comment: Option<String>,
    /// What the form asks for: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    pub(crate) form: Option<String>,
    /// In whose name [default: user:NAME of the one logged in]
    #[arg(long, env = "STEPWELL_USER", value_name = "USER")]
    pub(crate) approver: Option<String>,
    /// A team they belong to, as team:NAME; may be given several times
    #[arg(long, value_name = "TEAM")]
    pub(crate) team: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// The run
    pub(crate) run: String,
    /// The signal's name
    pub(crate) name: String,
    /// What it carries: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// By which a signal sent twice is known again
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Test files, or folders that are searched for *.test.yaml
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only tests whose file or name contains this
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Show each test's timeline, also of those that pass
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// How many at once [default: one for each core]
    #[arg(long, short, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Where the runs are kept: each test runs once in each
    #[arg(long, value_delimiter = ',', value_name = "HOME", default_value = "memory")]
    pub(crate) homes: Vec<HomeKind>,
    /// Print how many passed in each folder and home, and how long they took
    #[arg(long)]
    pub(crate) table: bool,
}

/// Where tests keep their runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HomeKind {
    /// In memory
    Memory,
    /// A database file for each test, gone when it is over
    Sqlite,
}

#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The workflow's file
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Expr {
    /// An expression, e.g. `ctx.error_rate > 0.05`
    pub(crate) expression: String,
    /// The context: JSON, @FILE, or - for stdin
    #[arg(long, short, value_name = "JSON", conflicts_with = "run")]
    pub(crate) context: Option<String>,
    /// Use a run's context
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// What `input` is [default: the context]
    #[arg(long, short, value_name = "JSON")]
    pub(crate) input: Option<String>,
    /// It is a text with {{ }} in it
    #[arg(long, short, conflicts_with = "program")]
    pub(crate) template: bool,
    /// It is a program whose last statement is its value, as in a transform
    #[arg(long, short)]
    pub(crate) program: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The project
    #[arg(long, short, env = "STEPWELL_PROJECT", value_name = "DIR", default_value = ".")]
    pub(crate) project: PathBuf,
}
