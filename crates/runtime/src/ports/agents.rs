//! Agents and other actions: whatever has an effect outside the engine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::Error;
use engine::RunId;
use engine::ScopePath;
use engine::StepId;
use expression::SecretSlot;
use expression::Value;
use model::Action;

/// Performs actions.
#[async_trait]
pub trait Agents: Send + Sync + 'static {
    /// Performs the action once and answers with its output. Dropping the future stops the action as far as it can be
    /// stopped (a command's process group is killed).
    async fn perform(&self, call: Call) -> Result<Value, CallError>;
}

/// One performance of an action.
#[derive(Clone, Debug)]
pub struct Call {
    /// What to do.
    pub action: Action,
    /// The content hash of the agent that the run pinned, for [`Action::Agent`].
    pub agent_hash: Option<Arc<str>>,
    /// The rendered request (see [`model::Operation::request`]); secrets are still references.
    pub request: Value,
    /// Where in the request secrets are to be filled in.
    pub secrets: Vec<SecretSlot>,
    /// `run/step/k`: the same for every performance that might repeat an earlier one's effect.
    pub idempotency_key: Arc<str>,
    /// The run, for logs and for the agent.
    pub run: RunId,
    /// The scope.
    pub scope: ScopePath,
    /// The step.
    pub step: StepId,
    /// The state's name.
    pub state: Arc<str>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The epoch of the attempt, from 1.
    pub epoch: u32,
    /// How long it may take. The caller enforces it too.
    pub timeout: Duration,
}

/// The action did not give an output.
#[derive(Clone, Debug)]
pub struct CallError {
    /// The error as the workflow will see it.
    pub error: Error,
    /// Whether the action itself answered with this error. False when nobody knows whether it took effect (timeout, lost
    /// connection): the next attempt then keeps the idempotency key.
    pub definite: bool,
    /// The action asked not to be called again before this much time has passed.
    pub retry_after: Option<Duration>,
}
