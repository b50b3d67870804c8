//! What a run costs in items and requests, through the real runtime.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use expression::Value;
use runtime::Options;
use runtime::Ports;
use runtime::Runtime;
use runtime::Service;
use runtime::ServiceOptions;
use runtime::StartRequest;
use runtime::SystemClock;
use runtime::SystemIds;
use runtime::memory::Doorbell;
use runtime::ports::Agents;
use runtime::ports::Call;
use runtime::ports::CallError;
use runtime::ports::DefinitionKind;
use runtime::ports::RunStatus;

use crate::server::Fixture;
use crate::wire::Sent;
use crate::wire::Trouble;

const STEPS: usize = 10;

/// Counts what it is asked.
#[derive(Default)]
struct Echo(AtomicUsize);

#[async_trait]
impl Agents for Echo {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(call.request.get("task").cloned().unwrap_or_else(Value::object))
    }
}

/// A run of ten steps, from its start to its end, by a process that shares the store; its requests meet these troubles.
async fn run(fixture: &Fixture, troubles: Vec<(&'static str, Trouble)>) -> Vec<Sent> {
    let clock = Arc::new(SystemClock);
    let ids = Arc::new(SystemIds::new().unwrap());
    let doorbell = Arc::new(Doorbell::new(clock.clone()));
    let options = Options::shared(ids.worker());
    let agents = Arc::new(Echo::default());
    let (journal, catalog) = (fixture.store.clone(), fixture.store.clone());
    let ports = Ports { journal, catalog, doorbell, agents: agents.clone(), clock, ids };
    let runtime = Runtime::new(ports, options);
    let state = |step| {
        let next = if step < STEPS { format!(", next: s{}", step + 1) } else { String::new() };
        format!("  - {{id: s{step}, type: agent, agent: x, task: do it{next}}}\n")
    };
    let source = format!("id: ten\nstates:\n{}", (1..=STEPS).map(state).collect::<String>());
    let agent = "type: static\noutput: nothing\n";
    runtime.register(DefinitionKind::Agent, agent, Some("x.agent.yaml"), false).await.unwrap();
    runtime.register(DefinitionKind::Workflow, &source, Some("ten.workflow.yaml"), false).await.unwrap();
    fixture.wire.forget();
    for (operation, trouble) in troubles {
        fixture.wire.next(operation, trouble);
    }
    // Nothing but the run and one sweep looks at the table.
    let quiet = ServiceOptions { recover: false, ..ServiceOptions::default() };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = tokio::spawn(Service::new(runtime.clone(), quiet).run(async {
        let _ = stopped.await;
    }));
    let request = StartRequest::new("ten", Value::object());
    let (_, view) = runtime.start_and_wait(request, Duration::from_mins(2)).await.unwrap();
    let sent = fixture.wire.forget();
    assert_eq!(view.expect("it ended").summary.status, RunStatus::Completed);
    assert_eq!(agents.0.load(Ordering::Relaxed), STEPS, "each step is performed once");
    stop.send(()).unwrap();
    service.await.unwrap();
    sent
}

fn written(sent: &[Sent]) -> usize {
    let items = |sent: &Sent| match sent.operation.as_str() {
        "PutItem" | "UpdateItem" | "DeleteItem" => 1,
        "TransactWriteItems" => sent.body["TransactItems"].as_array().map_or(0, Vec::len),
        _ => 0,
    };
    sent.iter().map(items).sum()
}

#[tokio::test]
async fn a_run_writes_an_item_a_step_and_six() {
    let fixture = Fixture::new("costs").await;
    let sent = run(&fixture, Vec::new()).await;
    let summary: Vec<_> = sent.iter().map(|sent| sent.operation.as_str()).collect();
    assert!(written(&sent) <= STEPS + 6, "{} items: {summary:?}", written(&sent));
    let transactions = sent.iter().filter(|sent| sent.operation == "TransactWriteItems").count();
    assert_eq!(transactions, 2, "the start and the end: {summary:?}");
    // Whatever decides is read consistently; only lists and due entries are not.
    for read in sent.iter().filter(|sent| ["GetItem", "Query", "BatchGetItem"].contains(&&*sent.operation)) {
        let consistent = read.body.to_string().contains("\"ConsistentRead\":true");
        assert_eq!(consistent, read.body.get("IndexName").is_none(), "{}", read.body);
    }
    let of_journals = sent.iter().filter(|sent| sent.body.to_string().contains("\"J#"));
    let reads = of_journals.filter(|sent| ["GetItem", "Query"].contains(&&*sent.operation)).count();
    assert!(reads <= 3, "{reads} reads of journals: {summary:?}");
}

#[tokio::test]
async fn a_run_survives_lost_answers_and_a_busy_table() {
    let fixture = Fixture::new("survives").await;
    let puts = [Trouble::AnswerLost, Trouble::Throttled, Trouble::Failed].into_iter().cycle().take(9);
    let queries = [Trouble::Throttled, Trouble::AnswerLost, Trouble::Failed];
    let transactions = [Trouble::InTheWay, Trouble::AnswerLost, Trouble::Throttled];
    let troubles = puts
        .map(|trouble| ("PutItem", trouble))
        .chain(queries.map(|trouble| ("Query", trouble)))
        .chain(transactions.map(|trouble| ("TransactWriteItems", trouble)));
    run(&fixture, troubles.collect()).await;
}
