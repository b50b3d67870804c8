//! Events of a bus that start runs: of each workflow that listens for one like it, once for each event. None of those by which
//! we tell what happens to runs: a workflow that starts at the end of its own runs would never end.

use std::sync::Arc;

use engine::RunId;
use engine::Trigger;
use expression::Value;
use runtime::Runtime;
use runtime::StartError;
use runtime::StartRequest;
use runtime::ports::DefinitionKind;
use runtime::ports::PageRequest;

/// Definitions read at once.
const PAGE: usize = 200;

/// Whether what a function was given is an event of a bus, and no HTTP request.
pub(crate) fn is_event(payload: &serde_json::Value) -> bool {
    payload.get("detail-type").is_some() && payload.get("source").is_some()
}

/// Starts what the event starts; its input is the event as a whole. What was started before is not started again, so an
/// event that failed half way may come again.
pub(crate) async fn deliver(
    runtime: &Runtime,
    payload: serde_json::Value,
) -> Result<usize, lambda_runtime::Error> {
    let id = payload.get("id").and_then(serde_json::Value::as_str);
    let id: Arc<str> = id.ok_or("an event without an `id` cannot be known again")?.into();
    if payload.get("source").and_then(serde_json::Value::as_str) == Some(eventbridge::event::SOURCE) {
        tracing::warn!(
            event = &*id,
            "an event of Stepwell itself starts no run; is there a rule that sends it here?"
        );
        return Ok(0);
    }
    let event = Value::from(payload);
    let (mut started, mut failed) = (0, None);
    for workflow in listeners(runtime, &event).await? {
        let request = StartRequest {
            run_id: Some(RunId::from_event(&workflow, &id)),
            trigger: Trigger::Event { id: id.clone() },
            ..StartRequest::new(workflow.clone(), event.clone())
        };
        match runtime.start(request).await {
            Ok(run) => {
                started += usize::from(run.created);
                tracing::info!(%workflow, run = %run.run, created = run.created, event = &*id, "an event starts a run");
            }
            Err(StartError::Other(error)) => {
                tracing::error!(%workflow, event = &*id, %error, "an event could not start a run yet");
                failed = Some(error);
            }
            // It will be refused each time it comes.
            Err(refused) => {
                tracing::error!(%workflow, event = &*id, error = %refused, "an event cannot start a run");
            }
        }
    }
    failed.map_or(Ok(started), |error| Err(error.into()))
}

/// The active workflows with a trigger that the event matches.
async fn listeners(runtime: &Runtime, event: &Value) -> Result<Vec<Arc<str>>, lambda_runtime::Error> {
    let mut found = Vec::new();
    let mut page = PageRequest { limit: PAGE, cursor: None };
    loop {
        let definitions = runtime.ports().catalog.definitions(DefinitionKind::Workflow, &page).await?;
        for definition in definitions.items.iter().filter(|definition| !definition.disabled) {
            let file = definition.file.as_deref().unwrap_or("workflow.yaml");
            let options = model::Options { file, agents: None, workflows: None };
            let triggers =
                model::parse(&definition.source, &options).workflow.map(|workflow| workflow.triggers);
            let listens = |trigger: &model::Trigger| match trigger {
                model::Trigger::Event(filter) => filter.matches(event),
                _ => false,
            };
            if triggers.unwrap_or_default().iter().any(listens) {
                found.push(definition.id.clone());
            }
        }
        match definitions.next {
            Some(next) => page.cursor = Some(next),
            None => return Ok(found),
        }
    }
}
