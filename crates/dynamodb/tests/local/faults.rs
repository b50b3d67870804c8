//! Answers that do not arrive, a table that is busy, bodies that no item holds.

use std::sync::Arc;

use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
use runtime::ports::AppendError;
use runtime::ports::Catalog as _;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::StoreErrorKind;

use crate::server::Fixture;
use crate::wire::Sent;
use crate::wire::Trouble;

fn record(seq: u64, mark: &str, body: &[u8]) -> Encoded {
    let at = "2026-01-31T09:00:00Z".parse().unwrap();
    Encoded { seq, at, append_id: mark.into(), body: body.into(), hash: engine::hash(body) }
}

fn root(run: &str) -> ScopeKey {
    ScopeKey::root(RunId::new(run))
}

fn operations(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.operation.as_str()).collect()
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_known_again() {
    let Fixture { store, wire, .. } = Fixture::new("lost").await;
    for (run, operation, extras) in [
        ("put", "PutItem", vec![]),
        ("transaction", "TransactWriteItems", vec![Extra::Due(Timestamp::UNIX_EPOCH)]),
    ] {
        for (seq, trouble) in [(1, Trouble::AnswerLost), (2, Trouble::Failed)] {
            let (root, mine) = (root(run), record(seq, "mine", b"{}"));
            wire.next(operation, trouble);
            let Err(AppendError::Store(error)) = store.append(&root, &mine, extras.clone()).await else {
                panic!("nobody knows whether it was done")
            };
            assert_eq!(error.kind, StoreErrorKind::Unknown, "{error}");
            // Whether it was done or not: the next try ends with this very record at its place.
            match store.append(&root, &mine, extras.clone()).await {
                Ok(()) => assert_eq!(trouble, Trouble::Failed),
                Err(AppendError::Conflict(standing)) => {
                    assert_eq!((*standing, trouble), (mine.clone(), Trouble::AnswerLost));
                }
                Err(error) => panic!("{error}"),
            }
            assert_eq!(store.head(&root).await.unwrap(), Some(mine));
        }
    }
    assert_eq!(store.due(Timestamp::MAX, None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_not_done_is_tried_again_and_a_read_always() {
    let Fixture { store, wire, .. } = Fixture::new("busy").await;
    let root = root("busy");
    for _ in 0..3 {
        wire.next("PutItem", Trouble::Throttled);
        wire.next("TransactWriteItems", Trouble::InTheWay);
    }
    store.append(&root, &record(1, "a", b"{}"), vec![]).await.unwrap();
    store.append(&root, &record(2, "b", b"{}"), vec![Extra::Due(Timestamp::UNIX_EPOCH)]).await.unwrap();
    let sent = wire.forget();
    assert_eq!(operations(&sent), [["PutItem"; 4], ["TransactWriteItems"; 4]].concat());
    let tokens: Vec<_> = sent[4..].iter().map(|sent| &sent.body["ClientRequestToken"]).collect();
    assert!(tokens[0].is_string() && tokens.iter().all(|token| token == &tokens[0]), "{tokens:?}");

    for trouble in [Trouble::AnswerLost, Trouble::Failed, Trouble::Throttled] {
        wire.next("Query", trouble);
        wire.next("GetItem", trouble);
    }
    assert_eq!(store.load(&root).await.unwrap().records.len(), 2);
    assert_eq!(store.lease(&root).await.unwrap(), None);
    assert_eq!(operations(&wire.forget()), [["Query"; 4], ["GetItem"; 4]].concat());
}

#[tokio::test]
async fn a_table_that_stays_busy_says_so_in_time() {
    let Fixture { store, wire, .. } = Fixture::new("throttled").await;
    for _ in 0..100 {
        wire.next("PutItem", Trouble::Throttled);
    }
    let begun = tokio::time::Instant::now();
    let Err(AppendError::Store(error)) = store.append(&root("r"), &record(1, "a", b"{}"), vec![]).await
    else {
        panic!("it was not done")
    };
    assert_eq!((error.kind, error.code), (StoreErrorKind::Unavailable, "TABLE_THROTTLED"), "{error}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the budget is five seconds");
}

#[tokio::test]
async fn of_a_race_for_a_large_record_the_winner_is_read() {
    let Fixture { store, wire, blobs, .. } = Fixture::new("large").await;
    let root = root("large");
    let mut random = fastrand::Rng::with_seed(7);
    let mut noise = || std::iter::repeat_with(|| random.u8(..)).take(700_000).collect::<Vec<_>>();
    let bodies = [noise(), noise()];
    let records: Vec<_> = ["a", "b"].iter().zip(&bodies).map(|(mark, body)| record(1, mark, body)).collect();
    let due = || vec![Extra::Due(Timestamp::UNIX_EPOCH), Extra::ForkContext(Arc::from(&bodies[0][..]))];
    let (one, other) =
        futures::join!(store.append(&root, &records[0], due()), store.append(&root, &records[1], due()));
    let (won, lost) = match (one, other) {
        (Ok(()), Err(lost)) => (&records[0], lost),
        (Err(lost), Ok(())) => (&records[1], lost),
        both => panic!("{both:?}"),
    };
    let AppendError::Conflict(standing) = lost else { panic!("{lost}") };
    assert_eq!(&*standing, won);
    assert_eq!(store.load(&root).await.unwrap().records, std::slice::from_ref(won));
    assert_eq!(store.fork_context(&root, 1).await.unwrap().as_deref(), Some(&bodies[0][..]));
    assert_eq!(blobs.len(), 2, "the same bytes are kept once");
    let largest = wire.forget().iter().map(|sent| sent.body.to_string().len()).max().unwrap();
    assert!(largest < 4096, "{largest} bytes went to the table");
}

#[tokio::test]
async fn lists_go_on_over_many_pages_and_shards() {
    let Fixture { store, .. } = Fixture::new("pages").await;
    let entries = (0..300).map(|number| {
        let store = &store;
        async move {
            let at = Timestamp::from_second(number % 100).unwrap();
            store.ensure_due(&root(&format!("run-{number}")), at, 1).await.unwrap();
        }
    });
    futures::future::join_all(entries).await;
    let all = store.due(Timestamp::MAX, None, 1000).await.unwrap();
    assert!(all.is_sorted() && all.len() == 300, "{} entries", all.len());
    let (mut paged, mut last) = (Vec::new(), None);
    loop {
        let page = store.due(Timestamp::MAX, last.as_ref(), 7).await.unwrap();
        last = page.last().cloned();
        paged.extend(page);
        if last.is_none() {
            break;
        }
        last = paged.last().cloned();
    }
    assert_eq!(paged, all);
    let until = Timestamp::from_second(49).unwrap();
    assert_eq!(store.due(until, None, 1000).await.unwrap().len(), 150);
}
