//! The store as others hold it.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use engine::ScopeKey;
use parking_lot::Mutex;
use runtime::ports::StoreError;
use rustc_hash::FxHashMap;

use crate::item::Item;
use crate::item::key;
use crate::payload::Blobs;
use crate::payload::Payloads;
use crate::request::Again;
use crate::request::Requests;

/// Scopes whose last seen record is remembered. Forgotten, each costs its next append a read.
const REMEMBERED: usize = 20_000;

/// How a store works.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long one attempt of a request may take. A connection that died unseen is noticed by it.
    pub attempt: Duration,
    /// For how long a request that failed is tried again. With its last attempt it takes `budget` and `attempt` at most.
    pub budget: Duration,
    /// What the pauses in between are drawn from. Unlike that of other processes, so that not all come back at once.
    pub seed: u64,
}

impl Options {
    /// The usual limits: two seconds an attempt, five in all.
    pub fn new(seed: u64) -> Self {
        Self { attempt: Duration::from_secs(2), budget: Duration::from_secs(5), seed }
    }
}

/// A journal and a catalog in one table. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) table: String,
    pub(crate) payloads: Payloads,
    requests: Requests,
    /// The highest number that each scope is known to have. Records do not go away while their run lives.
    seen: Mutex<FxHashMap<ScopeKey, u64>>,
}

impl Store {
    /// The store in `table` (made as [`table`](crate::table) says), with large bodies in `blobs`. Of the client, its
    /// credentials, endpoint and HTTP client are used; how long a request may take and when it is tried again is set here.
    pub fn new(client: &Client, table: impl Into<String>, blobs: Arc<dyn Blobs>, options: &Options) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.attempt.min(Duration::from_secs(1)))
            .operation_attempt_timeout(options.attempt)
            .build();
        let config = client
            .config()
            .to_builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        let jitter = Mutex::new(fastrand::Rng::with_seed(options.seed));
        let inner = Inner {
            client: Client::from_conf(config),
            table: table.into(),
            payloads: Payloads(blobs),
            requests: Requests { budget: options.budget, jitter },
            seen: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn table(&self) -> &str {
        &self.inner.table
    }

    pub(crate) fn payloads(&self) -> &Payloads {
        &self.inner.payloads
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.inner.requests
    }

    /// A request's name in errors.
    pub(crate) fn named(&self, operation: &'static str) -> impl Fn() -> String + '_ {
        move || format!("{operation} of the table {}", self.table())
    }

    /// 32 random digits, for names that must not be taken.
    pub(crate) fn random(&self) -> String {
        format!("{:032x}", self.inner.requests.jitter.lock().u128(..))
    }

    /// One item by its key.
    pub(crate) async fn get(
        &self,
        partition: String,
        sort: impl Into<String>,
        consistent: bool,
    ) -> Result<Option<Item>, StoreError> {
        let request = self
            .client()
            .get_item()
            .table_name(self.table())
            .set_key(Some(key(partition, sort)))
            .consistent_read(consistent);
        let got =
            self.requests().send(self.named("GetItem"), Again::Freely, || request.clone().send()).await?;
        Ok(got.item)
    }

    /// The body in an attribute of an item.
    pub(crate) async fn body(&self, item: &Item, name: &str) -> Result<Vec<u8>, StoreError> {
        self.payloads().read(crate::item::value(item, name)?).await
    }

    pub(crate) fn saw(&self, scope: &ScopeKey, seq: u64) {
        let mut seen = self.inner.seen.lock();
        if let Some(highest) = seen.get_mut(scope) {
            *highest = seq.max(*highest);
            return;
        }
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(scope.clone(), seq);
    }

    pub(crate) fn has_seen(&self, scope: &ScopeKey, seq: u64) -> bool {
        self.inner.seen.lock().get(scope).is_some_and(|highest| *highest >= seq)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("table", &self.inner.table).finish_non_exhaustive()
    }
}

/// A string attribute as a list's place.
pub(crate) fn place<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).map_or("", String::as_str)
}
