//! When scopes are to be looked at, in shards by their runs.
//!
//! An entry is overwritten by the record that sets it, in its transaction; the sweeper, which reads an index that follows a
//! little later, moves one only under the condition that it stands as it was read.

use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use jiff::Timestamp;
use runtime::ports::DueMove;
use runtime::ports::DueRow;
use runtime::ports::StoreError;

use crate::item;
use crate::item::Item;
use crate::item::number;
use crate::item::number_of;
use crate::item::text;
use crate::item::text_of;
use crate::item::time_of;
use crate::keys;
use crate::listing::Range;
use crate::request::Again;
use crate::store::Store;
use crate::table::LISTED;

/// Entries moved at once.
const MOVES: usize = 16;

/// The item of an entry.
pub(crate) fn item(scope: &ScopeKey, at: Timestamp, seq: u64, visits: u32) -> Item {
    let mut item = key(scope);
    let shard = keys::shard(&scope.run, keys::DUE_SHARDS);
    item.extend(item::item([
        ("r", text(scope.run.as_str())),
        ("p", text(scope.path.as_str())),
        ("t", item::time(at)),
        ("n", number(seq)),
        ("k", number(visits)),
        (LISTED.1, text(keys::due_shard(shard))),
        (LISTED.2, text(keys::due_place(at, scope))),
    ]));
    item
}

fn key(scope: &ScopeKey) -> Item {
    item::key(keys::run(&scope.run), keys::due(&scope.path))
}

impl Store {
    pub(super) async fn list_due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        let behind = after.map(|after| keys::due_place(after.at, &after.scope));
        let from = behind.clone().unwrap_or_else(|| Range::all().from);
        let range = Range { from, to: keys::due_until(until), backwards: false };
        if range.from > range.to {
            return Ok(Vec::new());
        }
        let partitions = (0..keys::DUE_SHARDS).map(keys::due_shard).collect();
        let items = self.merge(LISTED, partitions, &range, behind.as_deref(), limit).await?;
        items.iter().map(entry).collect()
    }

    pub(super) async fn move_entries(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        // Each by itself: a batch knows no conditions, and in a transaction one that has changed would keep all the others.
        stream::iter(moves).map(|change| self.move_entry(change)).buffer_unordered(MOVES).try_collect().await
    }

    async fn move_entry(&self, DueMove { row, to, visits }: DueMove) -> Result<(), StoreError> {
        let condition = "n = :n AND t = :t";
        let values = item::item([(":n", number(row.seq)), (":t", item::time(row.at))]);
        let failed = if let Some(at) = to {
            let request = self
                .client()
                .put_item()
                .table_name(self.table())
                .set_item(Some(item(&row.scope, at, row.seq, visits)))
                .condition_expression(condition)
                .set_expression_attribute_values(Some(values));
            let put = self.requests().send(self.named("PutItem"), Again::Freely, || request.clone().send());
            put.await.err().map(|failed| (failed.unmet, failed.error))
        } else {
            let request = self
                .client()
                .delete_item()
                .table_name(self.table())
                .set_key(Some(key(&row.scope)))
                .condition_expression(condition)
                .set_expression_attribute_values(Some(values));
            let gone =
                self.requests().send(self.named("DeleteItem"), Again::Freely, || request.clone().send());
            gone.await.err().map(|failed| (failed.unmet, failed.error))
        };
        match failed {
            Some((false, error)) => Err(error),
            // Somebody has set it anew.
            Some((true, _)) | None => Ok(()),
        }
    }

    pub(super) async fn ensure_entry(
        &self,
        scope: &ScopeKey,
        at: Timestamp,
        seq: u64,
    ) -> Result<(), StoreError> {
        let request = self
            .client()
            .put_item()
            .table_name(self.table())
            .set_item(Some(item(scope, at, seq, 0)))
            .condition_expression("attribute_not_exists(sk) OR (t > :t AND n <= :n)")
            .set_expression_attribute_values(Some(item::item([(":t", item::time(at)), (":n", number(seq))])));
        match self.requests().send(self.named("PutItem"), Again::Freely, || request.clone().send()).await {
            Err(failed) if !failed.unmet => Err(failed.into()),
            _ => Ok(()),
        }
    }
}

fn entry(item: &Item) -> Result<DueRow, StoreError> {
    let scope = ScopeKey::new(RunId::new(text_of(item, "r")?), ScopePath::from_stored(text_of(item, "p")?));
    Ok(DueRow { at: time_of(item, "t")?, scope, seq: number_of(item, "n")?, visits: number_of(item, "k")? })
}
