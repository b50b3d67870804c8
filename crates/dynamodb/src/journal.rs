//! The journal port over the table.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::stream;
use runtime::ports::AppendError;
use runtime::ports::Extra;
use runtime::ports::Journal;
use runtime::ports::Lease;
use runtime::ports::Loaded;
use runtime::ports::StoreError;
use runtime::ports::WaiterRow;

use crate::catalog::CLOSED;
use crate::error::code;
use crate::error::damaged;
use crate::item;
use crate::item::Item;
use crate::item::bytes_of;
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
use crate::table::SK;
use crate::table::TIME_TO_LIVE;

/// Items of a journal read first: most journals end before.
const FIRST: usize = 32;
/// Bodies fetched at once.
const FETCHES: usize = 8;
/// Seconds after its end when a lease nobody renewed may go away.
const STALE: i64 = 3600;

#[async_trait]
impl Journal for Store {
    /// One consistent query while the journal is short, two with a snapshot or beyond that.
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        let partition = keys::journal(scope);
        let range = Range { from: keys::SNAPSHOT.to_owned(), ..records_from(0) };
        let query = self.query(None, &partition, &range).consistent_read(true);
        let (mut items, next) = self.page(&query, FIRST, None).await?;
        let first = items.first().filter(|item| is_snapshot(item));
        if first.is_some_and(|item| item.contains_key(CLOSED)) {
            return Ok(Loaded::default());
        }
        let snapshot = match first {
            Some(item) => self.snapshot(scope, item).await?,
            None => None,
        };
        if let Some((seq, body)) = snapshot {
            self.saw(scope, seq);
            let records = self.read(scope, seq, usize::MAX).await?;
            return Ok(Loaded { snapshot: Some((seq, body)), records });
        }
        if next.is_some() {
            items.extend(self.page(&query, usize::MAX, next).await?.0);
        }
        items.retain(|item| !is_snapshot(item));
        Ok(Loaded { snapshot: None, records: self.records(scope, items).await? })
    }

    /// One consistent query per mebibyte, and one request for each body that stands elsewhere. From the start it passes the
    /// snapshot, where a journal that is about to be forgotten says so.
    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let mut range = records_from(first);
        let mut limit = limit;
        if after == 0 {
            keys::SNAPSHOT.clone_into(&mut range.from);
            limit = limit.saturating_add(1);
        }
        let query = self.query(None, &keys::journal(scope), &range).consistent_read(true);
        let (mut items, _) = self.page(&query, limit, None).await?;
        if items.first().is_some_and(|item| item.contains_key(CLOSED)) {
            return Ok(Vec::new());
        }
        items.retain(|item| !is_snapshot(item));
        if after == 0 {
            items.truncate(limit.saturating_sub(1));
        }
        self.records(scope, items).await
    }

    /// One consistent query.
    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        let range = Range { backwards: true, ..records_from(0) };
        let query = self.query(None, &keys::journal(scope), &range).consistent_read(true);
        let (items, _) = self.page(&query, 1, None).await?;
        Ok(self.records(scope, items).await?.pop())
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        self.append_record(scope, record, extras).await
    }

    /// One conditional put. The object of a large one before it stays until the run is forgotten: a reader may be about to
    /// fetch it.
    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        let body = self.payloads().write(&body, &keys::run_folder(&scope.run)).await?;
        let request = self
            .client()
            .put_item()
            .table_name(self.table())
            .set_item(Some(item::key(keys::journal(scope), keys::SNAPSHOT)))
            .item("n", number(seq))
            .item("b", body)
            // A worker that fell asleep must not put an old one over a newer one.
            .condition_expression("attribute_not_exists(sk) OR n < :n")
            .expression_attribute_values(":n", number(seq));
        match self.requests().send(self.named("PutItem"), Again::Freely, || request.clone().send()).await {
            Err(failed) if !failed.unmet => Err(failed.into()),
            _ => Ok(()),
        }
    }

    /// One read, which need not be consistent: what it finds never changes. A second one that is, where it finds nothing.
    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        let mut found = self.get(keys::journal(scope), keys::fork(seq), false).await?;
        if found.is_none() {
            found = self.get(keys::journal(scope), keys::fork(seq), true).await?;
        }
        match found {
            Some(item) => Ok(Some(self.body(&item, "b").await?.into())),
            None => Ok(None),
        }
    }

    /// One query of an index, which follows a little later.
    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        let behind = after.map(keys::scope_place);
        let from = behind.as_ref().map_or_else(|| Range::all().from, ToString::to_string);
        let range = Range { from, ..Range::all() };
        let found = self.merge(LISTED, vec![keys::scopes(run)], &range, behind.as_deref(), limit).await?;
        found.iter().map(|item| Ok(ScopePath::from_stored(text_of(item, "p")?))).collect()
    }

    /// One consistent query over all waiters of the run: whoever sends a signal must see who began to wait before it.
    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        let range = Range { from: "W#".to_owned(), to: "W$".to_owned(), backwards: false };
        let query = self.query(None, &keys::run(run), &range).consistent_read(true);
        let (items, _) = self.page(&query, usize::MAX, None).await?;
        let mut waiters = Vec::new();
        for item in items {
            let signal = text_of(&item, "sig")?;
            if signal == name {
                let path = ScopePath::from_stored(text_of(&item, "p")?);
                waiters.push(WaiterRow { scope: ScopeKey::new(run.clone(), path), signal: signal.into() });
            }
        }
        Ok(waiters)
    }

    /// One consistent read: a stale one would take a living worker for dead.
    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        let Some(item) = self.get(keys::run(&scope.run), keys::lease(&scope.path), true).await? else {
            return Ok(None);
        };
        Ok(Some(Lease {
            worker: text_of(&item, "w")?.into(),
            claim: number_of(&item, "c")?,
            until: time_of(&item, "u")?,
        }))
    }

    /// One conditional put.
    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        let request = self
            .client()
            .put_item()
            .table_name(self.table())
            .set_item(Some(item::key(keys::run(&scope.run), keys::lease(&scope.path))))
            .item("w", text(&*lease.worker))
            .item("c", number(lease.claim))
            .item("u", item::time(lease.until))
            .item(TIME_TO_LIVE, number(lease.until.as_second().saturating_add(STALE)))
            // A worker whose claim was taken over does not renew over the one who has it now.
            .condition_expression("attribute_not_exists(sk) OR c <= :claim")
            .expression_attribute_values(":claim", number(lease.claim));
        match self.requests().send(self.named("PutItem"), Again::Freely, || request.clone().send()).await {
            Err(failed) if !failed.unmet => Err(failed.into()),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// The snapshot in an item; `None` where it cannot be read: the records say it all.
    async fn snapshot(&self, scope: &ScopeKey, item: &Item) -> Result<Option<(u64, Arc<[u8]>)>, StoreError> {
        match self.body(item, "b").await {
            Ok(body) => Ok(Some((number_of(item, "n")?, body.into()))),
            Err(error) if [code::BLOB_MISSING, code::DAMAGED].contains(&error.code) => {
                tracing::warn!(%scope, %error, "a snapshot cannot be read; the scope is loaded from its records");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn records(&self, scope: &ScopeKey, items: Vec<Item>) -> Result<Vec<Encoded>, StoreError> {
        let records = stream::iter(items).map(|item| self.record(scope, item));
        let records: Vec<Encoded> = records.buffered(FETCHES).try_collect().await?;
        if let Some(last) = records.last() {
            self.saw(scope, last.seq);
        }
        Ok(records)
    }

    /// The record in an item of this scope.
    pub(crate) async fn record(&self, scope: &ScopeKey, item: Item) -> Result<Encoded, StoreError> {
        let sort = text_of(&item, SK)?;
        let seq: u64 =
            sort.parse().map_err(|_| damaged(format!("`{sort}` of {scope} is no record's number")))?;
        let body = self.body(&item, "b").await.map_err(|error| {
            let message = format!("record {seq} of {scope} cannot be read: {}", error.message);
            StoreError { message, ..error }
        })?;
        let hash = engine::hash(&body);
        if digest(&hash) != bytes_of(&item, "h")? {
            return Err(damaged(format!(
                "the bytes of record {seq} of {scope} are not those that were written"
            )));
        }
        let (at, append_id) = (time_of(&item, "t")?, text_of(&item, "a")?.into());
        Ok(Encoded { seq, at, append_id, body: body.into(), hash })
    }
}

/// The first eight bytes of a hash in hexadecimal.
pub(crate) fn digest(hash: &str) -> [u8; 8] {
    hash.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).unwrap_or(0).to_be_bytes()
}

/// Records from a number on.
fn records_from(seq: u64) -> Range {
    let from = if seq == 0 { keys::RECORDS.0.to_owned() } else { keys::record(seq) };
    Range { from, to: keys::RECORDS.1.to_owned(), backwards: false }
}

fn is_snapshot(item: &Item) -> bool {
    matches!(item.get(SK), Some(AttributeValue::S(sort)) if sort == keys::SNAPSHOT)
}
