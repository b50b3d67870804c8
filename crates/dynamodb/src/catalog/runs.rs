//! Run summaries: written with a run's records, listed newest first.
//!
//! A list of runs is kept in shards by the run's name, so that no partition takes every start; a list is merged of them.

use engine::RunId;
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::RunFilter;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use runtime::ports::StoreError;

use super::FETCHES;
use crate::item;
use crate::item::Item;
use crate::item::number;
use crate::item::number_of;
use crate::item::text;
use crate::keys;
use crate::listing::Range;
use crate::listing::cursor_place;
use crate::listing::paged;
use crate::request::Again;
use crate::store::Store;
use crate::store::place;
use crate::table::BY_STATUS;
use crate::table::BY_WORKFLOW;
use crate::table::LISTED;

const LIST: char = 'r';

/// The update that writes a summary, with [`Store::summary_values`].
pub(crate) const SET: &str =
    "SET v = :v, s = :s, x1 = :x1, y1 = :y, x2 = :x2, y2 = :y, x3 = :x3, y3 = :y ADD rev :one";

pub(crate) fn key(run: &RunId) -> Item {
    item::key(keys::run(run), keys::META)
}

impl Store {
    pub(crate) async fn summary_values(&self, summary: &RunSummary) -> Result<Item, StoreError> {
        // The revision is counted by the table, not written.
        let row = RunSummary { revision: 0, ..summary.clone() };
        let shard = keys::shard(&summary.run, keys::LIST_SHARDS);
        Ok(item::item([
            (":v", self.json(&row, &keys::run_folder(&summary.run)).await?),
            (":s", text(summary.status.to_string())),
            (":x1", text(keys::runs(shard))),
            (":x2", text(keys::runs_of(&summary.workflow, summary.status, shard))),
            (":x3", text(keys::runs_in(summary.status, shard))),
            (":y", text(keys::run_place(summary.started_at, &summary.run))),
            (":one", number(1)),
        ]))
    }

    pub(super) async fn run_summary(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        match self.get(keys::run(run), keys::META, true).await? {
            Some(item) => self.summary(&item).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn project_summary(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        let mut values = self.summary_values(summary).await?;
        values.insert(":rev".to_owned(), number(summary.revision));
        let mut over = Vec::new();
        for status in RunStatus::ALL.into_iter().filter(|status| status.is_terminal()) {
            let name = format!(":over{}", over.len());
            values.insert(name.clone(), text(status.to_string()));
            over.push(name);
        }
        let request = self
            .client()
            .update_item()
            .table_name(self.table())
            .set_key(Some(key(&summary.run)))
            .update_expression(SET)
            .condition_expression(format!("rev = :rev AND NOT s IN ({})", over.join(", ")))
            .set_expression_attribute_values(Some(values));
        match self
            .requests()
            .send(self.named("UpdateItem"), Again::IfUntouched, || request.clone().send())
            .await
        {
            Ok(_) => Ok(true),
            Err(failed) if failed.unmet => Ok(false),
            Err(failed) => Err(failed.into()),
        }
    }

    /// A cursor is the place of the last one shown: runs that begin meanwhile stand before it.
    pub(super) async fn list_runs(
        &self,
        filter: &RunFilter,
        page: &PageRequest,
    ) -> Result<Page<RunSummary>, StoreError> {
        let behind = page.cursor.as_deref().map(|cursor| cursor_place(LIST, cursor)).transpose()?;
        let to = behind.clone().unwrap_or_else(|| Range::all().to);
        let range = Range { to, backwards: true, ..Range::all() };
        let statuses = if filter.statuses.is_empty() { &RunStatus::ALL[..] } else { &filter.statuses[..] };
        let (index, mut partitions) = match &filter.workflow {
            Some(workflow) => {
                let of = |shard| statuses.iter().map(move |status| keys::runs_of(workflow, *status, shard));
                (BY_WORKFLOW, (0..keys::LIST_SHARDS).flat_map(of).collect())
            }
            None if filter.statuses.is_empty() => {
                (LISTED, (0..keys::LIST_SHARDS).map(keys::runs).collect::<Vec<_>>())
            }
            None => {
                let of = |shard| statuses.iter().map(move |status| keys::runs_in(*status, shard));
                (BY_STATUS, (0..keys::LIST_SHARDS).flat_map(of).collect())
            }
        };
        partitions.sort_unstable();
        partitions.dedup();
        let wanted = page.limit.saturating_add(1);
        let items = self.merge(index, partitions, &range, behind.as_deref(), wanted).await?;
        let row = async |item: Item| {
            Ok::<_, StoreError>((place(&item, index.2).to_owned(), self.summary(&item).await?))
        };
        let rows = stream::iter(items).map(row).buffered(FETCHES).try_collect().await?;
        Ok(paged(LIST, rows, page.limit))
    }

    async fn summary(&self, item: &Item) -> Result<RunSummary, StoreError> {
        let row: RunSummary = self.row(item).await?;
        Ok(RunSummary { revision: number_of(item, "rev")?, ..row })
    }
}
