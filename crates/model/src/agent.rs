//! Definitions of agents: `<name>.agent.yaml` and `<name>.prompt`.

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::Template;
use expression::Tree;
use expression::Value;

use crate::Issue;
use crate::Millis;
use crate::Schema;

mod parse;
mod picoschema;

/// One agent, as its file defines it.
#[derive(Debug)]
pub struct Agent {
    /// Its name: the file's name without its ending.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Option<String>,
    /// How it is performed.
    pub kind: Kind,
    /// What its input must look like.
    pub input_schema: Option<Schema>,
    /// What its output must look like.
    pub output_schema: Option<Schema>,
    /// One attempt's limit, where the state gives none.
    pub timeout: Option<Millis>,
    /// The definition as JSON, canonical: the hash is over it.
    pub definition: Value,
    /// SHA-256 of the canonical definition, in hexadecimal: what a run pins.
    pub hash: Arc<str>,
}

/// How an agent is performed.
#[derive(Debug)]
pub enum Kind {
    /// Answers what the file says; for tests and dry runs.
    Static(Static),
    /// Runs a program. JSON on stdin, JSON or text on stdout. Embedded only.
    Command(Command),
    /// Calls an HTTP endpoint.
    Http(Http),
    /// Invokes an AWS Lambda function.
    Lambda(Lambda),
    /// Asks a language model.
    Prompt(Prompt),
}

/// Answers what the file says.
#[derive(Debug)]
pub struct Static {
    /// In order; the first that matches answers.
    pub cases: Vec<Case>,
    /// The answer when no case matches. A text is treated as an agent's text.
    pub otherwise: Option<Answer>,
    /// How long it pretends to work.
    pub delay: Option<Millis>,
}

/// One case of a static agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Matches a request that holds at least this: objects by key, everything else equal. The keys are `task`,
    /// `input` and `variables`.
    pub matches: Value,
    /// What it answers.
    pub answer: Answer,
}

/// What a static agent answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Success.
    Output(Value),
    /// A failure.
    Error {
        /// The error's type; `agent_error` unless given.
        kind: Arc<str>,
        /// Its message.
        message: String,
    },
}

/// Runs a program without a shell.
#[derive(Debug)]
pub struct Command {
    /// The program and its arguments, each as it stands; at least one.
    pub argv: Vec<String>,
    /// Variables that are set. The environment is empty but for these and `inherit`. A secret reference is resolved when
    /// the program is started.
    pub environment: BTreeMap<String, Template>,
    /// Names of variables that are passed through from the engine's own environment.
    pub inherit: Vec<String>,
    /// The working directory, relative to the agent's file; that file's folder unless given.
    pub cwd: Option<String>,
    /// More bytes than this on stdout are an error.
    pub output_limit: u64,
    /// How long the program has to end by itself after a termination signal.
    pub grace: Millis,
}

/// What a command may write to stdout, unless its file says otherwise: 1 MiB.
pub const DEFAULT_OUTPUT_LIMIT: u64 = 1 << 20;
/// The most that a file may allow: 64 MiB.
pub const MAX_OUTPUT_LIMIT: u64 = 64 << 20;

/// Calls an HTTP endpoint.
#[derive(Debug)]
pub struct Http {
    /// The method; POST unless given.
    pub method: String,
    /// The address. `{{ }}` sees the request as `task`, `input`, `variables`; secrets are allowed.
    pub url: Template,
    /// Headers, by name as written. Secrets are allowed.
    pub headers: Vec<(String, Template)>,
    /// The body; the request itself (`{task, input, variables}`) as JSON unless given.
    pub body: Option<Tree>,
    /// Status codes that are a success; 200 to 299 unless given.
    pub expect: Vec<u16>,
    /// How long connecting may take.
    pub connect_timeout: Option<Millis>,
    /// More bytes than this in the answer are an error.
    pub output_limit: u64,
    /// Whether redirects are followed (within the same origin).
    pub follow_redirects: bool,
    /// A file of PEM certificates that are trusted besides the system's, relative to the agent's file.
    pub ca_file: Option<String>,
}

/// Invokes an AWS Lambda function.
#[derive(Debug)]
pub struct Lambda {
    /// Its name or ARN.
    pub function: String,
    /// A version or alias.
    pub qualifier: Option<String>,
    /// An AWS region, if not the engine's own.
    pub region: Option<String>,
}

/// Asks a language model (dotprompt).
#[derive(Debug)]
pub struct Prompt {
    /// The model, `provider/name`.
    pub model: Option<String>,
    /// The whole front matter.
    pub front_matter: Value,
    /// The Handlebars body.
    pub body: String,
}

/// Where agents are looked up by name.
pub trait AgentCatalog {
    /// The agent of this name.
    fn agent(&self, name: &str) -> Option<&Agent>;
    /// All names, for hints.
    fn names(&self) -> Vec<String>;
}

/// Reads an agent's definition. Its name and kind come from the file's name (any folder in front is ignored).
pub fn parse(source: &str, file_name: &str) -> (Option<Agent>, Vec<Issue>) {
    parse::parse(source, file_name)
}
