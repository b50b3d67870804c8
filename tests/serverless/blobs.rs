//! Values that no item holds: in S3, under a name made of their content.

use std::sync::Arc;

use dynamodb::Blobs as _;
use dynamodb::S3Blobs;
use dynamodb::Store;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
use runtime::ports::AppendError;
use runtime::ports::Catalog as _;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::RunStatus;
use runtime::ports::StoreErrorKind;

use crate::forget::summary;
use crate::servers;

/// A table and a bucket, as processes see them.
struct Shared {
    table: String,
    bucket: String,
}

impl Shared {
    async fn new() -> Self {
        Self { table: servers::table().await, bucket: servers::bucket().await }
    }

    fn store(&self) -> Store {
        servers::store_in(&self.table, servers::http(), Arc::new(self.blobs()))
    }

    fn blobs(&self) -> S3Blobs {
        servers::blobs(&self.bucket)
    }

    /// The names of all objects.
    async fn objects(&self) -> Vec<String> {
        let (names, more) = self.blobs().names("").await.unwrap();
        assert!(!more);
        names
    }

    async fn get(&self, name: &str) -> Vec<u8> {
        self.blobs().get(name).await.unwrap().unwrap()
    }

    async fn put(&self, name: &str, bytes: &[u8]) {
        self.blobs().put(name, bytes.to_vec()).await.unwrap();
    }

    async fn delete(&self, name: &str) {
        assert!(!self.blobs().delete(name).await.unwrap());
    }
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut noise = vec![0; bytes];
    random.fill(&mut noise);
    noise
}

fn record(seq: u64, mark: &str, body: &[u8]) -> Encoded {
    let at = Timestamp::UNIX_EPOCH;
    Encoded { seq, at, append_id: mark.into(), body: body.into(), hash: engine::hash(body) }
}

fn root(run: &str) -> ScopeKey {
    ScopeKey::root(RunId::new(run))
}

#[test]
fn two_writers_of_five_megabytes_keep_them_once() {
    servers::online(async {
        let shared = Shared::new().await;
        let (root, body) = (root("large"), noise(1, 5 << 20));
        let (one, other) = (shared.store(), shared.store());
        let records = [record(1, "one", &body), record(1, "other", &body)];
        let due = || vec![Extra::Due(Timestamp::UNIX_EPOCH)];
        let both = futures::join!(
            one.append(&root, &records[0], due()),
            other.append(&root, &records[1], Vec::new())
        );
        let (won, lost) = match both {
            (Ok(()), Err(lost)) => (&records[0], lost),
            (Err(lost), Ok(())) => (&records[1], lost),
            both => panic!("{both:?}"),
        };
        let AppendError::Conflict(standing) = lost else { panic!("{lost}") };
        assert!(*standing == *won, "the loser is told what stands there");
        let reader = shared.store();
        assert!(reader.load(&root).await.unwrap().records == [won.clone()]);
        assert!(reader.head(&root).await.unwrap().as_ref() == Some(won));
        assert_eq!(shared.objects().await.len(), 1);
    });
}

#[test]
fn what_is_missing_or_damaged_is_told_with_its_place() {
    servers::online(async {
        let shared = Shared::new().await;
        let (store, root) = (shared.store(), root("hurt"));
        store.append(&root, &record(1, "a", b"{}"), Vec::new()).await.unwrap();
        store.append(&root, &record(2, "b", &noise(2, 300_000)), Vec::new()).await.unwrap();
        let objects = shared.objects().await;
        let [object] = &objects[..] else { panic!("{objects:?}") };
        let whole = shared.get(object).await;
        // As long as the other, and whole in itself.
        store.append(&root, &record(3, "c", &noise(3, 300_000)), Vec::new()).await.unwrap();
        let other = shared.objects().await.into_iter().find(|name| name != object).unwrap();
        let other = shared.get(&other).await;
        let hurts: [Option<&[u8]>; 5] =
            [None, Some(b""), Some(b"garbage"), Some(&whole[..whole.len() / 2]), Some(&other)];
        for hurt in hurts {
            match hurt {
                Some(bytes) => shared.put(object, bytes).await,
                None => shared.delete(object).await,
            }
            let expected = if hurt.is_some() { "TABLE_DAMAGED" } else { "BLOB_MISSING" };
            let read = store.read(&root, 1, 9).await.unwrap_err();
            let loaded = store.load(&root).await.unwrap_err();
            let Err(AppendError::Store(taken)) =
                store.append(&root, &record(2, "late", b"{}"), Vec::new()).await
            else {
                panic!("the record that stands there cannot be read")
            };
            for error in [read, loaded, taken] {
                assert_eq!((error.kind, error.code), (StoreErrorKind::Permanent, expected), "{error}");
                let place = format!("record 2 of {root}");
                assert!(error.message.contains(&place), "{error}");
                assert!(error.message.contains("restore"), "{error}");
            }
        }
        // A snapshot is only a short cut.
        store.put_snapshot(&root, 2, noise(4, 300_000).into()).await.unwrap();
        shared.put(object, &whole).await;
        let snapshots = shared.objects().await;
        assert_eq!(snapshots.len(), 3);
        assert!(store.load(&root).await.unwrap().snapshot.is_some());
        for name in &snapshots {
            if name != object && shared.get(name).await != other {
                shared.delete(name).await;
            }
        }
        let loaded = store.load(&root).await.unwrap();
        assert_eq!((loaded.snapshot, loaded.records.len()), (None, 3), "the records say it all");
    });
}

#[test]
fn objects_go_with_their_run_and_no_others() {
    servers::online(async {
        let shared = Shared::new().await;
        let store = shared.store();
        for (run, seed) in [("a", 5), ("ab", 6)] {
            let over = Extra::Summary(Box::new(summary(&RunId::new(run), RunStatus::Failed)));
            let context = Extra::ForkContext(noise(seed + 10, 200_000).into());
            let (root, body) = (root(run), noise(seed, 200_000));
            store.append(&root, &record(1, "a", &body), vec![over, context]).await.unwrap();
            store.put_snapshot(&root, 1, noise(seed + 20, 200_000).into()).await.unwrap();
        }
        assert_eq!(shared.objects().await.len(), 6);
        while store.forget(&RunId::new("a")).await.unwrap() {}
        assert_eq!(shared.objects().await.len(), 3);
        let kept = root("ab");
        assert_eq!(store.read(&kept, 0, 9).await.unwrap().len(), 1);
        assert!(store.fork_context(&kept, 1).await.unwrap().is_some());
        while store.forget(&RunId::new("ab")).await.unwrap() {}
        assert_eq!(shared.objects().await, [""; 0]);
        servers::assert_empty(&shared.table).await;
    });
}
