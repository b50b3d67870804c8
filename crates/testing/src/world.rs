//! What a test runs in: the ports of a home, and an eye on every record.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use runtime::memory;
use runtime::memory::Store;
use runtime::memory::VirtualClock;
use runtime::ports::AppendError;
use runtime::ports::Catalog;
use runtime::ports::Doorbell;
use runtime::ports::Extra;
use runtime::ports::Journal;
use runtime::ports::Lease;
use runtime::ports::Loaded;
use runtime::ports::StoreError;
use runtime::ports::WaiterRow;
use tokio::sync::mpsc;

use crate::rehearsal::Noted;
use crate::rehearsal::Notes;

/// The ports of the home that tests run in: each test gets its own.
#[derive(Clone)]
pub struct Home {
    /// The truth.
    pub journal: Arc<dyn Journal>,
    /// Definitions and lists.
    pub catalog: Arc<dyn Catalog>,
    /// Who wakes whom.
    pub doorbell: Arc<dyn Doorbell>,
    /// Its processes share the store with others, with leases and due entries, and its doorbells outlive them.
    pub shared: bool,
}

/// Makes the home of one test. Its clock is the one given, which jumps; what its ports wait for outside of this process
/// would make it jump too early, so those that do stand behind [`AtOnce`](crate::AtOnce).
pub type Homes = dyn Fn(Arc<VirtualClock>) -> Result<Home, String> + Sync;

/// A home in memory.
pub fn in_memory(clock: Arc<VirtualClock>) -> Result<Home, String> {
    let store = Arc::new(Store::default());
    let doorbell = Arc::new(memory::Doorbell::new(clock));
    Ok(Home { journal: store.clone(), catalog: store, doorbell, shared: false })
}

/// A record that was appended.
pub(crate) struct Appended {
    pub(crate) scope: ScopeKey,
    pub(crate) record: Encoded,
}

/// A journal that tells of every record it has taken.
pub(crate) struct Watched {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) appended: mpsc::UnboundedSender<Appended>,
    pub(crate) notes: Option<Notes>,
}

#[async_trait]
impl Journal for Watched {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        self.journal.load(scope).await
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        self.journal.read(scope, after, limit).await
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        self.journal.head(scope).await
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        self.journal.append(scope, record, extras).await?;
        if let Some(notes) = &self.notes {
            notes.lock().push(Noted::Appended(scope.clone(), record.clone()));
        }
        // Nobody listens any more once the test has seen enough.
        let _ = self.appended.send(Appended { scope: scope.clone(), record: record.clone() });
        Ok(())
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        self.journal.put_snapshot(scope, seq, body).await
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.journal.fork_context(scope, seq).await
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        self.journal.scopes(run, after, limit).await
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        self.journal.waiters(run, name).await
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        self.journal.lease(scope).await
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        self.journal.renew(scope, lease).await
    }
}
