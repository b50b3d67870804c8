//! Each minute: what is due, and what is scheduled.

use std::time::Duration;

use lambda_runtime::Error;
use runtime::Runtime;
use runtime::handlers;
use serde_json::Value;

use crate::Configuration;
use crate::Function;
use crate::Invocation;

/// Ticks this old are looked at by each sweep, so that one that fails is made good by the next.
const WINDOW: Duration = Duration::from_mins(3);

/// Each minute: rings what is due, fires schedules.
pub struct Sweep(Runtime);

impl Function for Sweep {
    const NAME: &'static str = "sweep";

    fn new(runtime: Runtime, _: &Configuration) -> Self {
        Self(runtime)
    }

    async fn answer(&self, _: Value, invocation: Invocation) -> Result<Value, Error> {
        sweep(&self.0, invocation.remaining).await.map(|()| Value::Null)
    }
}

/// Sweeps, then fires schedules. Each is done also if the other fails; what is left undone the next sweep does.
async fn sweep(runtime: &Runtime, remaining: Duration) -> Result<(), Error> {
    let swept = handlers::sweep(runtime, Some(remaining)).await;
    let ticked = handlers::tick(runtime, WINDOW).await;
    let swept = swept?;
    let ticked = ticked?;
    tracing::info!(
        looked_at = swept.looked_at,
        rung = swept.rung,
        removed = swept.removed,
        forgotten = swept.forgotten,
        started = ticked.started,
        "swept"
    );
    if ticked.failed > 0 {
        return Err(format!("{} runs that are scheduled could not be started yet", ticked.failed).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime::SystemClock;
    use runtime::memory;
    use runtime::ports::DefinitionKind;
    use runtime::ports::Delivery;
    use runtime::ports::Queue;

    use super::*;
    use crate::Step;
    use crate::home;

    #[tokio::test]
    async fn a_run_is_kept_as_long_as_the_environment_says() {
        for (retention, kept) in
            [(None, true), (Some(Duration::from_hours(24)), true), (Some(Duration::ZERO), false)]
        {
            let configuration = Configuration { retention, ..Configuration::of_nothing() };
            let doorbell = Arc::new(memory::Doorbell::new(Arc::new(SystemClock)));
            let runtime = home::in_memory::<Step>(&configuration, doorbell);
            let source = "id: w\nstates:\n  - {id: a, type: operation, action: log, message: hi}\n";
            runtime.register(DefinitionKind::Workflow, source, None, false).await.unwrap();
            let request = runtime::StartRequest::new("w", expression::Value::object());
            let run = runtime.start(request).await.unwrap().run;
            let delivery: Delivery =
                runtime.ports().doorbell.receive(Queue::Steps, 1).await.unwrap().remove(0);
            handlers::step(&runtime, &delivery, None).await.unwrap();
            assert!(runtime.get(&run).await.unwrap().summary.status.is_terminal());
            sweep(&runtime, Duration::from_mins(1)).await.unwrap();
            assert_eq!(runtime.get(&run).await.is_ok(), kept, "{retention:?}");
        }
    }
}
