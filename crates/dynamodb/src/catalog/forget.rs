//! Runs that have been over for long enough are removed, a part at a time, each part in an order that a crash may cut short.
//!
//! Journals are long, and no transaction takes one away at once. So a journal is first closed: a mark in the place of its
//! snapshot, which every load sees first, says that it counts as empty. Without it a journal that has lost its last records
//! would be a scope that lives, and one that has lost its first could not be read.
//!
//! 1. The root is closed, if the run is still over: from now on nobody finds the run to do anything for it. The summary says so
//!    too, by which the next part knows.
//! 2. What stands beside the journals goes: due entries, waiters, leases, approvals.
//! 3. The other scopes go one after the other, parents first: each is closed, emptied, and its first record, by which it is
//!    found, goes last, together with the mark.
//! 4. Large values go, then the root's records but for the first.
//! 5. The root's first record, its mark and the summary go in one transaction: only then can the run's id be used anew.
//!
//! Two may do this at once, one of them late: a mark is written only beside what it closes, so that none is left behind.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::ConditionCheck;
use aws_sdk_dynamodb::types::Delete;
use aws_sdk_dynamodb::types::DeleteRequest;
use aws_sdk_dynamodb::types::Put;
use aws_sdk_dynamodb::types::TransactWriteItem;
use aws_sdk_dynamodb::types::Update;
use aws_sdk_dynamodb::types::WriteRequest;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use runtime::ports::Journal as _;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use runtime::ports::StoreError;

use crate::append::unbuilt;
use crate::error::code;
use crate::error::unavailable;
use crate::item;
use crate::item::Item;
use crate::item::number;
use crate::item::text;
use crate::keys;
use crate::listing::Range;
use crate::request::Again;
use crate::store::Store;
use crate::store::place;
use crate::table::BY_STATUS;
use crate::table::PK;
use crate::table::SK;

/// Items removed in one part.
const PART: usize = 100;
/// Items of one request; the service's limit.
const DELETED_AT_ONCE: usize = 25;
/// Runs looked at in one query.
const LOOKED_AT: usize = 100;
/// How often a request is sent for what the one before left undone.
const TRIES: u32 = 20;

/// The attribute of a snapshot's item that closes its journal, and of the summary of a run whose root is closed.
pub(crate) const CLOSED: &str = "x";

impl Store {
    /// By when they began: who began later has not ended before.
    pub(super) async fn list_ended(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let over = RunStatus::ALL.into_iter().filter(|status| status.is_terminal());
        let of = |status| (0..keys::LIST_SHARDS).map(move |shard| keys::runs_in(status, shard));
        let partitions: Vec<_> = over.flat_map(of).collect();
        let (mut ended, mut behind) = (Vec::new(), None::<String>);
        while ended.len() < limit {
            let from = behind.clone().unwrap_or_else(|| Range::all().from);
            let range = Range { from, to: keys::due_until(at), backwards: false };
            let found =
                self.merge(BY_STATUS, partitions.clone(), &range, behind.as_deref(), LOOKED_AT).await?;
            for item in &found {
                let summary: RunSummary = self.row(item).await?;
                if summary.ended_at.is_some_and(|ended| ended < at) {
                    ended.push(summary.run);
                }
            }
            let Some(last) = found.last().filter(|_| found.len() == LOOKED_AT) else { break };
            behind = Some(place(last, BY_STATUS.2).to_owned());
        }
        ended.truncate(limit);
        Ok(ended)
    }

    pub(super) async fn forget_part(&self, run: &RunId) -> Result<bool, StoreError> {
        let Some(summary) = self.get(keys::run(run), keys::META, true).await? else { return Ok(false) };
        let root = ScopeKey::root(run.clone());
        if !summary.contains_key(CLOSED) {
            let status = place(&summary, "s");
            let is = |over: &RunStatus| over.is_terminal() && over.to_string() == status;
            if !RunStatus::ALL.iter().any(is) {
                return Ok(false);
            }
            // It may have been redriven meanwhile.
            let as_read = Update::builder()
                .table_name(self.table())
                .set_key(Some(super::runs::key(run)))
                .update_expression(format!("SET {CLOSED} = :one"))
                .condition_expression("s = :s")
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(":s", text(status))
                .build();
            let as_read = as_read.map_err(|error| unbuilt(&error))?;
            if !self.close(&root, TransactWriteItem::builder().update(as_read).build()).await? {
                return Ok(false);
            }
        }
        let mut beside = self.keys_of(keys::run(run), PART + 1).await?;
        beside.retain(|key| place(key, SK) != keys::META);
        if !beside.is_empty() {
            return self.delete(beside).await.map(|()| true);
        }
        let scopes = self.scopes(run, None, 2).await?;
        if let Some(path) = scopes.into_iter().find(|path| *path != ScopePath::root()) {
            let scope = ScopeKey::new(run.clone(), path);
            let [first, mark] = ends(&scope);
            let there = ConditionCheck::builder()
                .table_name(self.table())
                .set_key(Some(first.clone()))
                .condition_expression(format!("attribute_exists({SK})"))
                .build();
            let there = there.map_err(|error| unbuilt(&error))?;
            if !self.close(&scope, TransactWriteItem::builder().condition_check(there).build()).await? {
                // The list of scopes is behind: it has gone.
                return Ok(true);
            }
            let rest = self.body_of(&scope).await?;
            if rest.is_empty() {
                self.delete_at_once([first, mark].map(|key| (key, None))).await?;
            } else {
                self.delete(rest).await?;
            }
            return Ok(true);
        }
        if self.payloads().0.delete(&keys::run_folder(run)).await? {
            return Ok(true);
        }
        let rest = self.body_of(&root).await?;
        if !rest.is_empty() {
            return self.delete(rest).await.map(|()| true);
        }
        let [first, mark] = ends(&root);
        // Of another run by now, if its id was used anew.
        let ours = Some(format!("attribute_exists({CLOSED})"));
        self.delete_at_once([(first, None), (mark, None), (super::runs::key(run), ours)]).await?;
        Ok(false)
    }

    /// From now on the journal counts as empty to whoever loads it: unless the condition of `with` is not met, then false.
    async fn close(&self, scope: &ScopeKey, with: TransactWriteItem) -> Result<bool, StoreError> {
        let mark = Put::builder()
            .table_name(self.table())
            .set_item(Some(item::key(keys::journal(scope), keys::SNAPSHOT)))
            .item(CLOSED, number(1))
            // No snapshot takes its place.
            .item("n", number(u64::MAX))
            .build();
        let mark = TransactWriteItem::builder().put(mark.map_err(|error| unbuilt(&error))?).build();
        self.transact(vec![with, mark]).await
    }

    /// One transaction; false if a condition is not met. Done twice, it does the same.
    async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<bool, StoreError> {
        let request = self.client().transact_write_items().set_transact_items(Some(items));
        let sent = self
            .requests()
            .send(self.named("TransactWriteItems"), Again::Freely, || request.clone().send())
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(failed) if failed.unmet => Ok(false),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Some of what a journal has between its mark and its end, but for its first record.
    async fn body_of(&self, scope: &ScopeKey) -> Result<Vec<Item>, StoreError> {
        let mut found = self.keys_of(keys::journal(scope), PART + 2).await?;
        found.retain(|key| ends(scope).iter().all(|end| place(end, SK) != place(key, SK)));
        Ok(found)
    }

    /// The keys of a partition, the last first.
    async fn keys_of(&self, partition: String, limit: usize) -> Result<Vec<Item>, StoreError> {
        let range = Range { backwards: true, ..Range::all() };
        let query = self
            .query(None, &partition, &range)
            .consistent_read(true)
            .projection_expression(format!("{PK}, {SK}"));
        Ok(self.page(&query, limit, None).await?.0)
    }

    async fn delete(&self, keys: Vec<Item>) -> Result<(), StoreError> {
        for keys in keys.chunks(DELETED_AT_ONCE) {
            let delete = |key: &Item| DeleteRequest::builder().set_key(Some(key.clone())).build();
            let mut rest = Vec::with_capacity(keys.len());
            for key in keys {
                let delete = delete(key).map_err(|error| unbuilt(&error))?;
                rest.push(WriteRequest::builder().delete_request(delete).build());
            }
            let mut tries = 0;
            while !rest.is_empty() {
                tries += 1;
                if tries > TRIES {
                    return Err(unavailable(
                        code::THROTTLED,
                        "the table leaves deletions undone: it goes on by itself",
                    ));
                }
                let wanted = HashMap::from([(self.table().to_owned(), rest)]);
                let request = self.client().batch_write_item().set_request_items(Some(wanted));
                let answer = self
                    .requests()
                    .send(self.named("BatchWriteItem"), Again::Freely, || request.clone().send());
                rest = answer
                    .await?
                    .unprocessed_items
                    .and_then(|mut rest| rest.remove(self.table()))
                    .unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Deletes all of these, if all conditions are met; else they are gone already.
    async fn delete_at_once(
        &self,
        items: impl IntoIterator<Item = (Item, Option<String>)>,
    ) -> Result<(), StoreError> {
        let mut deletes = Vec::new();
        for (key, condition) in items {
            let delete = Delete::builder()
                .table_name(self.table())
                .set_key(Some(key))
                .set_condition_expression(condition)
                .build();
            let delete = delete.map_err(|error| unbuilt(&error))?;
            deletes.push(TransactWriteItem::builder().delete(delete).build());
        }
        self.transact(deletes).await.map(drop)
    }
}

/// What goes last of a journal: its first record, by which it is found, and its mark.
fn ends(scope: &ScopeKey) -> [Item; 2] {
    [keys::record(1), keys::SNAPSHOT.to_owned()].map(|sort| item::key(keys::journal(scope), sort))
}
