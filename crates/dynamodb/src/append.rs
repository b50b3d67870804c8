//! The one write that matters: record n+1, if it does not exist yet, and what must come with it.
//!
//! A record alone is one put, under the condition that there is no such item. With extras it is one transaction, in which the
//! record is the first item and the only one with a condition (ADR 8): whoever finds the number taken is told so by the very
//! answer, which carries the item that stands there.
//!
//! A bare condition would also let a record through that leaves a gap. So the one before must be known to exist: whoever
//! appends has loaded or appended it just before, and this process remembers that; else it is looked for.

use std::fmt::Display;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::Delete;
use aws_sdk_dynamodb::types::Put;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use aws_sdk_dynamodb::types::TransactWriteItem;
use aws_sdk_dynamodb::types::Update;
use aws_sdk_dynamodb::types::builders::TransactWriteItemBuilder;
use engine::Encoded;
use engine::ScopeKey;
use runtime::ports::AppendError;
use runtime::ports::ApprovalRow;
use runtime::ports::Extra;
use runtime::ports::RunSummary;
use runtime::ports::StoreError;

use crate::catalog::approvals;
use crate::catalog::due;
use crate::catalog::runs;
use crate::error::code;
use crate::error::permanent;
use crate::item;
use crate::item::Item;
use crate::item::bytes;
use crate::item::text;
use crate::journal::digest;
use crate::keys;
use crate::request::Again;
use crate::request::Failed;
use crate::store::Store;
use crate::table::LISTED;
use crate::table::PK;

const IF_NEW: &str = "attribute_not_exists(sk)";
const OLD: ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure::AllOld;

impl Store {
    /// One put, or one transaction of a record and its extras: two write units for each KiB then. Where the record before was
    /// not seen by this process, a consistent read before it.
    pub(crate) async fn append_record(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        self.expect_before(scope, record.seq).await?;
        let item = self.record_item(scope, record).await?;
        let standing = if extras.is_empty() {
            self.put_record(item).await?
        } else {
            self.put_with(scope, record, item, extras).await?
        };
        self.saw(scope, record.seq);
        let Some(standing) = standing else { return Ok(()) };
        let standing = match standing {
            Standing::Item(item) => item,
            Standing::Untold => self.standing(scope, record.seq).await?,
        };
        Err(AppendError::Conflict(Box::new(self.record(scope, standing).await?)))
    }

    /// Fails if the record before `seq` does not exist.
    async fn expect_before(&self, scope: &ScopeKey, seq: u64) -> Result<(), StoreError> {
        let gap = || {
            let message = format!("record {seq} of {scope} has no record before it: nothing was written");
            Err(permanent(code::JOURNAL_GAP, message))
        };
        let Some(before) = seq.checked_sub(1) else { return gap() };
        if before == 0 || self.has_seen(scope, before) {
            return Ok(());
        }
        let request = self
            .client()
            .get_item()
            .table_name(self.table())
            .set_key(Some(item::key(keys::journal(scope), keys::record(before))))
            .projection_expression(PK)
            .consistent_read(true);
        let got = self.requests().send(self.named("GetItem"), Again::Freely, || request.clone().send()).await;
        if got.map_err(StoreError::from)?.item.is_none() {
            return gap();
        }
        self.saw(scope, before);
        Ok(())
    }

    async fn record_item(&self, scope: &ScopeKey, record: &Encoded) -> Result<Item, StoreError> {
        let mut item = item::key(keys::journal(scope), keys::record(record.seq));
        let body = self.payloads().write(&record.body, &keys::run_folder(&scope.run)).await?;
        item.extend(item::item([
            ("b", body),
            ("a", text(&*record.append_id)),
            ("t", item::time(record.at)),
            ("h", bytes(digest(&record.hash))),
        ]));
        if record.seq == 1 {
            item.extend(item::item([
                (LISTED.1, text(keys::scopes(&scope.run))),
                (LISTED.2, text(keys::scope_place(&scope.path))),
                ("p", text(scope.path.as_str())),
            ]));
        }
        Ok(item)
    }

    async fn put_record(&self, item: Item) -> Result<Option<Standing>, StoreError> {
        let request = self
            .client()
            .put_item()
            .table_name(self.table())
            .set_item(Some(item))
            .condition_expression(IF_NEW)
            .return_values_on_condition_check_failure(OLD);
        match self.requests().send(self.named("PutItem"), Again::IfUntouched, || request.clone().send()).await
        {
            Ok(_) => Ok(None),
            Err(Failed { unmet: true, answer, .. }) => Ok(Some(match answer.map(|answer| *answer) {
                Some(PutItemError::ConditionalCheckFailedException(taken)) => Standing::of(taken.item),
                _ => Standing::Untold,
            })),
            Err(failed) => Err(failed.into()),
        }
    }

    async fn put_with(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        item: Item,
        extras: Vec<Extra>,
    ) -> Result<Option<Standing>, StoreError> {
        let put = Put::builder()
            .table_name(self.table())
            .set_item(Some(item))
            .condition_expression(IF_NEW)
            .return_values_on_condition_check_failure(OLD)
            .build();
        let put = put.map_err(|error| unbuilt(&error))?;
        let mut request = self
            .client()
            .transact_write_items()
            .client_request_token(self.token(scope, record))
            .transact_items(TransactWriteItem::builder().put(put).build());
        for write in self.writes(scope, record.seq, extras).await? {
            request = request.transact_items(write.transacted(self.table())?);
        }
        let sent = self
            .requests()
            .send(self.named("TransactWriteItems"), Again::IfUntouched, || request.clone().send())
            .await;
        match sent {
            Ok(_) => Ok(None),
            Err(Failed { unmet: true, answer, .. }) => Ok(Some(match answer.map(|answer| *answer) {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    let first = cancelled.cancellation_reasons.unwrap_or_default().into_iter().next();
                    Standing::of(first.and_then(|reason| reason.item))
                }
                _ => Standing::Untold,
            })),
            Err(failed) => Err(failed.into()),
        }
    }

    /// The same for each time this request is sent, and for no other request: the one that a caller makes of the same record
    /// later, with other extras perhaps, is to be told that the number is taken.
    fn token(&self, scope: &ScopeKey, record: &Encoded) -> String {
        let whole = format!("{} {scope} {} {} {}", self.table(), record.seq, record.append_id, self.random());
        keys::hashed(&whole, 32)
    }

    /// What the extras write. No item is written twice in a transaction: the last one counts.
    async fn writes(&self, scope: &ScopeKey, seq: u64, extras: Vec<Extra>) -> Result<Vec<Write>, StoreError> {
        let mut writes: Vec<Write> = Vec::with_capacity(extras.len());
        for extra in extras {
            let write = self.write(scope, seq, extra).await?;
            writes.retain(|earlier| earlier.key() != write.key());
            writes.push(write);
        }
        Ok(writes)
    }

    async fn write(&self, scope: &ScopeKey, seq: u64, extra: Extra) -> Result<Write, StoreError> {
        let of_run = |sort| item::key(keys::run(&scope.run), sort);
        Ok(match extra {
            Extra::Due(at) => Write::Put(due::item(scope, at, seq, 0)),
            Extra::NoDue => Write::Delete(of_run(keys::due(&scope.path))),
            Extra::Summary(summary) => self.write_summary(&summary).await?,
            Extra::Approval(row) => self.write_approval(&row).await?,
            Extra::Waiter(waiter) => {
                let mut put = item::key(keys::run(&waiter.scope.run), keys::waiter(&waiter.scope.path));
                let path = waiter.scope.path.as_str();
                put.extend(item::item([("sig", text(&*waiter.signal)), ("p", text(path))]));
                Write::Put(put)
            }
            Extra::WaiterGone => Write::Delete(of_run(keys::waiter(&scope.path))),
            Extra::ForkContext(context) => {
                let mut put = item::key(keys::journal(scope), keys::fork(seq));
                let body = self.payloads().write(&context, &keys::run_folder(&scope.run)).await?;
                put.insert("b".to_owned(), body);
                Write::Put(put)
            }
        })
    }

    async fn write_summary(&self, summary: &RunSummary) -> Result<Write, StoreError> {
        let values = self.summary_values(summary).await?;
        Ok(Write::Update { key: runs::key(&summary.run), expression: runs::SET, values })
    }

    async fn write_approval(&self, row: &ApprovalRow) -> Result<Write, StoreError> {
        let body = self.json(row, &keys::run_folder(&row.scope.run)).await?;
        Ok(Write::Put(approvals::item(row, body)))
    }

    /// The item of a record whose number is taken, where the answer did not carry it.
    async fn standing(&self, scope: &ScopeKey, seq: u64) -> Result<Item, StoreError> {
        let found = self.get(keys::journal(scope), keys::record(seq), true).await?;
        found.ok_or_else(|| crate::error::damaged(format!("record {seq} of {scope} was there and is gone")))
    }
}

/// What stands under a number that is taken.
enum Standing {
    Item(Item),
    /// The answer did not say.
    Untold,
}

impl Standing {
    fn of(item: Option<Item>) -> Self {
        item.filter(|item| !item.is_empty()).map_or(Self::Untold, Self::Item)
    }
}

/// A write without a condition.
enum Write {
    Put(Item),
    Delete(Item),
    Update { key: Item, expression: &'static str, values: Item },
}

impl Write {
    fn key(&self) -> [Option<&AttributeValue>; 2] {
        let (Self::Put(item) | Self::Delete(item) | Self::Update { key: item, .. }) = self;
        [item.get(PK), item.get(crate::table::SK)]
    }

    fn transacted(self, table: &str) -> Result<TransactWriteItem, StoreError> {
        let write = TransactWriteItem::builder();
        let write = match self {
            Self::Put(item) => {
                Put::builder().table_name(table).set_item(Some(item)).build().map(|put| write.put(put))
            }
            Self::Delete(key) => Delete::builder()
                .table_name(table)
                .set_key(Some(key))
                .build()
                .map(|delete| write.delete(delete)),
            Self::Update { key, expression, values } => Update::builder()
                .table_name(table)
                .set_key(Some(key))
                .update_expression(expression)
                .set_expression_attribute_values(Some(values))
                .build()
                .map(|update| write.update(update)),
        };
        write.map(TransactWriteItemBuilder::build).map_err(|error| unbuilt(&error))
    }
}

/// A request that lacks a part: a mistake of this crate.
pub(crate) fn unbuilt(error: &dyn Display) -> StoreError {
    permanent(code::REFUSED, format!("a request is incomplete ({error}): please report it"))
}
