//! From a scope's key to its head: from memory, from its journal, or from its parent's fork.

use std::sync::Arc;

use engine::Encoded;
use engine::Event;
use engine::ForkContext;
use engine::Record;
use engine::ReplayError;
use engine::Scope;
use engine::ScopeKey;
use engine::Stimulus;
use model::Workflow;

use crate::Runtime;
use crate::error::Error;
use crate::heads::Head;
use crate::nursery::Newborn;
use crate::ports::Loaded;

/// Records read at once where there are too many.
const PAGE: usize = 1000;

/// A scope to work on.
pub(crate) enum Opened {
    /// It has records.
    Head(Box<Head>),
    /// It has none yet, and begins with this.
    Unborn(Box<Head>, Stimulus),
    /// There is no such run, or nobody waits for this child.
    Nothing,
}

impl Runtime {
    /// The scope, from memory if it is there.
    pub(crate) async fn open(&self, key: &ScopeKey) -> Result<Opened, Error> {
        if let Some(head) = self.core.heads.take(key) {
            return Ok(Opened::Head(head));
        }
        if let Some(newborn) = self.core.nursery.take(key) {
            return self.unborn(key, newborn).await;
        }
        self.load(key).await
    }

    /// The scope as its journal says.
    pub(crate) async fn load(&self, key: &ScopeKey) -> Result<Opened, Error> {
        let loaded = self.core.ports.journal.load(key).await?;
        if let Some(head) = self.fold(key, loaded).await? {
            return Ok(Opened::Head(head));
        }
        match self.expected(key).await? {
            Some(newborn) => self.unborn(key, newborn).await,
            None => Ok(Opened::Nothing),
        }
    }

    /// The scope's head, to look at; from memory if that is the journal's. `None` without records.
    pub(crate) async fn look<R>(
        &self,
        key: &ScopeKey,
        look: impl Fn(&Head) -> R,
    ) -> Result<Option<R>, Error> {
        if let Some((seq, found)) = self.core.heads.peek(key, |head| (head.scope.seq(), look(head)))
            && self.core.ports.journal.head(key).await?.is_some_and(|last| last.seq == seq)
        {
            return Ok(Some(found));
        }
        let loaded = self.core.ports.journal.load(key).await?;
        let Some(head) = self.fold(key, loaded).await? else { return Ok(None) };
        let found = look(&head);
        self.core.heads.put(head);
        Ok(Some(found))
    }

    async fn unborn(&self, key: &ScopeKey, newborn: Newborn) -> Result<Opened, Error> {
        let scope = Scope::child(key.clone(), newborn.base);
        let workflow = self.workflow_of(&scope).await?;
        let start = Stimulus::StartChild { started: newborn.started, clocks: newborn.clocks };
        Ok(Opened::Unborn(Box::new(Head::new(scope, workflow)), start))
    }

    /// What a child without records begins with, if its parent waits for it.
    async fn expected(&self, key: &ScopeKey) -> Result<Option<Newborn>, Error> {
        let Some((parent, child)) = key.path.parent() else { return Ok(None) };
        let parent = ScopeKey::new(key.run.clone(), parent);
        let found = self
            .look(&parent, |head| {
                let view = head.scope.fork(&head.workflow)?;
                let index = view.index(&child)?;
                let expected = view.is_live(index) && view.path(index) == key.path;
                expected.then(|| (view.seq(), Box::new(view.start(index)), view.clocks()))
            })
            .await?;
        let Some((seq, started, clocks)) = found.flatten() else { return Ok(None) };
        let base = self.fork_context(&parent, seq).await?;
        Ok(Some(Newborn { started, clocks, base }))
    }

    /// What the fork that is record `seq` gave its children.
    pub(crate) async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Arc<ForkContext>, Error> {
        if let Some(context) = self.core.nursery.fork(scope, seq) {
            return Ok(context);
        }
        let missing = |what: String| Error::Missing { scope: scope.clone(), what };
        let body = self.core.ports.journal.fork_context(scope, seq).await?;
        let body = body.ok_or_else(|| missing(format!("the context of the fork in record {seq}")))?;
        let context: ForkContext = serde_json::from_slice(&body)
            .map_err(|error| missing(format!("a readable context of the fork in record {seq} ({error})")))?;
        let context = Arc::new(context);
        self.core.nursery.keep_fork(scope, seq, context.clone());
        Ok(context)
    }

    async fn workflow_of(&self, scope: &Scope) -> Result<Arc<Workflow>, Error> {
        let run = scope.run().ok_or_else(|| begins_with_nothing(scope.key()))?;
        self.pinned(&run.workflow, &run.hash).await
    }

    /// The head that these records make; `None` without any.
    async fn fold(&self, key: &ScopeKey, loaded: Loaded) -> Result<Option<Box<Head>>, Error> {
        if let Some((_, body)) = &loaded.snapshot
            && let Some(head) = self.fold_snapshot(key, body, &loaded.records).await
        {
            return Ok(Some(head));
        }
        // Without a snapshot, or with one that is no use: the journal says it all.
        let records = match loaded.snapshot {
            None => loaded.records,
            Some(_) => self.read_all(key).await?,
        };
        let Some(first) = records.first() else { return Ok(None) };
        let (scope, workflow) = self.blank(key, first).await?;
        let mut head = Head::loaded(scope, workflow, 0, size(&records));
        for record in &records {
            head.scope.replay(&head.workflow, record)?;
        }
        head.presume_tended();
        Ok(Some(Box::new(head)))
    }

    async fn fold_snapshot(&self, key: &ScopeKey, body: &[u8], records: &[Encoded]) -> Option<Box<Head>> {
        let scope = Scope::from_snapshot(body).filter(|scope| scope.key() == key)?;
        let workflow = self.workflow_of(&scope).await.ok()?;
        let mut head = Head::loaded(scope, workflow, body.len(), size(records));
        for record in records {
            head.scope.replay(&head.workflow, record).ok()?;
        }
        head.presume_tended();
        Some(Box::new(head))
    }

    async fn read_all(&self, key: &ScopeKey) -> Result<Vec<Encoded>, Error> {
        let mut records: Vec<Encoded> = Vec::new();
        loop {
            let after = records.last().map_or(0, |record| record.seq);
            let page = self.core.ports.journal.read(key, after, PAGE).await?;
            if page.is_empty() {
                return Ok(records);
            }
            records.extend(page);
        }
    }

    /// The scope before the record that is its first.
    async fn blank(&self, key: &ScopeKey, first: &Encoded) -> Result<(Scope, Arc<Workflow>), Error> {
        let unreadable = |source| ReplayError::Unreadable { scope: key.clone(), seq: first.seq, source };
        let record = Record::decode(&first.body).map_err(unreadable)?;
        match record.events.into_iter().next() {
            Some(Event::RunStarted(started)) => {
                Ok((Scope::root(key.run.clone()), self.pinned(&started.workflow, &started.hash).await?))
            }
            Some(Event::ScopeStarted(started)) => {
                let (parent, _) = key.path.parent().ok_or_else(|| begins_with_nothing(key))?;
                let parent = ScopeKey::new(key.run.clone(), parent);
                let scope = Scope::child(key.clone(), self.fork_context(&parent, started.fork).await?);
                let workflow = self.workflow_of(&scope).await?;
                Ok((scope, workflow))
            }
            _ => Err(begins_with_nothing(key)),
        }
    }
}

fn begins_with_nothing(scope: &ScopeKey) -> Error {
    Error::Missing { scope: scope.clone(), what: "the event that begins its journal".into() }
}

fn size(records: &[Encoded]) -> usize {
    records.iter().map(|record| record.body.len()).sum()
}
