//! What a home can hold, so that nothing is registered there that could not be performed.

use axum::http::StatusCode;
use model::Action;
use model::Agent;
use model::Kind;
use model::Millis;
use model::Workflow;
use model::agent;
use serde::Deserialize;
use serde::Serialize;

use crate::Error;
use crate::api::MAX_WAIT;

/// A home as its API describes it (`GET /api/v1/home`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Home {
    /// `embedded` or `serverless`.
    pub kind: String,
    /// How long one attempt of a step may take at most, in seconds; unlimited without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_step_seconds: Option<u64>,
    /// How long a request with `wait` is held at most, in seconds; whoever waits longer asks again.
    pub max_wait_seconds: u64,
    /// The kinds of agents that may be registered over the API.
    pub agents: Vec<String>,
}

impl Default for Home {
    fn default() -> Self {
        Self::embedded()
    }
}

impl Home {
    /// A home on one machine: its server reads agents from its own files, so that nobody can make it run a program
    /// over the network.
    pub fn embedded() -> Self {
        Self {
            kind: "embedded".to_owned(),
            max_step_seconds: None,
            max_wait_seconds: MAX_WAIT.as_secs(),
            agents: Vec::new(),
        }
    }

    /// A home whose workers are invocations that hold an attempt for so long, behind a gateway that holds a request for
    /// so long. It has no programs to run.
    pub fn serverless(max_step_seconds: u64, max_wait_seconds: u64) -> Self {
        Self {
            kind: "serverless".to_owned(),
            max_step_seconds: Some(max_step_seconds),
            max_wait_seconds,
            agents: ["static", "http", "lambda", "prompt"].map(str::to_owned).to_vec(),
        }
    }

    /// Refuses a workflow with a step that may take longer than the home can hold one.
    pub fn check_workflow(&self, workflow: &Workflow) -> Result<(), Error> {
        let Some(limit) = self.max_step_seconds else { return Ok(()) };
        let too_long = workflow.states().filter_map(|state| {
            let Kind::Operation(operation) = &state.kind else { return None };
            // A log line is written at once, whatever its state says.
            let Millis(timeout) = state.timeout.filter(|_| operation.action != Action::Log)?;
            (timeout > limit.saturating_mul(1_000))
                .then(|| format!("`{}` (line {}): {} s", state.address, state.line, timeout.div_ceil(1_000)))
        });
        let too_long: Vec<String> = too_long.collect();
        if too_long.is_empty() {
            return Ok(());
        }
        Err(self.too_long(
            limit,
            &format!("workflow `{}` has steps with a longer timeout: {}", workflow.id, too_long.join(", ")),
        ))
    }

    /// Refuses an agent that must not be registered over the API, or that may take longer than the home can hold it.
    pub fn check_agent(&self, agent: &Agent) -> Result<(), Error> {
        let kind = match agent.kind {
            agent::Kind::Static(_) => "static",
            agent::Kind::Command(_) => "command",
            agent::Kind::Http(_) => "http",
            agent::Kind::Lambda(_) => "lambda",
            agent::Kind::Prompt(_) => "prompt",
        };
        if !self.agents.iter().any(|known| known == kind) {
            let message = format!(
                "agent `{}` is of type {kind}, and this home ({}) takes no such agent over its API",
                agent.name, self.kind
            );
            let error = Error::new(StatusCode::FORBIDDEN, "AGENT_NOT_REMOTE", message);
            return Err(error.hint(if kind == "command" && !self.agents.is_empty() {
                "there is nothing to run programs on: put it behind HTTP and make it an `http` agent"
                    .to_owned()
            } else if self.agents.is_empty() {
                "put its file into the project of the server: `stepwell serve --project DIR`".to_owned()
            } else {
                format!("it takes {}", self.agents.join(", "))
            }));
        }
        match (self.max_step_seconds, agent.timeout) {
            (Some(limit), Some(Millis(timeout))) if timeout > limit.saturating_mul(1_000) => {
                let message =
                    format!("agent `{}` has a timeout of {} s", agent.name, timeout.div_ceil(1_000));
                Err(self.too_long(limit, &message))
            }
            _ => Ok(()),
        }
    }

    fn too_long(&self, limit: u64, what: &str) -> Error {
        let message = format!("{what}; this home ({}) holds one attempt for {limit} s at most", self.kind);
        Error::new(StatusCode::UNPROCESSABLE_ENTITY, "STEP_TOO_LONG", message)
            .hint("lower `timeoutSeconds`, split the step, or let a service do the work and signal its end")
    }
}
