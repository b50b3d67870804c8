//! A process that dies in the middle of a group.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;

use runtime::ports::Catalog as _;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::RunStatus;

use super::*;

const SCOPES: u64 = 24;

/// A child appends to many scopes at once and says what was answered; it is killed after ever more answers, in the middle
/// of whatever it was doing. The lock is free at once, what was answered is there, and no record is half there.
#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut answered = BTreeMap::<String, u64>::new();
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child", "--nocapture"])
            .env(STORE, file(&folder))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while said < 150 * round {
            let line = lines.next().expect("the child goes on until it is killed").unwrap();
            said += note(&mut answered, &line);
        }
        child.kill().unwrap();
        // What it said before it died was answered too.
        for line in lines.map_while(Result::ok) {
            note(&mut answered, &line);
        }
        child.wait().unwrap();

        let store = open(&folder);
        for (run, seq) in &answered {
            let records = store.load(&scope(run)).await.unwrap().records;
            let there = u64::try_from(records.len()).unwrap();
            assert!(there == *seq || there == seq + 1, "{run}: {seq} were answered and {there} are there");
            for record in records {
                assert_eq!(record, content(run, record.seq));
            }
            let row = store.run(&RunId::new(run.as_str())).await.unwrap().unwrap();
            assert_eq!(row.revision, there, "the summary is that of the last record");
        }
    }
    assert_eq!(u64::try_from(answered.len()).unwrap(), SCOPES);
}

const STORE: &str = "STEPWELL_TEST_CRASH_STORE";

/// Not a test: what the child does, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let store = Store::open(path, &Options::default()).unwrap();
    let writers: Vec<tokio::task::JoinHandle<()>> = (0..SCOPES)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let run = format!("run-{number}");
                let mut seq = store.head(&scope(&run)).await.unwrap().map_or(0, |head| head.seq);
                loop {
                    seq += 1;
                    let row = Box::new(summary(&run, RunStatus::Running));
                    store
                        .append(
                            &scope(&run),
                            &content(&run, seq),
                            vec![Extra::Summary(row), Extra::Due(time(seq))],
                        )
                        .await
                        .unwrap();
                    writeln!(std::io::stdout(), "answered {run} {seq}").unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

fn content(run: &str, seq: u64) -> Encoded {
    record(seq, format!("{run} {seq} ").repeat(1 + usize::try_from(seq % 50).unwrap() * 8))
}

fn note(answered: &mut BTreeMap<String, u64>, line: &str) -> u64 {
    // The harness of the child prints lines of its own, and the last line may be cut off.
    let Some((run, seq)) = line.split_once("answered ").and_then(|(_, rest)| rest.split_once(' ')) else {
        return 0;
    };
    let Ok(seq) = seq.parse::<u64>() else { return 0 };
    let known = answered.entry(run.to_owned()).or_default();
    *known = seq.max(*known);
    1
}
