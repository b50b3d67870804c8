//! The suite of [`Agents`].

use std::sync::Arc;
use std::time::Duration;

use engine::RunId;
use engine::ScopePath;
use engine::StepId;
use expression::Value;
use model::Action;

use crate::ports::Agents;
use crate::ports::Call;

/// Runs every case against agents of which `constant`, with this hash, answers with `output`, whatever it is asked, and
/// `nobody` does not exist.
pub async fn agents_suite(agents: Arc<dyn Agents>, hash: Option<&str>, output: &Value) {
    let call = |action, request: &str, attempt| call(action, hash, request, attempt);
    for attempt in 1..=2 {
        let answer =
            agents.perform(call(Action::Agent("constant".into()), "{\"task\": \"t\"}", attempt)).await;
        assert_eq!(answer.as_ref().ok(), Some(output), "{answer:?}");
    }
    let missing = agents.perform(call(Action::Agent("nobody".into()), "{}", 1)).await;
    assert!(
        missing.is_err_and(|error| !error.error.message.is_empty()),
        "an agent that is not there must be an error"
    );
    let logged = agents.perform(call(Action::Log, "{\"message\": \"said\"}", 1)).await;
    assert!(logged.is_ok(), "{logged:?}");
    // A call that is given up leaves the others alone.
    drop(agents.perform(call(Action::Agent("constant".into()), "{}", 3)));
    assert!(agents.perform(call(Action::Agent("constant".into()), "{}", 4)).await.is_ok());
}

fn call(action: Action, hash: Option<&str>, request: &str, attempt: u32) -> Call {
    let (run, scope) = (RunId::new("suite"), ScopePath::root());
    Call {
        action,
        agent_hash: hash.map(Into::into),
        request: Value::parse_json(request).unwrap(),
        secrets: Vec::new(),
        idempotency_key: format!("suite/step/{attempt}").into(),
        step: StepId::new(&run, &scope, "step", 1),
        run,
        scope,
        state: "step".into(),
        attempt,
        epoch: 1,
        timeout: Duration::from_secs(10),
    }
}
