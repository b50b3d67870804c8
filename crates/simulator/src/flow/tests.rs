use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use engine::RunId;
use engine::Vote;
use model::Aggregation;
use model::JoinMode;
use model::Kind as Parsed;
use model::OnFailure;
use model::OnReject;
use model::OnTimeout;
use runtime::Doing;
use runtime::RunView;
use runtime::Runtime;
use runtime::SignalRequest;
use runtime::StartRequest;
use runtime::memory;
use runtime::ports::Agents;
use runtime::ports::ApprovalFilter;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::PageRequest;
use runtime::ports::RunStatus;
use tokio::time::Instant;

use super::*;

/// Flows that are run.
const RUNS: u64 = 200;

fn random(seed: u64) -> Flow {
    Flow::random(&mut fastrand::Rng::with_seed(seed), 12)
}

/// The workflows of a flow, all without an error.
fn parsed(flow: &Flow) -> Vec<model::Workflow> {
    let files = flow.files().into_iter().filter(|file| file.kind == DefinitionKind::Workflow);
    files
        .map(|file| {
            let options = model::Options { file: &file.name, agents: None, workflows: None };
            let parsed = model::parse(&file.source, &options);
            let errors: Vec<_> = parsed.issues.iter().filter(|issue| issue.is_error()).collect();
            parsed.workflow.unwrap_or_else(|| panic!("{}\n{errors:#?}", file.source))
        })
        .collect()
}

#[test]
fn every_flow_is_valid_and_all_features_occur() {
    let mut seen: BTreeMap<&'static str, u32> = FEATURES.iter().map(|feature| (*feature, 0)).collect();
    for seed in 0..2_000 {
        let flow = random(seed);
        assert_eq!(flow, random(seed));
        let text = serde_json::to_string(&flow).unwrap();
        assert_eq!(serde_json::from_str::<Flow>(&text).unwrap(), flow);
        for workflow in parsed(&flow) {
            let mut has = |feature: &'static str, there: bool| {
                assert!(FEATURES.contains(&feature), "{feature}");
                *seen.entry(feature).or_default() += u32::from(there);
            };
            has("run timeout", workflow.timeout.is_some());
            has("input schema", workflow.input_schema.is_some());
            has("output schema", workflow.output_schema.is_some());
            for state in workflow.states() {
                features(state, &mut has);
            }
        }
        for cue in flow.cues() {
            *seen.entry(act(&cue.act)).or_default() += 1;
        }
    }
    let rare: Vec<_> = seen.iter().filter(|(_, count)| **count < 20).collect();
    assert!(rare.is_empty(), "{rare:?} of {seen:#?}");
}

const FEATURES: &[&str] = &[
    "run timeout",
    "input schema",
    "output schema",
    "if",
    "result path",
    "result path deeper",
    "output mapping",
    "composite timeout",
    "odd name",
    "going back",
    "agent",
    "log",
    "flowing input",
    "given input",
    "attempt timeout",
    "retry",
    "several rules",
    "exponential",
    "fixed",
    "retryOn",
    "jitter",
    "atMostOnce",
    "approval",
    "gate",
    "quorum",
    "separation",
    "approvers",
    "reject fails",
    "reject cancels",
    "reject goes on",
    "timeout fails",
    "timeout approves",
    "timeout rejects",
    "timeout goes on",
    "short deadline",
    "switch",
    "switch without default",
    "constant condition",
    "data path",
    "join all",
    "join any",
    "join some",
    "fail fast",
    "wait for all",
    "merge",
    "array",
    "branch output",
    "branch by agent",
    "foreach",
    "one at a time",
    "iteration by agent",
    "foreach waits",
    "foreach array",
    "iteration output",
    "while",
    "while with a limit",
    "inject",
    "transform",
    "input path",
    "wait for",
    "wait for template",
    "wait until",
    "signal",
    "signal for ever",
    "signal goes on",
    "try",
    "catch some",
    "catch as",
    "finally",
    "workflow",
    "workflow with input",
    "workflow with flowing input",
    "cron",
    "fail",
    "succeed",
    "succeed with output",
    "early succeed",
];

fn act(act: &Act) -> &'static str {
    match act {
        Act::Approve { approver, .. } if approver == STARTER => "the starter approves",
        Act::Approve { .. } => "approve",
        Act::Reject { .. } => "reject",
        Act::Signal { .. } => "send",
        Act::Pause => "pause",
        Act::Resume => "resume",
        Act::Cancel => "cancel",
        Act::Redrive => "redrive",
        Act::StartAgain => "start again",
    }
}

fn features(state: &model::State, has: &mut dyn FnMut(&'static str, bool)) {
    let depth = state.result_path.as_ref().map_or(0, |path| path.segments().len());
    has("if", state.condition.is_some());
    has("result path", depth == 1);
    has("result path deeper", depth > 1);
    has("output mapping", !state.output.is_empty());
    has("odd name", !state.name.chars().all(|c| c.is_ascii_alphanumeric() || c == ' '));
    has("going back", state.name.ends_with(" count"));
    let is_composite = matches!(
        state.kind,
        Parsed::Parallel(_) | Parsed::Foreach(_) | Parsed::While(_) | Parsed::Try(_) | Parsed::Workflow(_)
    );
    has("composite timeout", is_composite && state.timeout.is_some());
    match &state.kind {
        Parsed::Operation(operation) => {
            let is_agent = matches!(operation.action, model::Action::Agent(_));
            has("agent", is_agent);
            has("log", !is_agent);
            has("flowing input", operation.receives_input);
            has("given input", is_agent && !operation.receives_input);
            has("attempt timeout", state.timeout.is_some());
            has("retry", !operation.retry.is_empty());
            has("several rules", operation.retry.len() > 1);
            has("atMostOnce", operation.at_most_once);
            for rule in &operation.retry {
                has("exponential", rule.exponential);
                has("fixed", !rule.exponential);
                has("retryOn", rule.retry_on.is_some());
                has("jitter", rule.jitter > 0.0);
            }
        }
        Parsed::Approval(approval) => {
            has("approval", true);
            has("gate", state.condition.is_some());
            has("quorum", approval.quorum > 1);
            has("separation", approval.separation_of_duties);
            has("approvers", !approval.approvers.is_empty());
            has("short deadline", approval.deadline.0 < 60_000);
            has("reject fails", approval.on_reject == OnReject::Fail);
            has("reject cancels", approval.on_reject == OnReject::Cancel);
            has("reject goes on", matches!(approval.on_reject, OnReject::Goto(_)));
            has("timeout fails", approval.on_timeout == OnTimeout::Fail);
            has("timeout approves", approval.on_timeout == OnTimeout::Approve);
            has("timeout rejects", approval.on_timeout == OnTimeout::Reject);
            has("timeout goes on", matches!(approval.on_timeout, OnTimeout::Goto(_)));
        }
        Parsed::Switch(switch) => {
            has("switch", true);
            has("switch without default", switch.default.is_none());
            has("data path", switch.data_path.is_some());
            let constant =
                |(condition, _): &(model::Condition, _)| matches!(condition, model::Condition::Constant(_));
            has("constant condition", switch.cases.iter().any(constant));
        }
        Parsed::Parallel(parallel) => {
            has("join all", parallel.join.mode == JoinMode::All);
            has("join any", parallel.join.mode == JoinMode::Count(1));
            has("join some", matches!(parallel.join.mode, JoinMode::Count(2..)));
            has("fail fast", parallel.join.on_failure == OnFailure::FailFast);
            has("wait for all", parallel.join.on_failure == OnFailure::Wait);
            has("merge", parallel.aggregation == Aggregation::Merge);
            has("array", parallel.aggregation == Aggregation::Array);
            has("branch output", parallel.branches.iter().any(|branch| branch.output.is_some()));
        }
        Parsed::Foreach(foreach) => {
            has("foreach", true);
            has("one at a time", foreach.max_concurrency == 1);
            has("foreach waits", foreach.on_failure == OnFailure::Wait);
            has("foreach array", foreach.aggregation == Aggregation::Array);
            has("iteration output", foreach.output.is_some());
        }
        Parsed::While(looped) => {
            has("while", true);
            has("while with a limit", looped.max_iterations < 1_000);
        }
        Parsed::Inject(_) => has("inject", true),
        Parsed::Transform(transform) => {
            has("transform", true);
            has("input path", transform.input_path.is_some());
        }
        Parsed::Wait(model::Wait::For(_)) => has("wait for", true),
        Parsed::Wait(model::Wait::ForTemplate(_)) => has("wait for template", true),
        Parsed::Wait(model::Wait::Until(_)) => has("wait until", true),
        Parsed::Signal(signal) => {
            has("signal", true);
            has("signal for ever", signal.timeout.is_none());
            has("signal goes on", signal.on_timeout.is_some());
        }
        Parsed::Try(tried) => {
            has("try", true);
            has("catch some", tried.catch.iter().any(|clause| clause.errors.is_some()));
            has("catch as", tried.catch.iter().any(|clause| clause.bind.is_some()));
            has("finally", tried.finally.is_some());
        }
        Parsed::Workflow(child) => {
            has("workflow", true);
            has("workflow with input", child.input.is_some());
            has("workflow with flowing input", child.input.is_none());
        }
        Parsed::Cron => has("cron", true),
        Parsed::Fail(_) => has("fail", true),
        Parsed::Succeed(output) => {
            has("succeed", true);
            has("succeed with output", output.is_some());
            has("early succeed", state.address.contains('/'));
        }
    }
    if state.implicit {
        has("branch by agent", state.address.contains("/branches/"));
        has("iteration by agent", state.address.contains("/iterator/"));
    }
}

#[test]
fn whatever_is_cut_is_valid_and_smaller() {
    for seed in 0..200 {
        let flow = Flow::random(&mut fastrand::Rng::with_seed(seed), if seed < 5 { 12 } else { 4 });
        for smaller in flow.smaller() {
            assert!(smaller.measure() < flow.measure(), "{flow:#?}\n{smaller:#?}");
            parsed(&smaller);
        }
    }
}

/// Agents that do what their tasks say.
struct Told;

#[async_trait]
impl Agents for Told {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        let behaviour = behaviour(&call);
        if behaviour.never {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(behaviour.takes).await;
        behaviour.answer
    }
}

/// What a flow's run came to without any fault.
struct Played {
    run: RunView,
    children: Vec<RunView>,
}

async fn play(flow: &Flow) -> Played {
    let clock = Arc::new(memory::VirtualClock::new("2026-01-31T09:00:00Z".parse().unwrap()));
    let store = Arc::new(memory::Store::new());
    let ports = runtime::Ports {
        journal: store.clone(),
        catalog: store.clone(),
        doorbell: Arc::new(memory::Doorbell::new(clock.clone())),
        agents: Arc::new(Told),
        clock,
        ids: Arc::new(memory::SeededIds::new(7)),
    };
    let runtime = Runtime::new(ports, runtime::Options::exclusive("worker"));
    let options = runtime::ServiceOptions { recover: false, schedules: false, ..Default::default() };
    let service = tokio::spawn(runtime::Service::new(runtime.clone(), options).run(std::future::pending()));
    for file in flow.files() {
        runtime.register(file.kind, &file.source, Some(&file.name), false).await.unwrap();
    }
    let request = || StartRequest {
        key: Some("the run".into()),
        starter: Some(STARTER.into()),
        ..StartRequest::new(flow.workflow_id(), flow.input())
    };
    let begun = Instant::now();
    let run = runtime.start(request()).await.unwrap().run;
    for cue in flow.cues() {
        tokio::time::sleep_until(begun + Duration::from_millis(cue.after)).await;
        if cue.act == Act::StartAgain {
            assert_eq!(runtime.start(request()).await.unwrap().run, run);
        }
        do_it(&runtime, &run, &cue.act).await;
    }
    let view = runtime.wait(&run, Duration::from_hours(24 * 40)).await.unwrap();
    let view = match view {
        Some(view) => view,
        None => runtime.get(&run).await.unwrap(),
    };
    let page = PageRequest { limit: 1_000, cursor: None };
    let mut children = Vec::new();
    for summary in runtime.runs(&runtime::ports::RunFilter::default(), &page).await.unwrap().items {
        if summary.run != run {
            children.push(runtime.get(&summary.run).await.unwrap());
        }
    }
    service.abort();
    Played { run: view, children }
}

async fn do_it(runtime: &Runtime, run: &RunId, act: &Act) {
    let vote = async |state: &str, approve: bool, approver: &str, comment: &Option<String>| {
        let filter = ApprovalFilter { run: None, pending: true };
        let page = PageRequest { limit: 1_000, cursor: None };
        for row in runtime.approvals(&filter, &page).await.unwrap().items {
            if *row.state == *state {
                let vote = Vote {
                    approve,
                    approver: approver.into(),
                    teams: Vec::new(),
                    comment: comment.as_deref().map(Into::into),
                    form: None,
                };
                let _ = runtime.vote(&row.scope.run, &row.request.id, vote).await;
            }
        }
    };
    // What is refused is refused: the invariants say when that is right.
    match act {
        Act::Approve { state, approver, comment } => vote(state, true, approver, comment).await,
        Act::Reject { state, approver, comment } => vote(state, false, approver, comment).await,
        Act::Signal { id, name, payload } => {
            let request = SignalRequest {
                id: id.as_deref().map(Into::into),
                name: name.as_str().into(),
                payload: Value::from(payload.clone()),
                by: None,
            };
            let _ = runtime.signal(run, request).await;
        }
        Act::Pause => drop(runtime.pause(run, None).await),
        Act::Resume => drop(runtime.resume(run, None).await),
        Act::Cancel => drop(runtime.cancel(run, None, None).await),
        Act::Redrive => drop(runtime.redrive(run, None).await),
        Act::StartAgain => {}
    }
}

#[test]
fn every_run_ends_or_waits_for_a_signal() {
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for seed in 0..RUNS {
        let home = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let played = home.unwrap().block_on(play(&random(seed)));
        let status = played.run.summary.status;
        *outcomes.entry(status.to_string()).or_default() += 1;
        for view in played.children.iter().chain([&played.run]) {
            let waits = view.current.iter().any(|place| place.activity == Doing::Signal);
            assert!(view.summary.stuck.is_none(), "{seed}: {:#?}", view.summary);
            assert!(view.summary.status.is_terminal() || waits, "{seed}: {:#?}", view.current);
        }
        let left = played.children.iter().filter(|child| !child.summary.status.is_terminal()).count();
        assert!(!status.is_terminal() || left == 0, "{seed}: {left} child runs outlive their parent");
    }
    let share = |status: RunStatus| {
        outcomes.get(&status.to_string()).copied().unwrap_or_default() * 100 / u32::try_from(RUNS).unwrap()
    };
    assert!((45..80).contains(&share(RunStatus::Completed)), "{outcomes:?}");
    assert!((10..45).contains(&share(RunStatus::Failed)), "{outcomes:?}");
    assert!(share(RunStatus::Cancelled) >= 1 && share(RunStatus::TimedOut) >= 1, "{outcomes:?}");
}
