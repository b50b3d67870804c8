//! The catalog.

use async_trait::async_trait;
use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
use runtime::memory;
use runtime::ports::ApprovalFilter;
use runtime::ports::ApprovalRow;
use runtime::ports::Catalog;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::DueMove;
use runtime::ports::DueRow;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::Registered;
use runtime::ports::RunFilter;
use runtime::ports::RunSummary;
use runtime::ports::StoreError;

use super::Port;
use crate::observation::What;
use crate::replica::Change;
use crate::world::About;
use crate::world::Nature;

#[async_trait]
impl Catalog for Port {
    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError> {
        let id = definition.id.clone();
        let register = |_| async move {
            if let Some(replica) = &self.world.replica {
                replica.note(Change::Register(Box::new(definition.clone()), new_version));
            }
            self.world.store.register(definition, new_version).await
        };
        self.call("register", About::Text(&id), Nature::Write, register, |error| error).await
    }

    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        let read = |_| self.world.store.definition(kind, id, version);
        self.call("definition", About::Text(id), Nature::Read, read, |error| error).await
    }

    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        let read = |_| self.world.store.pinned(kind, id, hash);
        self.call("pinned", About::Text(id), Nature::Read, read, |error| error).await
    }

    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        let list = |stale| async move { self.lists(stale).await.definitions(kind, page).await };
        self.call("definitions", About::Nothing, Nature::List, list, |error| error).await
    }

    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        let read = |_| self.world.store.versions(kind, id);
        self.call("versions", About::Text(id), Nature::Read, read, |error| error).await
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        let set = |_| async move {
            if let Some(replica) = &self.world.replica {
                replica.note(Change::Disable(kind, id.to_owned(), disabled));
            }
            self.world.store.set_disabled(kind, id, disabled).await
        };
        self.call("set_disabled", About::Text(id), Nature::Write, set, |error| error).await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        let read = |_| self.world.store.run(run);
        self.call("run", About::Run(run), Nature::Read, read, |error| error).await
    }

    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        let list = |stale| async move { self.lists(stale).await.runs(filter, page).await };
        self.call("runs", About::Nothing, Nature::List, list, |error| error).await
    }

    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        let project = |_| self.write_summary(summary);
        self.call("project", About::Run(&summary.run), Nature::Write, project, |error| error).await
    }

    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        let list = |stale| async move { self.lists(stale).await.approvals(filter, page).await };
        self.call("approvals", About::Nothing, Nature::List, list, |error| error).await
    }

    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        let read = |_| self.world.store.approval(run, id);
        self.call("approval", About::Run(run), Nature::Read, read, |error| error).await
    }

    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        let list = |stale| async move { self.lists(stale).await.due(until, after, limit).await };
        self.call("due", About::Nothing, Nature::List, list, |error| error).await
    }

    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        let change = |_| self.put_moves(moves);
        self.call("move_due", About::Nothing, Nature::Write, change, |error| error).await
    }

    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        let ensure = |_| async move {
            if let Some(replica) = &self.world.replica {
                replica.note(Change::Ensure(scope.clone(), at, seq));
            }
            self.world.store.ensure_due(scope, at, seq).await
        };
        self.call("ensure_due", About::Scope(scope), Nature::Write, ensure, |error| error).await
    }

    // No run is forgotten in a history: what it came to is what is looked at.
    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.world.store.ended_before(at, limit).await
    }

    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        self.world.store.forget(run).await
    }
}

impl Port {
    /// The store that lists are read from.
    pub(super) async fn lists(&self, stale: u64) -> &memory::Store {
        match &self.world.replica {
            Some(replica) if stale > 0 => replica.as_of(stale).await,
            _ => &self.world.store,
        }
    }

    async fn write_summary(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        let written = self.world.store.project(summary).await?;
        if written {
            if let Some(replica) = &self.world.replica {
                replica.note(Change::Project(Box::new(summary.clone())));
            }
            let revision = summary.revision + 1;
            self.world.summary(&self.life, RunSummary { revision, ..summary.clone() });
        }
        Ok(written)
    }

    async fn put_moves(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        let stands = self.world.store.due(Timestamp::MAX, None, usize::MAX).await?;
        let effective: Vec<_> = moves
            .iter()
            .filter(|change| {
                let row = &change.row;
                let same = |found: &&DueRow| found.scope == row.scope;
                stands.iter().find(same).is_some_and(|found| (found.at, found.seq) == (row.at, row.seq))
            })
            .map(|change| What::DueMoved { row: change.row.clone(), to: change.to })
            .collect();
        if let Some(replica) = &self.world.replica {
            replica.note(Change::Move(moves.clone()));
        }
        self.world.store.move_due(moves).await?;
        let moves = !effective.is_empty();
        for moved in effective {
            self.world.observe(Some(&self.life), moved);
        }
        if moves {
            self.world.check_findable().await;
        }
        Ok(())
    }
}
