//! A disk that is full or fails.

use std::sync::Arc;

use runtime::ports::AppendError;
use runtime::ports::Journal as _;
use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;

use super::*;

fn failed(result: Result<(), AppendError>) -> StoreError {
    match result {
        Err(AppendError::Store(error)) => error,
        other => panic!("a failure was expected, not {other:?}"),
    }
}

async fn limit(store: &Store, pages: i64) {
    let limit = move |session: &mut crate::session::Session<'_>| {
        Ok(session.connection.pragma_update(None, "max_page_count", pages)?)
    };
    store.inner().writer.write(limit).await.unwrap();
}

/// What does not fit says so and changes nothing; what fits beside it is written; when there is space again it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_does_not_fit_and_loses_nothing() {
    let (folder, store) = store();
    store.append(&scope("before"), &record(1, "x"), Vec::new()).await.unwrap();
    limit(&store, 120).await;
    let large: Arc<[u8]> = vec![b'x'; 3_000_000].into();
    let writes: Vec<_> = (0..8)
        .map(|number| {
            let (store, large) = (store.clone(), Arc::clone(&large));
            tokio::spawn(async move {
                let large = record(1, &large);
                let small = record(1, "small");
                let (mine, other) = (scope(&format!("large-{number}")), scope(&format!("small-{number}")));
                let (large, small) = tokio::join!(
                    store.append(&mine, &large, Vec::new()),
                    store.append(&other, &small, Vec::new())
                );
                small.unwrap();
                failed(large)
            })
        })
        .collect();
    for write in writes {
        let error = write.await.unwrap();
        assert_eq!((error.code, error.kind), ("STORE_FULL", StoreErrorKind::Unavailable), "{error}");
    }
    assert_eq!(store.head(&scope("large-0")).await.unwrap(), None);

    limit(&store, 1_000_000).await;
    store.append(&scope("large-0"), &record(1, &large), Vec::new()).await.unwrap();
    store.append(&scope("before"), &record(2, "y"), Vec::new()).await.unwrap();
    drop(store);
    let store = open(&folder);
    assert_eq!(store.load(&scope("before")).await.unwrap().records, [record(1, "x"), record(2, "y")]);
    assert_eq!(store.head(&scope("small-7")).await.unwrap(), Some(record(1, "small")));
}

#[tokio::test]
async fn a_file_that_may_no_longer_be_written_fails_for_good_and_can_still_be_read() {
    let (_folder, store) = store();
    store.append(&scope("r"), &record(1, "x"), Vec::new()).await.unwrap();
    let forbid = |session: &mut crate::session::Session<'_>| {
        Ok(session.connection.execute_batch("COMMIT; PRAGMA query_only = true; BEGIN")?)
    };
    store.inner().writer.write(forbid).await.unwrap();
    let error = failed(store.append(&scope("r"), &record(2, "y"), Vec::new()).await);
    assert_eq!((error.code, error.kind), ("STORE_READ_ONLY", StoreErrorKind::Permanent), "{error}");
    assert_eq!(store.load(&scope("r")).await.unwrap().records, [record(1, "x")]);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (_folder, store) = store();
    store.close();
    assert_eq!(failed(store.append(&scope("r"), &record(1, "x"), Vec::new()).await).code, "STORE_CLOSED");
    assert_eq!(store.load(&scope("r")).await.unwrap_err().code, "STORE_CLOSED");
    store.close();
}
