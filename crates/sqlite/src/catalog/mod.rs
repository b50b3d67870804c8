//! The catalog port over the file.

mod approvals;
mod definitions;
mod due;
mod runs;

use async_trait::async_trait;
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

use crate::Store;

pub(crate) use runs::more;

#[async_trait]
impl Catalog for Store {
    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError> {
        self.inner()
            .writer
            .write(move |session| definitions::register(session, &definition, new_version))
            .await
    }

    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        let (id, version) = (id.to_owned(), version.map(ToOwned::to_owned));
        self.inner()
            .readers
            .read(move |connection| definitions::get(connection, kind, &id, version.as_deref()))
            .await
    }

    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        let (id, hash) = (id.to_owned(), hash.to_owned());
        self.inner().readers.read(move |connection| definitions::pinned(connection, kind, &id, &hash)).await
    }

    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        let page = page.clone();
        self.inner().readers.read(move |connection| definitions::list(connection, kind, &page)).await
    }

    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        let id = id.to_owned();
        self.inner().readers.read(move |connection| definitions::versions(connection, kind, &id)).await
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.inner()
            .writer
            .write(move |session| definitions::set_disabled(session, kind, &id, disabled))
            .await
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        let run = run.clone();
        self.inner().readers.read(move |connection| runs::get(connection, &run)).await
    }

    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.inner().readers.read(move |connection| runs::list(connection, &filter, &page)).await
    }

    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        let summary = summary.clone();
        self.inner().writer.write(move |session| runs::project(session, &summary)).await
    }

    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.inner().readers.read(move |connection| approvals::list(connection, &filter, &page)).await
    }

    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        let (run, id) = (run.clone(), id.to_owned());
        self.inner().readers.read(move |connection| approvals::get(connection, &run, &id)).await
    }

    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        let after = after.cloned();
        self.inner().readers.read(move |connection| due::list(connection, until, after.as_ref(), limit)).await
    }

    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        self.inner().writer.write(move |session| due::shift(session, &moves)).await
    }

    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        let scope = scope.clone();
        self.inner().writer.write(move |session| due::ensure(session, &scope, at, seq)).await
    }

    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.inner().readers.read(move |connection| runs::ended_before(connection, at, limit)).await
    }

    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        let run = run.clone();
        self.inner().writer.write(move |session| session.forget(&run)).await.map(|()| false)
    }
}

fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn from_json<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
