//! Runs from start to end, in virtual time: what a user would see.

// They are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::default_trait_access,
    clippy::format_collect
)]

mod common;

use std::time::Duration;

use common::Process;
use common::World;
use common::json;
use engine::Event;
use engine::Outcome;
use engine::RunId;
use engine::Vote;
use expression::Value;
use stepwell_runtime::ControlError;
use stepwell_runtime::RunView;
use stepwell_runtime::SignalRequest;
use stepwell_runtime::StartError;
use stepwell_runtime::StartRequest;
use stepwell_runtime::VoteError;
use stepwell_runtime::handlers;
use stepwell_runtime::ports::ApprovalFilter;
use stepwell_runtime::ports::Catalog as _;
use stepwell_runtime::ports::Clock as _;
use stepwell_runtime::ports::Doorbell as _;
use stepwell_runtime::ports::Journal as _;
use stepwell_runtime::ports::PageRequest;
use stepwell_runtime::ports::Queue;
use stepwell_runtime::ports::RunFilter;
use stepwell_runtime::ports::RunStatus;

const DAY: Duration = Duration::from_hours(24);

async fn end(process: &Process, run: &RunId) -> RunView {
    process.runtime.wait(run, DAY).await.unwrap().expect("the run ends within a day")
}

async fn status(process: &Process, run: &RunId) -> RunStatus {
    process.runtime.get(run).await.unwrap().summary.status
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn approval(process: &Process, run: &RunId) -> String {
    let filter = ApprovalFilter { run: Some(run.clone()), pending: true };
    let page = process.runtime.approvals(&filter, &PageRequest { limit: 10, cursor: None }).await.unwrap();
    page.items[0].request.id.to_string()
}

fn vote(approver: &str, approve: bool) -> Vote {
    Vote { approve, approver: approver.into(), teams: Vec::new(), comment: None, form: None }
}

fn seconds(view: &RunView) -> i64 {
    view.summary.ended_at.unwrap().duration_since(view.summary.started_at).as_secs()
}

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

#[tokio::test(start_paused = true)]
async fn branches_run_at_once_and_join_once() {
    let world = World::new();
    let process = world.process().serving();
    let branches: String = (0..10)
        .map(|n| {
            format!(
                "      - {{name: b{n}, states: [{{id: s{n}, type: agent, agent: x, task: 'sleep 1{n}s'}}]}}\n"
            )
        })
        .collect();
    process
        .register(&format!(
            "id: fan\nstates:\n  - id: all\n    type: parallel\n    branches:\n{branches}    next: after\n  \
             - {{id: after, type: agent, agent: x, task: done}}\n"
        ))
        .await;
    let run = process.start("fan").await;
    pass(5).await;
    assert_eq!(status(&process, &run).await, RunStatus::Running);
    assert_eq!(process.runtime.get(&run).await.unwrap().current.len(), 10);
    let view = end(&process, &run).await;
    assert_eq!(view.summary.status, RunStatus::Completed);
    assert_eq!(seconds(&view), 19, "as long as the longest branch");
    assert_eq!(*world.agents.most_running.lock(), 10);
    assert_eq!(world.agents.of("after").len(), 1, "the join fires once");
    let joins = world.events(&run).await;
    let joins = joins
        .iter()
        .filter(|(path, event)| path == "/" && matches!(event, Event::StateCompleted { .. }))
        .count();
    assert_eq!(joins, 2);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn iterations_keep_to_their_concurrency_and_order() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            r#"
id: each
states:
  - id: items
    type: inject
    data: {list: [9, 8, 7, 6, 5, 4, 3, 2, 1, 10, 11, 12]}
    next: loop
  - id: loop
    type: foreach
    itemsPath: list
    maxConcurrency: 3
    iterator:
      states:
        - {id: work, type: agent, agent: x, task: "sleep {{ item }}s"}
"#,
        )
        .await;
    let run = process.start("each").await;
    let view = end(&process, &run).await;
    assert_eq!(view.summary.status, RunStatus::Completed, "{:?}", view.summary.error);
    let results = view.output.unwrap();
    let results = results.get("results").and_then(Value::as_array).unwrap().to_vec();
    assert_eq!(
        (results.len(), &results[0], &results[11]),
        (12, &Value::from("sleep 9s"), &Value::from("sleep 12s"))
    );
    assert_eq!(*world.agents.most_running.lock(), 3);
    assert_eq!(world.agents.calls().len(), 12);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_under_a_new_key() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            r#"
id: flaky
states:
  - {id: a, type: agent, agent: x, task: "flaky 3", retry: {maxAttempts: 3, backoffSeconds: 60, backoff: exponential, jitter: 0}}
"#,
        )
        .await;
    let run = process.start("flaky").await;
    pass(30).await;
    assert_eq!(status(&process, &run).await, RunStatus::Running, "backoff is running");
    let view = end(&process, &run).await;
    assert_eq!((view.summary.status, view.output.as_ref()), (RunStatus::Completed, Some(&Value::Int(3))));
    assert_eq!(seconds(&view), 180);
    let keys: Vec<_> =
        world.agents.calls().iter().map(|call| call.key.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys[0] != keys[1] && keys[1] != keys[2], "{keys:?}");
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_too_long_is_stopped() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            "id: slow\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 1h', timeoutSeconds: 30}\n",
        )
        .await;
    let run = process.start("slow").await;
    let view = end(&process, &run).await;
    assert_eq!((view.summary.status, seconds(&view)), (RunStatus::Failed, 30));
    let error = view.summary.error.unwrap();
    assert_eq!((&*error.kind, error.code.as_deref()), ("timeout", Some("STEP_TIMED_OUT")));
    assert_eq!(*world.agents.dropped.lock(), 1);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_timed_out() {
    for (states, name) in [
        ("  - {id: a, type: agent, agent: x, task: 'sleep 1h'}\n", "performing"),
        ("  - {id: a, type: wait, duration: 1h}\n", "waiting"),
        (
            "  - {id: a, type: parallel, branches: [{name: b, states: [{id: s, type: agent, agent: x, task: 'sleep 1h'}]}, \
             {name: c, states: [{id: t, type: wait, duration: 2h}]}]}\n",
            "forked",
        ),
    ] {
        let world = World::new();
        let process = world.process().serving();
        process.register(&format!("id: w\ntimeoutSeconds: 100\nstates:\n{states}")).await;
        let run = process.start("w").await;
        let view = end(&process, &run).await;
        assert_eq!((view.summary.status, seconds(&view)), (RunStatus::TimedOut, 100), "{name}");
        assert_eq!(*world.agents.running.lock(), 0, "{name}");
        process.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn timers_near_and_far_fire_on_time() {
    for (duration, expected) in [("90s", 90), ("20m", 1200), ("5h", 18000)] {
        let world = World::new();
        let process = world.process().serving();
        process.register(&format!("id: w\nstates:\n  - {{id: a, type: wait, duration: {duration}}}\n")).await;
        let run = process.start("w").await;
        pass(60).await;
        assert_eq!(status(&process, &run).await, RunStatus::WaitingTimer);
        let listed = process
            .runtime
            .runs(&RunFilter::default(), &PageRequest { limit: 9, cursor: None })
            .await
            .unwrap();
        assert_eq!(listed.items[0].status, RunStatus::WaitingTimer);
        let view = end(&process, &run).await;
        assert_eq!((view.summary.status, seconds(&view)), (RunStatus::Completed, expected));
        process.shut_down().await;
    }
}

const APPROVAL: &str = r#"
id: ask
states:
  - {id: ok, type: human_approval, message: "Sure?", approvers: ["user:a", "user:b", "user:c"], quorum: 2, timeoutSeconds: 3600, onReject: no, next: yes}
  - {id: yes, type: agent, agent: x, task: went, end: true}
  - {id: no, type: agent, agent: x, task: stayed, end: true}
"#;

#[tokio::test(start_paused = true)]
async fn people_decide_once() {
    let world = World::new();
    let process = world.process().serving();
    process.register(APPROVAL).await;
    let run = process.start("ask").await;
    pass(1).await;
    assert_eq!(status(&process, &run).await, RunStatus::WaitingApproval);
    let id = approval(&process, &run).await;
    let runtime = &process.runtime;
    let refused = runtime.vote(&run, &id, vote("user:z", true)).await.unwrap_err();
    assert_eq!(refused.code(), "NOT_AN_APPROVER");
    let refused = runtime.vote(&run, "none", vote("user:a", true)).await.unwrap_err();
    assert_eq!(refused.code(), "APPROVAL_NOT_FOUND");
    let first = runtime.vote(&run, &id, vote("user:a", true)).await.unwrap();
    assert!(first.changed && first.decision.is_none());
    let again = runtime.vote(&run, &id, vote("user:a", true)).await.unwrap();
    assert!(!again.changed);
    let otherwise = runtime.vote(&run, &id, vote("user:a", false)).await.unwrap_err();
    assert!(matches!(otherwise, VoteError::DecidedOtherwise { .. }));
    let second = runtime.vote(&run, &id, vote("user:b", true)).await.unwrap();
    assert_eq!(
        second.decision.as_ref().and_then(|decision| decision.get("approved")),
        Some(&Value::Bool(true))
    );
    let view = end(&process, &run).await;
    assert_eq!(view.output, Some(Value::from("went")));
    let late = runtime.vote(&run, &id, vote("user:c", false)).await.unwrap_err();
    assert!(
        matches!(late, VoteError::Settled { decision: Some(_), status: RunStatus::Completed, .. }),
        "{late:?}"
    );
    let same = runtime.vote(&run, &id, vote("user:b", true)).await.unwrap();
    assert!(!same.changed);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn one_rejection_rejects_and_silence_times_out() {
    let world = World::new();
    let process = world.process().serving();
    process.register(APPROVAL).await;
    let run = process.start("ask").await;
    pass(1).await;
    process.runtime.vote(&run, &approval(&process, &run).await, vote("user:c", false)).await.unwrap();
    assert_eq!(end(&process, &run).await.output, Some(Value::from("stayed")));

    let run = process.start("ask").await;
    pass(1).await;
    let id = approval(&process, &run).await;
    let view = end(&process, &run).await;
    assert_eq!((view.summary.status, seconds(&view)), (RunStatus::TimedOut, 3600));
    let late = process.runtime.vote(&run, &id, vote("user:a", true)).await.unwrap_err();
    assert!(
        matches!(late, VoteError::Settled { decision: None, status: RunStatus::TimedOut, .. }),
        "{late:?}"
    );
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_and_its_deadline_never_both_count() {
    for early in [0, 1, 2] {
        let world = World::new();
        let process = world.process().serving();
        process.register(&APPROVAL.replace("quorum: 2", "quorum: 1")).await;
        let run = process.start("ask").await;
        pass(1).await;
        let id = approval(&process, &run).await;
        tokio::time::sleep(Duration::from_millis(3_599_000 - 1 + early)).await;
        let voted = process.runtime.vote(&run, &id, vote("user:a", true)).await;
        let view = end(&process, &run).await;
        let expected = if voted.is_ok() { RunStatus::Completed } else { RunStatus::TimedOut };
        assert_eq!(view.summary.status, expected, "{early}: {voted:?}");
        process.shut_down().await;
    }
}

const SIGNALS: &str = r#"
id: signals
states:
  - {id: first, type: agent, agent: x, task: "sleep 10s", next: go}
  - {id: go, type: signal, signal: go, timeoutSeconds: 600}
"#;

#[tokio::test(start_paused = true)]
async fn signals_are_kept_for_who_comes_later_and_wake_who_waits() {
    for (at, ends) in [(1, 10), (60, 60)] {
        let world = World::new();
        // One doorbell each: a second look would find what the first has missed.
        let process = world.process().sweeping();
        process.register(SIGNALS).await;
        let run = process.start("signals").await;
        pass(at).await;
        let request =
            SignalRequest { id: Some("s1".into()), name: "go".into(), payload: Value::Int(5), by: None };
        assert!(process.runtime.signal(&run, request.clone()).await.unwrap());
        assert!(
            !process.runtime.signal(&run, request.clone()).await.unwrap(),
            "the same signal again is none"
        );
        let view = end(&process, &run).await;
        assert_eq!((view.summary.status, seconds(&view)), (RunStatus::Completed, ends));
        assert_eq!(view.output, Some(Value::Int(5)));
        assert!(
            !process.runtime.signal(&run, request.clone()).await.unwrap(),
            "nor is it once the run is over"
        );
        let late = process.runtime.signal(&run, SignalRequest { id: None, ..request }).await.unwrap_err();
        assert_eq!((late.code(), late.status()), ("RUN_OVER", Some(RunStatus::Completed)));
        process.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_signals_in_time() {
    let world = World::new();
    let process = world.process().serving();
    process.register(SIGNALS).await;
    let run = process.start("signals").await;
    pass(30).await;
    assert_eq!(status(&process, &run).await, RunStatus::WaitingSignal);
    let view = end(&process, &run).await;
    assert_eq!((view.summary.status, seconds(&view)), (RunStatus::TimedOut, 610));
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_the_clocks() {
    for (states, expected) in [
        ("  - {id: a, type: wait, duration: 100s}\n", 100 + 1000),
        (
            "  - {id: a, type: agent, agent: x, task: 'sleep 20s', next: b}\n  - {id: b, type: agent, agent: x, task: 'sleep 5s'}\n",
            10 + 1000 + 5,
        ),
        (
            "  - {id: a, type: parallel, branches: [{name: b, states: [{id: s, type: wait, duration: 50s}]}, \
             {name: c, states: [{id: t, type: wait, duration: 100s}]}]}\n",
            100 + 1000,
        ),
    ] {
        let world = World::new();
        let process = world.process().serving();
        process.register(&format!("id: w\ntimeoutSeconds: 200\nstates:\n{states}")).await;
        let run = process.start("w").await;
        pass(10).await;
        let view = process.runtime.pause(&run, Some("user:a".into())).await.unwrap();
        assert!(
            matches!(view.summary.status, RunStatus::Paused | RunStatus::Pausing),
            "{:?}",
            view.summary.status
        );
        pass(100).await;
        assert_eq!(status(&process, &run).await, RunStatus::Paused);
        let page = PageRequest { limit: 9, cursor: None };
        let listed = process.runtime.runs(&RunFilter::default(), &page).await.unwrap();
        assert_eq!(listed.items[0].status, RunStatus::Paused, "{states}");
        let again = process.runtime.pause(&run, None).await.unwrap_err();
        assert!(matches!(again, ControlError::Paused { status: RunStatus::Paused, .. }));
        pass(900).await;
        process.runtime.resume(&run, None).await.unwrap();
        let view = end(&process, &run).await;
        assert_eq!((view.summary.status, seconds(&view)), (RunStatus::Completed, expected), "{states}");
        process.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_stops_what_is_being_performed_wherever_it_is() {
    for states in [
        "  - {id: a, type: agent, agent: x, task: 'sleep 1h'}\n",
        "  - {id: a, type: parallel, branches: [{name: b, states: [{id: s, type: agent, agent: x, task: 'sleep 1h'}]}]}\n",
        "  - {id: a, type: workflow, workflow: child}\n",
        "  - {id: a, type: parallel, branches: [{name: b, states: [{id: s, type: foreach, itemsPath: workflow.input.items, \
         iterator: {states: [{id: t, type: workflow, workflow: child}]}}]}]}\n",
    ] {
        let world = World::new();
        let process = world.process().serving();
        process.register("id: child\nstates:\n  - {id: c, type: agent, agent: x, task: 'sleep 2h'}\n").await;
        process.register(&format!("id: w\nstates:\n{states}")).await;
        let run =
            process.runtime.start(StartRequest::new("w", json(r#"{"items": [1, 2]}"#))).await.unwrap().run;
        pass(10).await;
        assert!(*world.agents.running.lock() > 0, "{states}");
        process.runtime.cancel(&run, Some("user:a".into()), Some("enough".into())).await.unwrap();
        let view = end(&process, &run).await;
        assert_eq!((view.summary.status, seconds(&view)), (RunStatus::Cancelled, 10), "{states}");
        pass(1).await;
        assert_eq!(*world.agents.running.lock(), 0, "{states}");
        let again = process.runtime.cancel(&run, None, None).await.unwrap_err();
        assert_eq!((again.code(), again.status()), ("RUN_OVER", Some(RunStatus::Cancelled)));
        assert_eq!(
            process
                .runtime
                .runs(
                    &RunFilter { statuses: vec![RunStatus::Running], workflow: None },
                    &PageRequest { limit: 9, cursor: None }
                )
                .await
                .unwrap()
                .items,
            [],
            "child runs are cancelled too"
        );
        process.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_run_gives_its_output_and_its_error() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register("id: child\ninputSchema: {type: object, required: [n], properties: {n: {type: integer}}}\nstates:\n  - {id: c, type: agent, agent: x, task: '{{ n }} done'}\n")
        .await;
    process
        .register("id: parent\nstates:\n  - {id: a, type: workflow, workflow: child, input: {n: 4}}\n")
        .await;
    process
        .register("id: unfit\nstates:\n  - {id: a, type: workflow, workflow: child, input: {n: four}}\n")
        .await;
    let run = process.start("parent").await;
    let view = end(&process, &run).await;
    assert_eq!(view.output, Some(Value::from("4 done")), "{:?}", view.summary.error);
    let run = process.start("unfit").await;
    let view = end(&process, &run).await;
    let error = view.summary.error.unwrap();
    assert_eq!((view.summary.status, &*error.kind), (RunStatus::Failed, "validation"), "{error}");
    // Redriven, it is refused again, and the run fails again.
    process.runtime.redrive(&run, None).await.unwrap();
    pass(1).await;
    assert_eq!(status(&process, &run).await, RunStatus::Failed);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_redrive_goes_on_where_it_failed() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            r#"
id: w
states:
  - {id: a, type: agent, agent: x, task: once, next: b}
  - id: b
    type: parallel
    join: {mode: all, onFailure: wait}
    branches:
      - {name: good, states: [{id: g, type: agent, agent: x, task: fine}]}
      - {name: bad, states: [{id: h, type: agent, agent: x, task: "flaky 2"}]}
"#,
        )
        .await;
    let run = process.start("w").await;
    let view = end(&process, &run).await;
    assert_eq!(view.summary.status, RunStatus::Failed);
    process.runtime.redrive(&run, Some("user:a".into())).await.unwrap();
    let view = end(&process, &run).await;
    assert_eq!(view.summary.status, RunStatus::Completed, "{:?}", view.summary.error);
    assert_eq!(
        world.agents.of("a").len() + world.agents.of("g").len(),
        2,
        "what had succeeded is not performed again"
    );
    assert_eq!(world.agents.of("h").len(), 2);
    let none = process.runtime.redrive(&run, None).await.unwrap_err();
    assert_eq!(none.code(), "RUN_NOT_FAILED");
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn lists_show_what_branches_wait_for() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            r#"
id: w
states:
  - id: both
    type: parallel
    branches:
      - {name: ask, states: [{id: q, type: human_approval, message: "ok?"}]}
      - {name: time, states: [{id: t, type: wait, duration: 30m}]}
      - {name: work, states: [{id: s, type: agent, agent: x, task: "sleep 60s"}]}
"#,
        )
        .await;
    let listed = async || {
        let page = PageRequest { limit: 9, cursor: None };
        process.runtime.runs(&RunFilter::default(), &page).await.unwrap().items[0].status
    };
    let run = process.start("w").await;
    pass(30).await;
    assert_eq!(listed().await, RunStatus::Running);
    pass(60).await;
    assert_eq!(status(&process, &run).await, RunStatus::WaitingApproval);
    process.runtime.vote(&run, &approval(&process, &run).await, vote("user:a", true)).await.unwrap();
    pass(1).await;
    assert_eq!(
        (listed().await, status(&process, &run).await),
        (RunStatus::WaitingTimer, RunStatus::WaitingTimer)
    );
    let view = end(&process, &run).await;
    assert_eq!((view.summary.status, seconds(&view)), (RunStatus::Completed, 1800));
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_the_same_run() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register("id: w\ninputSchema: {type: object, required: [n], properties: {n: {type: integer}, m: {type: integer, default: 3}}}\nstates:\n  - {id: a, type: agent, agent: x, task: 'sum {{ n + m }}'}\n")
        .await;
    let request = |key: &str, input: &str| StartRequest {
        key: Some(key.into()),
        ..StartRequest::new("w", json(input))
    };
    let first = process.runtime.start(request("k", r#"{"n": 1}"#)).await.unwrap();
    let second = process.runtime.start(request("k", r#"{"n": 1, "m": 3}"#)).await.unwrap();
    assert_eq!((first.created, second.created, &first.run), (true, false, &second.run));
    let other = process.runtime.start(request("k", r#"{"n": 2}"#)).await.unwrap_err();
    assert!(matches!(other, StartError::KeyReused { .. }));
    let unfit = process.runtime.start(request("u", r#"{"n": "one"}"#)).await.unwrap_err();
    assert!(
        matches!(&unfit, StartError::Input { violations, .. } if violations[0].path == "/n"),
        "{unfit:?}"
    );
    let none = process.runtime.start(StartRequest::new("nope", Value::Null)).await.unwrap_err();
    assert_eq!(none.code(), "WORKFLOW_NOT_FOUND");
    process.runtime.set_disabled(stepwell_runtime::ports::DefinitionKind::Workflow, "w", true).await.unwrap();
    let disabled = process.runtime.start(request("v", r#"{"n": 1}"#)).await.unwrap_err();
    assert_eq!(disabled.code(), "WORKFLOW_DISABLED");
    assert_eq!(end(&process, &first.run).await.output, Some(Value::from("sum 4")));
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn the_timeline_has_everything_in_order_whatever_the_page() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            "id: w\nstates:\n  - {id: list, type: inject, data: {list: [3, 1, 2]}, next: each}\n  \
             - {id: each, type: foreach, itemsPath: list, iterator: {states: [{id: s, type: agent, agent: x, task: 'sleep {{ item }}s'}]}, next: many}\n  \
             - {id: many, type: while, condition: 'steps.count == None or steps.count.n < 100', iterator: {states: [{id: count, type: transform, expression: '{\"n\": (steps.count.n if steps.count else 0) + 1}', next: s2}, {id: s2, type: agent, agent: x, task: hm}]}}\n",
        )
        .await;
    let run = process.start("w").await;
    let view = end(&process, &run).await;
    assert_eq!(view.summary.status, RunStatus::Completed, "{:?}", view.summary.error);
    let whole = process.runtime.timeline(&run, None, 10_000).await.unwrap().items;
    let all = world.events(&run).await.len();
    assert_eq!(whole.len(), all);
    assert!(
        whole.windows(2).all(
            |pair| (pair[0].at, &pair[0].scope, pair[0].seq) <= (pair[1].at, &pair[1].scope, pair[1].seq)
        )
    );
    let mut paged = Vec::new();
    let mut cursor = None;
    loop {
        let page = process.runtime.timeline(&run, cursor.as_deref(), 7).await.unwrap();
        if page.items.is_empty() {
            break;
        }
        cursor = page.next;
        paged.extend(page.items);
    }
    assert_eq!(paged, whole);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_starts_one_run_a_tick() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register("id: w\nstart: every\nstates:\n  - {id: every, type: cron, cron: '*/10 * * * *', timezone: Europe/Berlin, input: {n: 1}, next: a}\n  - {id: a, type: agent, agent: x, task: '{{ n }}'}\n")
        .await;
    let again = world.process().serving();
    pass(3601).await;
    let runs = process
        .runtime
        .runs(&RunFilter::default(), &PageRequest { limit: 99, cursor: None })
        .await
        .unwrap()
        .items;
    assert_eq!(runs.len(), 6, "two processes, one run a tick");
    assert!(runs.iter().all(|run| run.status == RunStatus::Completed));
    let now = world.clock.now();
    assert!(runs.iter().all(|run| run.started_at <= now && run.started_at.as_second() % 600 == 0));
    process.shut_down().await;
    again.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn many_steps_in_one_run_cost_the_same_each() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            "id: w\nstates:\n  - {id: many, type: while, condition: 'steps.s == None or True', maxIterations: 3000, iterator: {states: [{id: s, type: agent, agent: x, task: hm}]}}\n",
        )
        .await;
    let run = process.start("w").await;
    let view = end(&process, &run).await;
    // It has no other way out than the limit.
    assert_eq!(view.summary.status, RunStatus::Failed);
    assert_eq!(world.agents.calls().len(), 3000);
    assert!(world.records(&run, "/").await < 3005);
    let failed = world.events(&run).await.into_iter().rev().find_map(|(_, event)| match event {
        Event::Ended { outcome: Outcome::Failed { error } } => error.code,
        _ => None,
    });
    assert_eq!(failed.as_deref(), Some("LOOP_LIMIT"));
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_run_goes_on_from_its_snapshot() {
    let world = World::new();
    let process = world.process();
    process
        .register(
            "id: w\nstates:\n  - {id: many, type: while, condition: 'steps.s == None or steps.n.n < 1000', maxIterations: 2000, iterator: {states: [{id: n, type: transform, expression: '{\"n\": (steps.n.n if steps.n else 0) + 1, \"text\": \"x\" * 500}', next: s}, {id: s, type: agent, agent: x, task: 'sleep 1s'}]}}\n",
        )
        .await;
    let process = process.serving();
    let run = process.start("w").await;
    tokio::time::sleep(Duration::from_millis(700_500)).await;
    process.kill().await;
    let process = world.process().serving();
    let view = end(&process, &run).await;
    assert_eq!(view.summary.status, RunStatus::Completed, "{:?}", view.summary.error);
    assert_eq!(world.agents.calls().len(), 1001, "only what was in flight is performed again");
    let loaded = world.store.load(&engine::ScopeKey::root(run.clone())).await.unwrap();
    assert!(loaded.snapshot.is_some_and(|(seq, _)| seq > 500));
    assert!(loaded.records.len() < 500);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_to_evaluate_is_evaluated_all_the_same() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            "id: w\nstates:\n  - {id: sum, type: transform, expression: 'sum([i for i in range(100000)])', next: a}\n  - {id: a, type: agent, agent: x, task: '{{ len([i for i in range(50000)]) }} items'}\n",
        )
        .await;
    let run = process.start("w").await;
    let view = end(&process, &run).await;
    assert_eq!(view.output, Some(Value::from("50000 items")), "{:?}", view.summary.error);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn deep_and_large_values_pass_through_forks_and_restarts() {
    for depth in [10, 63] {
        let world = World::new();
        let process = world.process();
        process
            .register(
                "id: w\nstates:\n  - {id: f, type: parallel, branches: [{name: b, states: [{id: s, type: agent, agent: x, task: 'sleep 10s', next: t}, {id: t, type: transform, expression: 'ctx.deep'}]}]}\n",
            )
            .await;
        let deep = format!("{}{}{}", "[".repeat(depth), "1", "]".repeat(depth));
        let input = json(&format!(r#"{{"deep": {deep}, "large": "{}"}}"#, "x".repeat(3 << 20)));
        let process = process.serving();
        let run = process.runtime.start(StartRequest::new("w", input)).await.unwrap().run;
        pass(5).await;
        process.kill().await;
        let process = world.process().serving();
        let view = end(&process, &run).await;
        assert_eq!(view.summary.status, RunStatus::Completed, "{depth}: {:?}", view.summary.error);
        assert_eq!(view.output.unwrap().get("b"), Some(&json(&deep)));
        process.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_invocation_performs_one_step_at_least_and_no_longer_than_it_may() {
    let world = World::new();
    let process = world.process();
    process
        .register(
            "id: w\nstates:\n  - {id: a, type: agent, agent: x, task: 'sleep 20s', next: b}\n  - {id: b, type: agent, agent: x, task: 'sleep 20s', next: c}\n  - {id: c, type: agent, agent: x, task: 'sleep 1h'}\n",
        )
        .await;
    let run = process.start("w").await;
    for (number, expected) in [(1, 20), (2, 20), (3, 30)] {
        let delivery = process.doorbell.receive(Queue::Steps, 1).await.unwrap().remove(0);
        let begun = world.clock.now();
        handlers::step(&process.runtime, &delivery, Some(Duration::from_secs(40))).await.unwrap();
        assert_eq!(world.clock.now().duration_since(begun).as_secs(), expected, "invocation {number}");
        process.doorbell.acknowledge(delivery).await.unwrap();
    }
    let view = process.runtime.get(&run).await.unwrap();
    assert_eq!(view.summary.status, RunStatus::Failed);
    assert_eq!(view.summary.error.unwrap().code.as_deref(), Some("STEP_TIMED_OUT"));
}

#[tokio::test(start_paused = true)]
async fn redriven_iterations_keep_to_their_concurrency() {
    let world = World::new();
    let process = world.process().serving();
    process
        .register(
            r#"
id: w
states:
  - id: each
    type: foreach
    itemsPath: workflow.input.items
    maxConcurrency: 2
    onFailure: wait
    iterator: {states: [{id: a, type: agent, agent: x, task: "flaky 2", next: b}, {id: b, type: agent, agent: x, task: "sleep 10s"}]}
"#,
        )
        .await;
    let request = StartRequest::new("w", json(r#"{"items": [1, 2, 3, 4, 5]}"#));
    let run = process.runtime.start(request).await.unwrap().run;
    assert_eq!(end(&process, &run).await.summary.status, RunStatus::Failed);
    process.runtime.redrive(&run, None).await.unwrap();
    let view = end(&process, &run).await;
    assert_eq!(view.summary.status, RunStatus::Completed, "{:?}", view.summary.error);
    assert_eq!((seconds(&view), *world.agents.most_running.lock()), (30, 2));
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_vote_in_a_branch_after_the_time_around_it_settles_nothing() {
    let branch = "{name: b, states: [{id: ask, type: approval, message: ok?}]}";
    let late = [
        // The run's time, that of the state around, and that of the run that waits for this one.
        format!("id: w\ntimeoutSeconds: 60\nstates: [{{id: f, type: parallel, branches: [{branch}]}}]\n"),
        format!("id: w\nstates: [{{id: f, type: parallel, timeoutSeconds: 60, branches: [{branch}]}}]\n"),
        "id: w\nstates: [{id: f, type: workflow, workflow: child, timeoutSeconds: 60}]\n".to_owned(),
    ];
    for source in late {
        for (paused, seconds, taken) in [(false, 59, true), (false, 61, false), (true, 61, true)] {
            let world = World::new();
            let process = world.process().serving();
            process.register("id: child\nstates: [{id: ask, type: approval, message: ok?}]\n").await;
            process.register(&source).await;
            let run = process.start("w").await;
            pass(1).await;
            if paused {
                process.runtime.pause(&run, None).await.unwrap();
            }
            let filter = ApprovalFilter { run: None, pending: true };
            let page = PageRequest { limit: 10, cursor: None };
            let row = process.runtime.approvals(&filter, &page).await.unwrap().items.remove(0);
            // Nobody is there to notice that the time is over.
            process.kill().await;
            pass(seconds - 1).await;
            let process = world.process();
            let voted = process.runtime.vote(&row.scope.run, &row.request.id, vote("user:a", true)).await;
            match voted {
                Ok(voted) => assert!(taken && voted.changed, "{source} {paused} {seconds}"),
                Err(VoteError::Settled { decision: None, .. }) => {
                    assert!(!taken, "{source} {paused} {seconds}");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lists_show_a_pause_and_its_end_as_soon_as_it_is_everywhere() {
    let world = World::new();
    let process = world.process().serving();
    let inner =
        "{id: inner, type: parallel, branches: [{name: i, states: [{id: s, type: signal, signal: go}]}]}";
    let middle = format!("{{id: middle, type: parallel, branches: [{{name: m, states: [{inner}]}}]}}");
    process
        .register(&format!(
            "id: w\nstates: [{{id: outer, type: parallel, branches: [{{name: o, states: [{middle}]}}]}}]\n"
        ))
        .await;
    let run = process.start("w").await;
    pass(1).await;
    let listed = async || world.store.run(&run).await.unwrap().unwrap().status;
    assert_eq!(listed().await, RunStatus::WaitingSignal);
    process.runtime.pause(&run, None).await.unwrap();
    pass(1).await;
    assert_eq!(listed().await, RunStatus::Paused);
    process.runtime.resume(&run, None).await.unwrap();
    pass(1).await;
    assert_eq!(listed().await, RunStatus::WaitingSignal);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn branches_that_are_let_go_leave_nothing_to_sweep() {
    let world = World::new();
    let process = world.process().serving();
    let slow: String = (0..5)
        .map(|n| format!(", {{name: b{n}, states: [{{id: s, type: agent, agent: x, task: 'sleep 1h'}}]}}"))
        .collect();
    process
        .register(&format!(
            "id: w\nstates:\n  - {{id: f, type: parallel, join: {{mode: any}}, next: rest, branches: [{{name: a, states: [{{id: s, type: agent, agent: x, task: 'sleep 1s'}}]}}{slow}]}}\n  - {{id: rest, type: wait, duration: 1h}}\n"
        ))
        .await;
    let run = process.start("w").await;
    pass(2).await;
    assert_eq!(status(&process, &run).await, RunStatus::WaitingTimer);
    let due: Vec<_> = world.due().await.into_iter().map(|row| row.scope.path.to_string()).collect();
    assert_eq!(due, ["/"]);
    process.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_over_for_long_enough_is_forgotten_unless_somebody_waits_for_it() {
    let world = World::new();
    let (ports, doorbell) = world.ports();
    let options = stepwell_runtime::Options { retention: Some(2 * DAY), ..world.options(true) };
    let process = Process::new(stepwell_runtime::Runtime::new(ports, options), doorbell).serving();
    process.register("id: child\nstates:\n  - {id: c, type: agent, agent: x, task: 'sleep 10s'}\n").await;
    process.register("id: parent\nstates:\n  - {id: a, type: workflow, workflow: child}\n").await;
    let parent = process.start("parent").await;
    pass(1).await;
    process.runtime.pause(&parent, None).await.unwrap();
    let alone = process.start("child").await;
    pass(24 * 3600).await;
    assert_eq!(status(&process, &alone).await, RunStatus::Completed);
    pass(30 * 24 * 3600).await;
    assert_eq!(world.store.run(&alone).await.unwrap(), None, "its time is over");
    assert!(world.store.scopes(&alone, None, 9).await.unwrap().is_empty());
    assert!(world.store.run(&parent).await.unwrap().is_some(), "it is not over");
    process.runtime.resume(&parent, None).await.unwrap();
    let view = end(&process, &parent).await;
    assert_eq!(view.output, Some(Value::from("sleep 10s")), "{:?}", view.summary.error);
    assert_eq!(world.agents.calls().len(), 2, "the child of the one that was paused ran once");
    process.shut_down().await;
}
