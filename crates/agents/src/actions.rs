//! One call of one action: from the rendered request to the output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expression::Value;
use model::Action;
use model::Millis;
use model::agent::Kind;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;

use crate::command;
use crate::command::ProcessTable;
use crate::command::ProcessTableError;
use crate::error::Code;
use crate::error::validation;
use crate::http;
use crate::log;
use crate::output;
use crate::registry::Definitions;
use crate::registry::Registry;
use crate::request;
use crate::secret::Redactor;
use crate::secret::Secrets;
use crate::stub;

/// How actions are performed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The engine's own environment: where `${env:X}` and the variables that a command names are looked up, and the
    /// `PATH` its program is searched in.
    pub environment: BTreeMap<OsString, OsString>,
    /// Where the relative paths of definitions' files and of `${file:…}` begin.
    pub directory: PathBuf,
    /// The folder that remembers running programs, for one engine at a time: it belongs beside what that engine locks.
    /// Without one, programs that outlive a killed engine are not ended.
    pub process_table: Option<PathBuf>,
    /// There is nothing to run programs on.
    pub no_programs: bool,
}

impl Options {
    /// With this process's environment, and paths that begin in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let environment = std::env::vars_os().collect();
        Self { environment, directory: directory.into(), ..Self::default() }
    }

    /// The same with the folder that remembers running programs.
    #[must_use]
    pub fn with_process_table(mut self, folder: impl Into<PathBuf>) -> Self {
        self.process_table = Some(folder.into());
        self
    }

    /// The same for a home that has nothing to run programs on: a `command` agent that a run calls all the same fails for good.
    #[must_use]
    pub fn without_programs(mut self) -> Self {
        self.no_programs = true;
        self
    }

    /// Ready to perform; agents are looked up in `definitions`. Programs that outlived the engine before this one are ended
    /// first, so whoever calls this holds that engine's lock; it blocks while they end, a few seconds at most.
    pub fn build(self, definitions: Arc<dyn Definitions>) -> Result<Actions, ProcessTableError> {
        let processes = self.process_table.map(ProcessTable::open).transpose()?.map(Arc::new);
        let secrets = Secrets::of(self.environment, &self.directory);
        let registry = Registry::new(definitions, self.directory);
        let no_programs = self.no_programs;
        Ok(Actions { registry, secrets, processes, no_programs, http: http::Client::default() })
    }
}

/// Performs every action there is.
pub struct Actions {
    pub(crate) registry: Registry,
    pub(crate) secrets: Secrets,
    pub(crate) processes: Option<Arc<ProcessTable>>,
    no_programs: bool,
    pub(crate) http: http::Client,
}

#[async_trait]
impl Agents for Actions {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        let mut redactor = Redactor::default();
        let filled;
        let request = if call.secrets.is_empty() {
            &call.request
        } else {
            filled = self.secrets.fill(&call.request, &call.secrets, &mut redactor).await;
            filled.as_ref().map_err(|error| redactor.error(error.clone()))?
        };
        let result = match &call.action {
            Action::Agent(name) => self.agent(name, request, &call, &mut redactor).await,
            Action::Http => http::call(&self.http, request, &call, &redactor).await,
            Action::Log => log::perform(&redactor.value(request.clone()), &call),
            Action::Lambda => Err(validation(
                Code::ActionNotAvailable,
                "`lambda.invoke` is not available here: this engine has no AWS account; it comes with the serverless home",
            )),
        };
        match result {
            Ok(output) => Ok(redactor.value(output)),
            Err(error) => Err(redactor.error(error)),
        }
    }
}

impl Actions {
    /// The secrets that actions use.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    async fn agent(
        &self,
        name: &str,
        request: &Value,
        call: &Call,
        redactor: &mut Redactor,
    ) -> Result<Value, CallError> {
        let entry = self.registry.agent(name, call.agent_hash.as_deref()).await?;
        let agent = &entry.agent;
        let has_schema = agent.output_schema.is_some();
        let output = match &agent.kind {
            // The common case of tests and benchmarks: nothing is made that nobody looks at.
            Kind::Static(stub) if agent.input_schema.is_none() => {
                stub::perform(name, stub, request, has_schema).await?
            }
            kind => {
                let input = request::input(request, agent.input_schema.as_ref());
                request::check(name, &input, agent.input_schema.as_ref())?;
                let shorter;
                let call = match agent.timeout.map(|Millis(limit)| Duration::from_millis(limit)) {
                    Some(limit) if limit < call.timeout => {
                        shorter = Call { timeout: limit, ..call.clone() };
                        &shorter
                    }
                    _ => call,
                };
                match kind {
                    Kind::Command(_) if self.no_programs => {
                        let message = format!(
                            "agent `{name}` is a program, and this home has nothing to run programs on: put it behind HTTP \
                             and make it an `http` agent (`agents/{name}.agent.yaml`)"
                        );
                        return Err(validation(Code::ActionNotAvailable, message));
                    }
                    Kind::Static(stub) => stub::perform(name, stub, request, has_schema).await?,
                    Kind::Command(_) => {
                        let text = command::perform(self, &entry, request, &input, call, redactor).await?;
                        output::from_text(&text, has_schema)
                    }
                    Kind::Http(_) => {
                        let text = http::agent(self, &entry, request, &input, call, redactor).await?;
                        output::from_text(&text, has_schema)
                    }
                    Kind::Lambda(_) => {
                        return Err(unavailable(name, "an AWS Lambda function", "with the serverless home"));
                    }
                    Kind::Prompt(_) => {
                        return Err(unavailable(name, "a language model's", "with a later version"));
                    }
                }
            }
        };
        output::check(name, &output, agent.output_schema.as_ref())?;
        Ok(output)
    }
}

fn unavailable(name: &str, what: &str, when: &str) -> CallError {
    let message = format!(
        "agent `{name}` is {what}: such agents come {when}; until then make it a `command`, `http` or `static` agent \
         (`agents/{name}.agent.yaml`)"
    );
    validation(Code::ActionNotAvailable, message)
}
