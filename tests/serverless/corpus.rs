//! What the language says, over the adapters of the serverless home.
//!
//! Each case has a table of its own, and two queues that no other case uses meanwhile. Records, lists, leases, due entries and
//! doorbells are real requests; time is virtual (`queue.rs`, `quiet.rs`). Processes share their store, and their doorbells
//! outlive them.

use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use dynamodb::MemoryBlobs;
use parking_lot::Mutex;
use sqs::Queues;
use testing::AtOnce;
use testing::File;
use testing::Home;
use testing::Report;
use testing::at_once;

use crate::queue::Held;
use crate::quiet::Quiet;
use crate::servers;
use crate::wire::Wire;

/// What this home does otherwise: a case, and what its report says.
const OTHERWISE: &[(&str, &str)] = &[
    // Alone with its store a new process knows that the worker before it is dead. Here that is known when its message is
    // visible again, a minute later.
    ("when its process dies it is taken over, under the same attempt and key", "history"),
];

/// Queues that no case uses now.
static QUEUES: Mutex<Vec<Queues>> = Mutex::new(Vec::new());

fn home() -> Home {
    let network = servers::network();
    let wire = Wire::default();
    let blobs = Arc::new(MemoryBlobs::default());
    let table = at_once(Some(network), servers::table());
    let store = servers::store_in(&table, wire.http(), blobs);
    let free = QUEUES.lock().pop();
    let queues = free.unwrap_or_else(|| at_once(Some(network), servers::queues()));
    let store = AtOnce::over(Arc::new(store), network.clone());
    let catalog = Quiet::new(store.clone(), wire);
    let doorbell = Arc::new(Held::new(queues, &QUEUES));
    Home { journal: Arc::new(store), catalog, doorbell, shared: true }
}

/// All files of tests below a folder, in order.
fn files(folder: &Path) -> Vec<File> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of cases") {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(".test.yaml") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| File::parse(&std::fs::read_to_string(path).unwrap(), path).unwrap();
    paths.iter().map(read).collect()
}

fn told(report: &Report) -> String {
    let mut lines = vec![format!("{}:{} {}", report.file.display(), report.line, report.name)];
    for failure in &report.failures {
        lines.push(format!("    {}", failure.what));
        lines.extend(failure.diff().iter().map(|(sign, line)| format!("      {sign} {line}")));
        lines.extend(failure.note.iter().map(|note| format!("      {note}")));
    }
    lines.extend(report.timeline.iter().map(|line| format!("      {line}")));
    lines.join("\n")
}

#[test]
fn the_corpus_the_examples_and_the_acceptance_cases_come_to_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let acceptance = std::env::var("ACCEPTANCE").unwrap_or("../shared/acceptance".to_owned());
    let mut folders = vec![root.join("tests/conformance"), root.join("examples")];
    if root.join(&acceptance).is_dir() {
        folders.push(root.join(&acceptance));
    } else {
        // Past the harness, which shows nothing of a test that passes.
        writeln!(std::io::stderr(), "acceptance on DynamoDB and SQS: skipped, there is no {acceptance}")
            .unwrap();
    }
    let files: Vec<File> = folders.iter().flat_map(|folder| files(folder)).collect();
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let reports = testing::run(&files, jobs, &|_| Ok(home()));
    let (mut otherwise, mut failed) = (Vec::new(), Vec::new());
    for report in reports.iter().filter(|report| !report.passed()) {
        let known = OTHERWISE.iter().find(|(name, _)| *name == report.name);
        match known.filter(|(_, what)| report.failures.iter().all(|failure| failure.what == *what)) {
            Some((name, _)) => otherwise.push(*name),
            None => failed.push(told(report)),
        }
    }
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), reports.len(), failed.join("\n"));
    let expected: Vec<_> = OTHERWISE.iter().map(|(name, _)| *name).collect();
    assert_eq!(otherwise, expected, "what is listed as different is no longer so");
    assert!(reports.len() >= 293, "only {} cases", reports.len());
}
