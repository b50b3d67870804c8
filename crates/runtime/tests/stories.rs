//! Runs from start to end, in virtual time: what a user would see.

mod common;

use std::time::Duration;

use common::World;
use common::json;
use expression::Value;
use stepwell_runtime::StartRequest;
use stepwell_runtime::ports::RunStatus;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test(start_paused = true)]
async fn steps_follow_each_other_with_one_record_each() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            r#"
id: three
states:
  - {id: a, type: agent, agent: x, task: "one", next: b}
  - {id: b, type: agent, agent: x, task: "{{ steps.a }} two", next: c}
  - {id: c, type: agent, agent: x, task: "{{ steps.b }} three"}
"#,
        )
        .await;
    let request = StartRequest::new("three", Value::object());
    let (started, view) = process.runtime.start_and_wait(request, DAY).await.unwrap();
    let view = view.expect("it ended");
    assert_eq!(
        (view.summary.status, view.output.as_ref()),
        (RunStatus::Completed, Some(&json(r#""one two three""#)))
    );
    assert_eq!(world.records(&started.run, "/").await, 5, "the start, the claim, three results");
    assert_eq!(world.agents.calls().len(), 3);
    assert_eq!(world.due().await, [], "a run that is over leaves nothing to sweep");
    process.shut_down().await;
}
