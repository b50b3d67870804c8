//! Approvals, the oldest first.

use aws_sdk_dynamodb::types::AttributeValue;
use engine::RunId;
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use runtime::ports::ApprovalFilter;
use runtime::ports::ApprovalRow;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::StoreError;

use super::FETCHES;
use crate::item::Item;
use crate::item::text;
use crate::keys;
use crate::listing::Range;
use crate::listing::cursor_place;
use crate::listing::paged;
use crate::store::Store;
use crate::table::BY_WORKFLOW;
use crate::table::LISTED;

const LIST: char = 'a';

/// The item of an approval, pending or settled, with its row as an attribute.
pub(crate) fn item(row: &ApprovalRow, body: AttributeValue) -> Item {
    let run = &row.scope.run;
    let shard = keys::shard(run, keys::LIST_SHARDS);
    let place = text(place(row));
    let mut item = crate::item::key(keys::run(run), keys::approval(&row.request.id));
    item.extend(crate::item::item([
        ("v", body),
        (BY_WORKFLOW.1, text(keys::approvals(shard))),
        (BY_WORKFLOW.2, place.clone()),
    ]));
    if row.settled_at.is_none() {
        item.extend(crate::item::item([(LISTED.1, text(keys::pending(shard))), (LISTED.2, place)]));
    }
    item
}

fn place(row: &ApprovalRow) -> String {
    keys::approval_place(row.requested_at, &row.scope.run, &row.request.id)
}

impl Store {
    pub(super) async fn one_approval(
        &self,
        run: &RunId,
        id: &str,
    ) -> Result<Option<ApprovalRow>, StoreError> {
        match self.get(keys::run(run), keys::approval(id), true).await? {
            Some(item) => self.row(&item).await.map(Some),
            None => Ok(None),
        }
    }

    /// A cursor is the place of the last one shown; those asked for meanwhile stand behind it.
    pub(super) async fn list_approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        let behind = page.cursor.as_deref().map(|cursor| cursor_place(LIST, cursor)).transpose()?;
        let wanted = page.limit.saturating_add(1);
        let items = if let Some(run) = &filter.run {
            // They stand by their ids. A run has few.
            let range = Range { from: "A#".to_owned(), to: "A$".to_owned(), backwards: false };
            let query = self.query(None, &keys::run(run), &range).consistent_read(true);
            self.page(&query, usize::MAX, None).await?.0
        } else {
            let from = behind.clone().unwrap_or_else(|| Range::all().from);
            let range = Range { from, ..Range::all() };
            let shards = 0..keys::LIST_SHARDS;
            let (index, partitions) = if filter.pending {
                (LISTED, shards.map(keys::pending).collect())
            } else {
                (BY_WORKFLOW, shards.map(keys::approvals).collect())
            };
            self.merge(index, partitions, &range, behind.as_deref(), wanted).await?
        };
        let row = async |item: Item| {
            let row: ApprovalRow = self.row(&item).await?;
            Ok::<_, StoreError>((place(&row), row))
        };
        let mut rows: Vec<_> = stream::iter(items).map(row).buffered(FETCHES).try_collect().await?;
        rows.retain(|(place, row)| {
            let shown = behind.as_ref().is_some_and(|behind| place <= behind);
            !shown && (!filter.pending || row.settled_at.is_none())
        });
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(paged(LIST, rows, page.limit))
    }
}
