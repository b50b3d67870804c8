//! One decision: made, appended, made known in this process.

use std::sync::Arc;
use std::time::Duration;

use engine::Activity;
use engine::Budget;
use engine::Decision;
use engine::Encoded;
use engine::Env;
use engine::Event;
use engine::Scope;
use engine::ScopeKey;
use engine::Stimulus;
use jiff::Timestamp;

use crate::Runtime;
use crate::error::Error;
use crate::extras::Before;
use crate::extras::extras;
use crate::heads::Head;
use crate::heads::Tended;
use crate::notices::Untold;
use crate::ports::AppendError;
use crate::ports::Extra;
use crate::ports::StoreError;
use crate::ports::StoreErrorKind;
use crate::runtime::later;

/// Pauses between tries of an append that the store could not take: some seconds in all. What was performed and cannot be
/// recorded would have to be performed again.
pub(crate) const PATIENCE: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// How a decision is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// The caller performs actions.
    pub(crate) may_perform: bool,
    /// The time in which a step has to fit.
    pub(crate) budget: Option<Budget>,
    /// Expressions get their full budget, off the async workers.
    pub(crate) heavy: bool,
}

/// Who has claimed a scope's step.
pub(crate) struct Claimant {
    worker: Arc<str>,
    /// The number of the record that claims.
    claim: u64,
    at: Timestamp,
}

impl Claimant {
    pub(crate) fn of(head: &Head) -> Option<Self> {
        let claim = head.scope.claim(&head.workflow)?;
        Some(Self { worker: claim.worker.clone(), claim: claim.seq, at: claim.at })
    }

    pub(crate) fn is(&self, worker: &str) -> bool {
        *self.worker == *worker
    }
}

impl Runtime {
    /// What the world looks like to a decision about this scope.
    pub(crate) async fn env(&self, head: &Head, manner: Manner) -> Result<Env, Error> {
        let now = self.now();
        let claim_is_live_until = match head.scope.activity() {
            Activity::Performing => self.alive_until(head, now).await?,
            _ => None,
        };
        Ok(Env {
            now,
            worker: self.core.options.worker.clone(),
            may_perform: manner.may_perform,
            budget: manner.budget,
            claim_is_live_until,
            entropy: self.core.ports.ids.entropy(),
            heavy: manner.heavy,
        })
    }

    /// Until when the worker of the present claim counts as alive; `None` also without a claim.
    async fn alive_until(&self, head: &Head, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        match Claimant::of(head) {
            Some(claimant) => self.worker_alive_until(head.key(), &claimant, now).await,
            None => Ok(None),
        }
    }

    /// Until when this worker counts as alive; `None`: it is dead, and its claim is for others to take over.
    pub(crate) async fn worker_alive_until(
        &self,
        scope: &ScopeKey,
        claimant: &Claimant,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let options = &self.core.options;
        let claim = claimant.claim;
        if claimant.worker == options.worker {
            let runs = self.core.claims.is_running(scope, claim);
            return Ok(runs.then(|| later(now, options.lease)));
        }
        if options.exclusive {
            return Ok(None);
        }
        let lease = self.core.ports.journal.lease(scope).await?.filter(|lease| lease.claim == claim);
        let until = lease.map_or_else(|| later(claimant.at, options.lease), |lease| lease.until);
        Ok(Some(until).filter(|until| *until > now))
    }

    /// Decides; what may take long, off the async workers.
    pub(crate) async fn decide(
        &self,
        head: &mut Head,
        stimulus: Stimulus,
        env: Env,
    ) -> Result<Decision, Error> {
        if !env.heavy {
            return Ok(engine::decide(&mut head.scope, &head.workflow, stimulus, &env));
        }
        let placeholder = Scope::root(head.key().run.clone());
        let mut scope = std::mem::replace(&mut head.scope, placeholder);
        let workflow = head.workflow.clone();
        let key = scope.key().clone();
        let work = move || {
            let decision = engine::decide(&mut scope, &workflow, stimulus, &env);
            (scope, decision)
        };
        let (scope, decision) =
            tokio::task::spawn_blocking(work).await.map_err(|_| Error::Aborted { scope: key })?;
        head.scope = scope;
        Ok(decision)
    }

    /// Appends what was decided, and answers with what is to be told of it. `None` when another writer was first: then the head
    /// is of no use any more.
    pub(crate) async fn commit(
        &self,
        head: &mut Head,
        before: Before,
        events: Vec<Event>,
        doorless: bool,
        patient_until: Option<Timestamp>,
    ) -> Result<Option<Untold>, Error> {
        let forked = events
            .iter()
            .any(|event| matches!(event, Event::Forked { .. } | Event::SubworkflowRequested { .. }));
        let mut untold = self.to_tell(head, &before, &events);
        let extras = extras(head, before, &events, doorless, self.core.notifier.is_some(), self.now())?;
        let looked_after = extras.iter().find_map(|extra| match extra {
            Extra::Due(at) if doorless => Some(*at),
            _ => None,
        });
        let key = head.key().clone();
        let record = head
            .scope
            .seal(events, self.core.ports.ids.append())
            .map_err(|error| Error::Unencodable { scope: key.clone(), reason: error.to_string() })?;
        if !self.append(&key, &record, extras, patient_until).await? {
            return Ok(None);
        }
        head.appended(&record);
        untold.entry = looked_after.and_then(|at| self.entry_of(head, at)).filter(|_| untold.is_urgent());
        if let Some(tended) = head.tended
            && !matches!(head.scope.activity(), Activity::Fork | Activity::Subworkflow | Activity::Ending)
        {
            self.core.nursery.forget_fork(&key, tended.fork);
            head.tended = None;
        }
        if forked {
            head.tended = self.just_forked(head);
        }
        if head.scope.outcome().is_some() && key.path.is_root() {
            self.core.inboxes.forget(&key.run);
            if self.core.watchers.is_watched(&key.run) {
                self.announce(head);
            }
        }
        Ok(Some(untold))
    }

    /// Appends a record, as sure as can be until `patient_until`. False when its number is taken by another.
    pub(crate) async fn append(
        &self,
        key: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
        patient_until: Option<Timestamp>,
    ) -> Result<bool, Error> {
        let journal = &self.core.ports.journal;
        let spare = extras.clone();
        let mut result = journal.append(key, record, extras).await;
        let mut patience = PATIENCE.iter();
        loop {
            let error = match result {
                Ok(()) => return Ok(true),
                Err(AppendError::Conflict(existing)) => return Ok(existing.append_id == record.append_id),
                Err(AppendError::Store(error)) => error,
            };
            let may_wait = |pause: &Duration| {
                let in_time = patient_until.is_none_or(|end| later(self.now(), *pause) < end);
                in_time && error.kind != StoreErrorKind::Permanent
            };
            let Some(pause) = patience.next().filter(|pause| may_wait(pause)) else {
                return Err(error.into());
            };
            tracing::warn!(scope = %key, seq = record.seq, %error, "an append failed; trying again");
            self.core.ports.clock.sleep(*pause).await;
            result = match self.written(key, record, &error).await {
                Ok(Some(ours)) => return Ok(ours),
                Ok(None) => journal.append(key, record, spare.clone()).await,
                Err(error) => Err(AppendError::Store(error)),
            };
        }
    }

    /// Whether an append whose answer was lost took effect: `Some(true)`; or another record did: `Some(false)`.
    async fn written(
        &self,
        key: &ScopeKey,
        record: &Encoded,
        error: &StoreError,
    ) -> Result<Option<bool>, StoreError> {
        if error.kind != StoreErrorKind::Unknown {
            return Ok(None);
        }
        let found = self.core.ports.journal.read(key, record.seq - 1, 1).await?;
        Ok(found.first().map(|found| found.append_id == record.append_id))
    }

    /// A fork made by this very record: none of its children was rung yet, all have the clocks they begin with.
    fn just_forked(&self, head: &Head) -> Option<Tended> {
        if let Some(view) = head.scope.fork(&head.workflow) {
            let (fork, version) = (view.seq(), view.clocks().version);
            let context = head.scope.fork_context(&head.workflow)?;
            self.core.nursery.keep_fork(head.key(), fork, Arc::new(context));
            return Some(Tended { fork, version, rung: 0 });
        }
        let view = head.scope.subworkflow(&head.workflow)?;
        Some(Tended { fork: view.seq, version: view.clocks.version, rung: 0 })
    }
}
