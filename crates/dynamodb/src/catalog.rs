//! The catalog port over the table.

pub(crate) mod approvals;
mod definitions;
pub(crate) mod due;
mod forget;
pub(crate) mod runs;

pub(crate) use forget::CLOSED;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
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
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::code;
use crate::error::damaged;
use crate::error::permanent;
use crate::item::Item;
use crate::store::Store;

/// Rows whose bodies are fetched at once.
const FETCHES: usize = 8;

#[async_trait]
impl Catalog for Store {
    /// One consistent query of all its versions, and one transaction of four items, unless it is there already.
    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError> {
        self.register_definition(&definition, new_version).await
    }

    /// One consistent read.
    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        match version {
            None => self.active_definition(kind, id).await,
            Some(version) => self.definition_version(kind, id, version).await,
        }
    }

    /// Two consistent reads in one request, and a third where it is not the active one.
    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        self.pinned_definition(kind, id, hash).await
    }

    /// One consistent query of names, and one consistent read of each.
    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        self.list_definitions(kind, page).await
    }

    /// One consistent query.
    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        self.definition_versions(kind, id).await
    }

    /// One transaction of two items.
    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        self.disable_definition(kind, id, disabled).await
    }

    /// One consistent read.
    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        self.run_summary(run).await
    }

    /// Four queries of an index at once; four for each status asked for, and with a workflow alone for each there is.
    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        self.list_runs(filter, page).await
    }

    /// One conditional update.
    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        self.project_summary(summary).await
    }

    /// Four queries of an index at once; of one run, a consistent query of all its approvals.
    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        self.list_approvals(filter, page).await
    }

    /// One consistent read.
    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        self.one_approval(run, id).await
    }

    /// Sixteen queries of an index at once, more where many entries are due.
    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        self.list_due(until, after, limit).await
    }

    /// One conditional write each, sixteen at once.
    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        self.move_entries(moves).await
    }

    /// One conditional put.
    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        self.ensure_entry(scope, at, seq).await
    }

    /// Sixteen queries of an index at once, again where many of the runs that began before then had not ended.
    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.list_ended(at, limit).await
    }

    /// Up to a hundred deletions, a read and a write each time.
    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        self.forget_part(run).await
    }
}

impl Store {
    /// A row as an attribute.
    pub(crate) async fn json(
        &self,
        row: &impl Serialize,
        folder: &str,
    ) -> Result<AttributeValue, StoreError> {
        let body = serde_json::to_vec(row).map_err(|error| {
            permanent(code::REFUSED, format!("a row cannot be written as JSON ({error})"))
        })?;
        self.payloads().write(&body, folder).await
    }

    /// The row in an item.
    async fn row<T: DeserializeOwned>(&self, item: &Item) -> Result<T, StoreError> {
        let body = self.body(item, "v").await?;
        serde_json::from_slice(&body)
            .map_err(|error| damaged(format!("a row of the table cannot be read ({error})")))
    }
}
