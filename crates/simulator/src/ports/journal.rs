//! The journal.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Encoded;
use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use runtime::ports::AppendError;
use runtime::ports::Catalog as _;
use runtime::ports::Extra;
use runtime::ports::Journal;
use runtime::ports::Lease;
use runtime::ports::Loaded;
use runtime::ports::StoreError;
use runtime::ports::WaiterRow;

use super::Port;
use crate::observation::What;
use crate::replica::Change;
use crate::world::About;
use crate::world::Nature;

#[async_trait]
impl Journal for Port {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        let load = |_| self.world.store.load(scope);
        self.call("load", About::Scope(scope), Nature::Read, load, |error| error).await
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        let read = |_| self.world.store.read(scope, after, limit);
        self.call("read", About::Scope(scope), Nature::Read, read, |error| error).await
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        let head = |_| self.world.store.head(scope);
        self.call("head", About::Scope(scope), Nature::Read, head, |error| error).await
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        let append = |_| self.put(scope, record, extras);
        self.call("append", About::Scope(scope), Nature::Write, append, AppendError::Store).await
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        let put = |_| self.world.store.put_snapshot(scope, seq, body);
        self.call("put_snapshot", About::Scope(scope), Nature::Write, put, |error| error).await
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        let read = |_| self.world.store.fork_context(scope, seq);
        self.call("fork_context", About::Scope(scope), Nature::Read, read, |error| error).await
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        let list = |stale| async move { self.lists(stale).await.scopes(run, after, limit).await };
        self.call("scopes", About::Run(run), Nature::List, list, |error| error).await
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        let read = |_| self.world.store.waiters(run, name);
        self.call("waiters", About::Run(run), Nature::Read, read, |error| error).await
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        let read = |_| self.world.store.lease(scope);
        self.call("lease", About::Scope(scope), Nature::Read, read, |error| error).await
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        let renew = |_| async {
            self.world.store.renew(scope, lease).await?;
            if let Some(lease) = self.world.store.lease(scope).await? {
                let (by, scope) = (self.life.id, scope.clone());
                self.world.observe(Some(&self.life), What::Renewed { by, scope, lease });
            }
            Ok(())
        };
        self.call("renew", About::Scope(scope), Nature::Write, renew, |error| error).await
    }
}

impl Port {
    /// The append takes effect, and is seen.
    async fn put(&self, scope: &ScopeKey, record: &Encoded, extras: Vec<Extra>) -> Result<(), AppendError> {
        self.world.store.append(scope, record, extras.clone()).await?;
        if let Some(replica) = &self.world.replica {
            replica.note(Change::Append(scope.clone(), record.clone(), extras.clone()));
        }
        if record.seq == 1
            && let Ok(first) = Record::decode(&record.body)
            && let Some(Event::RunStarted(started)) = first.events.first()
            && let Some(parent) = &started.parent
        {
            self.world.child(started.run.clone(), parent.run.clone());
        }
        let summary = extras.iter().any(|extra| matches!(extra, Extra::Summary(_)));
        let (by, scope, record) = (self.life.id, scope.clone(), record.clone());
        let run = scope.run.clone();
        self.world.observe(Some(&self.life), What::Appended { by, scope, record, extras });
        if summary && let Ok(Some(summary)) = self.world.store.run(&run).await {
            self.world.summary(&self.life, summary);
        }
        self.world.check_findable().await;
        Ok(())
    }
}
