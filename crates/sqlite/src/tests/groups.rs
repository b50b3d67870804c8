//! Many writers at once.

use runtime::ports::AppendError;
use runtime::ports::Catalog as _;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::RunStatus;

use super::*;

/// Sixteen writers race for the same numbers of the same scopes, each with its own record; a loser goes on behind the
/// record it lost to. Every answered append stands exactly once, and nothing else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_race_for_a_number_one_wins_and_its_neighbours_lose_nothing() {
    let (_folder, store) = store();
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut answered = Vec::new();
                for turn in 0..40 {
                    let scope = child("race", &format!("/s#1[{}]", turn % 3));
                    let mut seq = 1;
                    loop {
                        let mine = record(seq, format!("{writer}/{turn}"));
                        let extras = vec![Extra::Due(time(seq))];
                        match store.append(&scope, &mine, extras).await {
                            Ok(()) => break answered.push((scope, mine)),
                            Err(AppendError::Conflict(standing)) => {
                                assert_eq!(standing.seq, seq);
                                assert_ne!(standing.body, mine.body);
                                seq += 1;
                            }
                            Err(AppendError::Store(error)) => panic!("{error}"),
                        }
                    }
                }
                answered
            })
        })
        .collect();
    let mut answered = Vec::new();
    for writer in writers {
        answered.extend(writer.await.unwrap());
    }
    let mut standing = Vec::new();
    for index in 0..3 {
        let scope = child("race", &format!("/s#1[{index}]"));
        let records = store.load(&scope).await.unwrap().records;
        assert!(records.iter().map(|record| record.seq).eq(1..=u64::try_from(records.len()).unwrap()));
        standing.extend(records.into_iter().map(|record| (scope.clone(), record)));
    }
    let order = |one: &(ScopeKey, Encoded), other: &(ScopeKey, Encoded)| {
        (&one.0, one.1.seq).cmp(&(&other.0, other.1.seq))
    };
    answered.sort_by(order);
    assert_eq!(answered, standing);
    let stats = store.stats();
    assert!(stats.groups < stats.writes, "writes that wait share a group: {stats:?}");
}

#[tokio::test]
async fn what_comes_with_a_record_stands_or_falls_with_it() {
    let (_folder, store) = store();
    let first = record(1, "first");
    store
        .append(&scope("r"), &first, vec![Extra::Summary(Box::new(summary("r", RunStatus::Running)))])
        .await
        .unwrap();

    let ended = || {
        vec![
            Extra::Summary(Box::new(summary("r", RunStatus::Failed))),
            Extra::Due(time(9)),
            Extra::ForkContext([1].into()),
        ]
    };
    assert_eq!(standing(store.append(&scope("r"), &record(1, "late"), ended()).await), first);
    let gap = store.append(&scope("r"), &record(3, "early"), ended()).await.unwrap_err();
    assert!(gap.to_string().contains("JOURNAL_GAP"), "{gap}");

    assert_eq!(store.run(&RunId::new("r")).await.unwrap().unwrap().status, RunStatus::Running);
    assert!(store.due(time(99), None, 10).await.unwrap().is_empty());
    assert_eq!(store.fork_context(&scope("r"), 1).await.unwrap(), None);
    assert_eq!(store.head(&scope("r")).await.unwrap(), Some(first));
}

/// Under steady writing with steady reading the log begins anew again and again; closed, it is empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_bounded_under_load_and_empty_when_closed() {
    let (folder, store) = store();
    let reader = store.clone();
    let reading = tokio::spawn(async move {
        while reader.runs(&<_>::default(), &super::lists::page(50, None)).await.is_ok() {}
    });
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for seq in 1..=400 {
                    store
                        .append(
                            &scope(&format!("run-{writer}")),
                            &record(seq, vec![b'x'; 60_000]),
                            Vec::new(),
                        )
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let stats = store.stats();
    let written = 4 * 400 * 60_000 / 4096;
    assert!(
        stats.checkpoints > 1 && stats.log_frames < written * 3 / 4,
        "{stats:?}, {written} pages were written"
    );
    store.close();
    reading.await.unwrap();
    let log = file(&folder).with_extension("db-wal");
    assert_eq!(log.metadata().map_or(0, |data| data.len()), 0);
    assert!(file(&folder).metadata().unwrap().len() > 4 * 400 * 60_000);
}
