//! The `start` handler: validate, create the run, ring.

use std::sync::Arc;
use std::time::Duration;

use engine::Event;
use engine::Next;
use engine::RunId;
use engine::RunStarted;
use engine::Scope;
use engine::ScopeKey;
use engine::Stimulus;
use model::Millis;
use tokio::sync::oneshot;

use crate::Runtime;
use crate::commit::Manner;
use crate::drive::ring_steps;
use crate::error::Error;
use crate::error::StartError;
use crate::extras::Before;
use crate::heads::Head;
use crate::plans::Planned;
use crate::ports::Hint;
use crate::ports::Queue;
use crate::ports::Ring;
use crate::runtime::later;
use crate::tend::input_or_empty;
use crate::view::RunView;
use crate::view::StartRequest;
use crate::view::Started;

impl Runtime {
    /// Starts a run. The same key (or id) with the same workflow and input is the same run, and answers so.
    pub async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        self.create(request).await
    }

    /// Starts a run and waits for its end, at most so long: without a look at the store when it ends in this process.
    pub async fn start_and_wait(
        &self,
        request: StartRequest,
        timeout: Duration,
    ) -> Result<(Started, Option<RunView>), StartError> {
        let mut end = None;
        let started = self.create_watched(request, Some(&mut end)).await?;
        let view = match end {
            Some(end) if started.created => self.await_end(&started.run, end, timeout).await?,
            _ => self.wait(&started.run, timeout).await?,
        };
        Ok((started, view))
    }

    pub(crate) async fn create(&self, request: StartRequest) -> Result<Started, StartError> {
        self.create_watched(request, None).await
    }

    async fn create_watched(
        &self,
        request: StartRequest,
        end: Option<&mut Option<oneshot::Receiver<Arc<RunView>>>>,
    ) -> Result<Started, StartError> {
        let plan = match self.plan(&request.workflow, request.version.as_ref()).await? {
            Planned::Plan(plan) => plan,
            Planned::Disabled => return Err(StartError::WorkflowDisabled { workflow: request.workflow }),
            Planned::Unknown => {
                let StartRequest { workflow, version, .. } = request;
                return Err(StartError::WorkflowNotFound { workflow, version });
            }
        };
        let mut input = input_or_empty(request.input);
        if input.as_object().is_none() {
            return Err(StartError::InputNotObject { found: input.kind() });
        }
        if input.is_too_deep() {
            let message = format!("nested deeper than {} levels", expression::DEPTH_LIMIT);
            let violations = vec![model::Violation { path: String::new(), message }];
            return Err(StartError::Input { workflow: request.workflow, violations });
        }
        if let Some(schema) = &plan.workflow.input_schema {
            schema.fill_defaults(&mut input);
            let violations = schema.validate(&input);
            if !violations.is_empty() {
                return Err(StartError::Input { workflow: request.workflow, violations });
            }
        }
        let run = match (request.run_id, &request.key) {
            (Some(run), _) => run,
            (None, Some(key)) => RunId::from_key(&plan.id, key),
            (None, None) => self.core.ports.ids.run(),
        };
        let now = self.now();
        let started = RunStarted {
            run: run.clone(),
            workflow: plan.id.clone(),
            version: plan.version.clone(),
            hash: plan.hash.clone(),
            agents: plan.agents.clone(),
            input,
            starter: request.starter,
            trigger: request.trigger,
            deadline: plan.workflow.timeout.map(|Millis(millis)| later(now, Duration::from_millis(millis))),
            parent: request.parent,
        };

        let mut head = Box::new(Head::new(Scope::root(run.clone()), plan.workflow.clone()));
        let before = Before::of(&head);
        let env = self.env(&head, Manner::default()).await?;
        let decision = self.decide(&mut head, Stimulus::StartRun(Box::new(started.clone())), env).await?;
        let key = ScopeKey::root(run.clone());
        // Watched before it exists, so that its end is not missed; given up if it is not this call's run.
        let watched = end.as_ref().map(|_| self.core.watchers.watch(&run));
        let mut untold = match self.commit(&mut head, before, decision.events, true, None).await {
            Ok(Some(untold)) => {
                if let Some(end) = end {
                    *end = watched;
                }
                untold
            }
            Ok(None) => {
                drop(watched);
                self.core.watchers.sweep(&run);
                return self.existing(&key, &started).await;
            }
            Err(error) => {
                drop(watched);
                self.core.watchers.sweep(&run);
                return Err(error.into());
            }
        };
        let queue = match decision.next {
            Next::Ring | Next::Again { .. } | Next::Perform => Some(Queue::Steps),
            Next::Park | Next::Held { .. } => Some(Queue::Resume),
            // A child run that ended at once: its parent sees to it.
            Next::Done => None,
        };
        let told = crate::drive::tell(&head).is_some();
        let seq = head.scope.seq();
        self.core.heads.put(head);
        let ring = match queue {
            Some(Queue::Steps) => Some(ring_steps(&key)),
            // What its first record implies (a fork's children are to be rung, above all) is for whoever answers.
            Some(queue) => {
                untold.leave_what_stands();
                Some(Ring { queue, hint: Hint::Missed, ..ring_steps(&key) })
            }
            None if told => Some(Ring { queue: Queue::Resume, ..ring_steps(&key) }),
            None => None,
        };
        if let Some(ring) = ring
            && let Err(error) = self.core.ports.doorbell.ring(vec![ring]).await
        {
            // The run exists; its due entry sees to the rest.
            tracing::warn!(%run, %error, "a run was created, but its doorbell did not ring");
            untold.entry = None;
        }
        if let Err(error) = Box::pin(self.tell_all(&key, seq, untold)).await {
            tracing::warn!(%run, %error, "a run was created, but what became of it at once may not be told");
        }
        Ok(Started { run, created: true })
    }

    /// The run was there: is it the one that was asked for?
    async fn existing(&self, key: &ScopeKey, wanted: &RunStarted) -> Result<Started, StartError> {
        let first = self.core.ports.journal.read(key, 0, 1).await?;
        let event = first.first().and_then(|first| engine::Record::decode(&first.body).ok());
        let found = event.and_then(|record| record.events.into_iter().next());
        let Some(Event::RunStarted(found)) = found else {
            let what = "the event that begins its journal".to_owned();
            return Err(Error::Missing { scope: key.clone(), what }.into());
        };
        let same = match &wanted.parent {
            // The id of a child run says it all: the active version may be another by now.
            Some(parent) => found
                .parent
                .as_ref()
                .is_some_and(|found| (&found.run, &found.scope) == (&parent.run, &parent.scope)),
            None => found.workflow == wanted.workflow && found.input == wanted.input,
        };
        if same {
            Ok(Started { run: key.run.clone(), created: false })
        } else {
            Err(StartError::KeyReused { run: key.run.clone() })
        }
    }
}
