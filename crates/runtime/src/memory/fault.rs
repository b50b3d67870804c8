//! Adapters that fail on purpose: before they did what was asked, or after it, when the answer is lost; once, or from then
//! on for good, as for a process that died.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use engine::Encoded;
use engine::Error;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use engine::error_type;
use expression::Value;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::ports::Agents;
use crate::ports::AppendError;
use crate::ports::ApprovalFilter;
use crate::ports::ApprovalRow;
use crate::ports::Call;
use crate::ports::CallError;
use crate::ports::Catalog;
use crate::ports::Clock;
use crate::ports::Definition;
use crate::ports::DefinitionKind;
use crate::ports::Delivery;
use crate::ports::Doorbell;
use crate::ports::DueMove;
use crate::ports::DueRow;
use crate::ports::Extra;
use crate::ports::Journal;
use crate::ports::Lease;
use crate::ports::Loaded;
use crate::ports::Page;
use crate::ports::PageRequest;
use crate::ports::Queue;
use crate::ports::Registered;
use crate::ports::Ring;
use crate::ports::RunFilter;
use crate::ports::RunSummary;
use crate::ports::StoreError;
use crate::ports::StoreErrorKind;
use crate::ports::WaiterRow;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is done, and answered.
    None,
    /// It fails before it took effect, and says so.
    Before,
    /// It takes effect, and the answer is lost.
    After,
    /// It takes effect at once, and is answered after this much of tokio's time.
    Late(Duration),
    /// It is answered as if it had been done, and nothing was: for doorbells, which may get lost. Other calls fail.
    Lose,
    /// The process dies before it takes effect: the call never returns.
    DieBefore,
    /// The process dies after it took effect: the call never returns.
    DieAfter,
}

/// A port whose every call asks `plan`, by the call's number (from 0) and name, what is to become of it. Ports that share a
/// `plan` and a count fail as one process does.
pub struct Faulty<P: ?Sized> {
    plan: Arc<Plan>,
    port: Arc<P>,
}

type Rule = dyn Fn(u64, &'static str) -> Fault + Send + Sync;

struct Plan {
    calls: AtomicU64,
    rule: Box<Rule>,
    dead: watch::Sender<bool>,
}

impl<P: ?Sized> Faulty<P> {
    /// This port under this rule.
    pub fn new(port: Arc<P>, rule: impl Fn(u64, &'static str) -> Fault + Send + Sync + 'static) -> Self {
        let plan = Plan { calls: AtomicU64::new(0), rule: Box::new(rule), dead: watch::Sender::new(false) };
        Self { plan: Arc::new(plan), port }
    }

    /// Another port under the same rule and count.
    pub fn and<Q: ?Sized>(&self, port: Arc<Q>) -> Faulty<Q> {
        Faulty { plan: self.plan.clone(), port }
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.plan.calls.load(Ordering::SeqCst)
    }

    /// Waits until the process is dead: a call was its last, and none that is made from then on returns.
    pub fn death(&self) -> impl Future<Output = ()> + Send + use<P> {
        let mut dead = self.plan.dead.subscribe();
        async move {
            // It cannot die any more when nobody is left to make a call.
            if dead.wait_for(|dead| *dead).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn die<T>(&self) -> T {
        self.plan.dead.send_replace(true);
        std::future::pending().await
    }

    async fn call<T, E>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, E>> + Send,
        failed: impl Fn(StoreError) -> E + Send,
    ) -> Result<T, E> {
        if *self.plan.dead.borrow() {
            return std::future::pending().await;
        }
        let number = self.plan.calls.fetch_add(1, Ordering::SeqCst);
        match (self.plan.rule)(number, name) {
            Fault::None => call.await,
            Fault::Before => Err(failed(error(StoreErrorKind::Unavailable, name))),
            Fault::Lose => Err(failed(StoreError { code: LOST, ..error(StoreErrorKind::Unavailable, name) })),
            Fault::After => {
                call.await?;
                Err(failed(error(StoreErrorKind::Unknown, name)))
            }
            Fault::Late(time) => {
                let answer = call.await;
                tokio::time::sleep(time).await;
                answer
            }
            Fault::DieBefore => self.die().await,
            Fault::DieAfter => {
                let _ = call.await;
                self.die().await
            }
        }
    }
}

/// The code of every error that is injected.
pub const INJECTED: &str = "INJECTED";
const LOST: &str = "INJECTED_LOSS";

fn error(kind: StoreErrorKind, name: &str) -> StoreError {
    StoreError { kind, code: INJECTED, message: format!("a fault was injected into `{name}`") }
}

#[async_trait]
impl<P: Journal + ?Sized> Journal for Faulty<P> {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        self.call("load", self.port.load(scope), |error| error).await
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        self.call("read", self.port.read(scope, after, limit), |error| error).await
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        self.call("head", self.port.head(scope), |error| error).await
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        self.call("append", self.port.append(scope, record, extras), AppendError::Store).await
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        self.call("put_snapshot", self.port.put_snapshot(scope, seq, body), |error| error).await
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.call("fork_context", self.port.fork_context(scope, seq), |error| error).await
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        self.call("scopes", self.port.scopes(run, after, limit), |error| error).await
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        self.call("waiters", self.port.waiters(run, name), |error| error).await
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        self.call("lease", self.port.lease(scope), |error| error).await
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        self.call("renew", self.port.renew(scope, lease), |error| error).await
    }
}

#[async_trait]
impl<P: Catalog + ?Sized> Catalog for Faulty<P> {
    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError> {
        self.call("register", self.port.register(definition, new_version), |error| error).await
    }

    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        self.call("definition", self.port.definition(kind, id, version), |error| error).await
    }

    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        self.call("pinned", self.port.pinned(kind, id, hash), |error| error).await
    }

    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        self.call("definitions", self.port.definitions(kind, page), |error| error).await
    }

    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        self.call("versions", self.port.versions(kind, id), |error| error).await
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        self.call("set_disabled", self.port.set_disabled(kind, id, disabled), |error| error).await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        self.call("run", self.port.run(run), |error| error).await
    }

    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        self.call("runs", self.port.runs(filter, page), |error| error).await
    }

    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        self.call("project", self.port.project(summary), |error| error).await
    }

    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        self.call("approval", self.port.approval(run, id), |error| error).await
    }

    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        self.call("approvals", self.port.approvals(filter, page), |error| error).await
    }

    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        self.call("due", self.port.due(until, after, limit), |error| error).await
    }

    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        self.call("move_due", self.port.move_due(moves), |error| error).await
    }

    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        self.call("ensure_due", self.port.ensure_due(scope, at, seq), |error| error).await
    }

    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.call("ended_before", self.port.ended_before(at, limit), |error| error).await
    }

    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        self.call("forget", self.port.forget(run), |error| error).await
    }
}

#[async_trait]
impl<P: Doorbell + ?Sized> Doorbell for Faulty<P> {
    async fn ring(&self, rings: Vec<Ring>) -> Result<(), StoreError> {
        match self.call("ring", self.port.ring(rings), |error| error).await {
            // A doorbell that is lost, is lost without a word.
            Err(error) if error.code == LOST => Ok(()),
            other => other,
        }
    }

    async fn receive(&self, queue: Queue, max: usize) -> Result<Vec<Delivery>, StoreError> {
        self.call("receive", self.port.receive(queue, max), |error| error).await
    }

    async fn acknowledge(&self, delivery: Delivery) -> Result<(), StoreError> {
        self.call("acknowledge", self.port.acknowledge(delivery), |error| error).await
    }

    async fn extend(&self, deliveries: &[Delivery], by: Duration) -> Result<(), StoreError> {
        self.call("extend", self.port.extend(deliveries, by), |error| error).await
    }

    async fn retry(&self, delivery: Delivery, after: Duration) -> Result<(), StoreError> {
        self.call("retry", self.port.retry(delivery, after), |error| error).await
    }
}

/// An error that is injected here is never the agent's own: nobody knows what became of the call.
#[async_trait]
impl<P: Agents + ?Sized> Agents for Faulty<P> {
    async fn perform(&self, call: Call) -> Result<Value, CallError> {
        let failed = |error: StoreError| CallError {
            error: Error::new(error_type::AGENT_ERROR, error.to_string()),
            definite: false,
            retry_after: None,
        };
        self.call("perform", self.port.perform(call), failed).await
    }
}

/// Only a sleep is a call: what the time is can always be told.
#[async_trait]
impl<P: Clock + ?Sized> Clock for Faulty<P> {
    fn now(&self) -> Timestamp {
        self.port.now()
    }

    async fn sleep(&self, duration: Duration) {
        let sleep = async {
            self.port.sleep(duration).await;
            Ok::<(), StoreError>(())
        };
        // It either takes its time or, where that is the fault, none.
        let _ = self.call("sleep", sleep, |error| error).await;
    }
}
