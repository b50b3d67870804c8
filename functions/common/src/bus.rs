//! Events of a bus that start runs: of each workflow that listens for one like it, once for each event. None of those by which
//! we tell what happens to runs: a workflow that starts at the end of its own runs would never end.

use std::collections::HashMap;
use std::sync::Arc;

use engine::RunId;
use engine::Trigger;
use expression::Value;
use runtime::Runtime;
use runtime::StartError;
use runtime::StartRequest;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::PageRequest;
use tokio::sync::Mutex;

/// Definitions read at once.
const PAGE: usize = 200;

/// The id and the hash of a definition.
type Read = (Arc<str>, Arc<str>);

/// The event triggers of the active workflows, as far as this process has read them.
#[derive(Default)]
pub(crate) struct Listeners {
    kept: Mutex<HashMap<Read, Arc<[model::Trigger]>>>,
}

/// Whether what a function was given is an event of a bus, and no HTTP request.
pub(crate) fn is_event(payload: &serde_json::Value) -> bool {
    payload.get("detail-type").is_some() && payload.get("source").is_some()
}

/// Starts what the event starts; its input is the event as a whole. What was started before is not started again, so an
/// event that failed half way may come again.
pub(crate) async fn deliver(
    runtime: &Runtime,
    listeners: &Listeners,
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
    for workflow in listeners.of(runtime, &event).await? {
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

impl Listeners {
    /// The active workflows with a trigger that the event matches. What was read before is not read again.
    async fn of(&self, runtime: &Runtime, event: &Value) -> Result<Vec<Arc<str>>, lambda_runtime::Error> {
        let mut kept = self.kept.lock().await;
        let mut active = HashMap::with_capacity(kept.len());
        let mut found = Vec::new();
        let mut page = PageRequest { limit: PAGE, cursor: None };
        loop {
            let definitions = runtime.ports().catalog.definitions(DefinitionKind::Workflow, &page).await?;
            for definition in definitions.items.iter().filter(|definition| !definition.disabled) {
                let key = (definition.id.clone(), definition.hash.clone());
                let triggers = kept.get(&key).cloned().unwrap_or_else(|| event_triggers(definition));
                let listens = |trigger: &model::Trigger| match trigger {
                    model::Trigger::Event(filter) => filter.matches(event),
                    _ => false,
                };
                if triggers.iter().any(listens) {
                    found.push(definition.id.clone());
                }
                active.insert(key, triggers);
            }
            let Some(next) = definitions.next else {
                *kept = active;
                return Ok(found);
            };
            page.cursor = Some(next);
        }
    }
}

/// A workflow that cannot be read is told and left out.
fn event_triggers(definition: &Definition) -> Arc<[model::Trigger]> {
    let file = definition.file.as_deref().unwrap_or("workflow.yaml");
    let options = model::Options { file, agents: None, workflows: None };
    let Some(workflow) = model::parse(&definition.source, &options).workflow else {
        tracing::warn!(workflow = %definition.id, "a workflow's event triggers cannot be read");
        return Arc::default();
    };
    workflow.triggers.into_iter().filter(|trigger| matches!(trigger, model::Trigger::Event(_))).collect()
}

#[cfg(test)]
mod tests {
    use runtime::SystemClock;
    use runtime::memory;
    use serde_json::json;

    use super::*;
    use crate::Configuration;
    use crate::Start;
    use crate::home;

    fn in_memory() -> Runtime {
        let doorbell = Arc::new(memory::Doorbell::new(Arc::new(SystemClock)));
        home::in_memory::<Start>(&Configuration::of_nothing(), doorbell)
    }

    fn event(id: &str, source: &str) -> serde_json::Value {
        json!({"version": "0", "id": id, "source": source, "detail-type": "Alarm", "detail": {"n": 1}})
    }

    async fn register(runtime: &Runtime, version: &str, source: &str) {
        let text = format!(
            "id: w\nversion: '{version}'\ntriggers:\n  - {{type: event, filter: {{source: {source}}}}}\nstates:\n  - {{id: a, type: inject, data: {{x: 1}}}}\n"
        );
        runtime.register(DefinitionKind::Workflow, &text, None, false).await.unwrap();
    }

    #[tokio::test]
    async fn a_workflow_is_read_once_and_again_when_it_has_changed() {
        let (runtime, listeners) = (in_memory(), Listeners::default());
        register(&runtime, "1", "pager").await;
        let deliver =
            async |id: &str, source: &str| deliver(&runtime, &listeners, event(id, source)).await.unwrap();
        assert_eq!((deliver("1", "pager").await, deliver("2", "other").await), (1, 0));
        let read = async || listeners.kept.lock().await.values().cloned().collect::<Vec<_>>();
        let first = read().await;
        assert_eq!(
            (deliver("3", "pager").await, deliver("1", "pager").await),
            (1, 0),
            "an event starts a run once"
        );
        let again = read().await;
        assert!(first.len() == 1 && again.len() == 1 && Arc::ptr_eq(&first[0], &again[0]));
        register(&runtime, "2", "other").await;
        assert_eq!((deliver("4", "pager").await, deliver("5", "other").await), (0, 1));
        assert_eq!(read().await.len(), 1, "the version before is forgotten");
        runtime.set_disabled(DefinitionKind::Workflow, "w", true).await.unwrap();
        assert_eq!(deliver("6", "other").await, 0);
    }

    #[tokio::test]
    async fn what_we_tell_ourselves_starts_nothing() {
        let (runtime, listeners) = (in_memory(), Listeners::default());
        register(&runtime, "1", eventbridge::event::SOURCE).await;
        assert_eq!(deliver(&runtime, &listeners, event("1", "stepwell")).await.unwrap(), 0);
    }
}
