//! A catalog whose sweeps cost nothing while nothing happens: a run that waits for a year is swept half a million times, with
//! sixteen queries each.

use std::sync::Arc;

use async_trait::async_trait;
use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
use parking_lot::Mutex;
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

use crate::wire::Wire;

/// Asks for what is due only if something was written since it last asked, or an entry has become due.
pub(crate) struct Quiet<C> {
    catalog: C,
    wire: Wire,
    known: Mutex<Option<Known>>,
}

/// What was found when nothing was due.
struct Known {
    /// How much had been written.
    written: u64,
    /// When the first entry becomes due.
    first: Option<Timestamp>,
}

impl<C> Quiet<C> {
    pub(crate) fn new(catalog: C, wire: Wire) -> Arc<Self> {
        Arc::new(Self { catalog, wire, known: Mutex::default() })
    }

    fn knows_that_nothing_is_due(&self, until: Timestamp) -> bool {
        let known = self.known.lock();
        known.as_ref().is_some_and(|known| {
            known.written == self.wire.written() && known.first.is_none_or(|first| first > until)
        })
    }
}

#[async_trait]
impl<C: Catalog> Catalog for Quiet<C> {
    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        if self.knows_that_nothing_is_due(until) {
            return Ok(Vec::new());
        }
        let written = self.wire.written();
        let due = self.catalog.due(until, after, limit).await?;
        if due.is_empty() {
            let first = self.catalog.due(Timestamp::MAX, after, 1).await?.first().map(|row| row.at);
            *self.known.lock() = Some(Known { written, first });
        }
        Ok(due)
    }

    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError> {
        self.catalog.register(definition, new_version).await
    }

    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        self.catalog.definition(kind, id, version).await
    }

    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        self.catalog.pinned(kind, id, hash).await
    }

    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        self.catalog.definitions(kind, page).await
    }

    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        self.catalog.versions(kind, id).await
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        self.catalog.set_disabled(kind, id, disabled).await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        self.catalog.run(run).await
    }

    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        self.catalog.runs(filter, page).await
    }

    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        self.catalog.project(summary).await
    }

    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        self.catalog.approvals(filter, page).await
    }

    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        self.catalog.approval(run, id).await
    }

    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        self.catalog.move_due(moves).await
    }

    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        self.catalog.ensure_due(scope, at, seq).await
    }

    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.catalog.ended_before(at, limit).await
    }

    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        self.catalog.forget(run).await
    }
}
