//! Loads a store with appends as runs make them, and prints what each costs.
//!
//!     cargo run --release -p stepwell-sqlite --example load -- FILE [WRITERS] [SECONDS] [BODY BYTES] [RECORDS PER RUN]
//!
//! Each writer is one run after the other: a root scope with so many records, the first with a summary and a due entry,
//! the last with the final summary. Nothing else is done: CPU time is the store's and the hand-over's.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use tokio::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |index: usize, default: u64| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let file = arguments.get(1).ok_or("name a file")?.clone();
    let (writers, seconds, bytes, records) = (number(2, 64)?, number(3, 5)?, number(4, 500)?, number(5, 12)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    runtime.block_on(load(&file, writers, Duration::from_secs(seconds), usize::try_from(bytes)?, records))
}

async fn load(
    file: &str,
    writers: u64,
    time: Duration,
    bytes: usize,
    records: u64,
) -> Result<(), Box<dyn Error>> {
    let store = stepwell_sqlite::Store::open(file, &stepwell_sqlite::Options::default())?;
    let body: Arc<[u8]> = vec![b'x'; bytes].into();
    let hash = engine::hash(&body);
    let (begin, runs) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let cpu = cpu_seconds()?;
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (store, body, hash, runs) = (store.clone(), body.clone(), hash.clone(), runs.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while begin.elapsed() < time {
                    let run =
                        RunId::new(format!("019aa1f0-0000-7000-8000-{:012x}", runs.fetch_add(1, Relaxed)));
                    let scope = ScopeKey::root(run.clone());
                    for seq in 1..=records {
                        let (at, append_id) = (Timestamp::UNIX_EPOCH, "0123456789abcdef0123".into());
                        let record = Encoded { seq, at, append_id, body: body.clone(), hash: hash.clone() };
                        let extras = if seq == 1 {
                            vec![Extra::Summary(summary(&run, RunStatus::Running)), Extra::Due(at)]
                        } else if seq == records {
                            vec![Extra::Summary(summary(&run, RunStatus::Completed)), Extra::NoDue]
                        } else {
                            Vec::new()
                        };
                        let asked = Instant::now();
                        if let Err(error) = store.append(&scope, &record, extras).await {
                            eprintln!("{error}");
                            return times;
                        }
                        times.push(asked.elapsed());
                    }
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await?);
    }
    let (elapsed, cpu) = (begin.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    let stats = store.stats();
    store.close();
    #[allow(clippy::cast_precision_loss)] // For people.
    let per = |total: f64| total / times.len().max(1) as f64;
    #[allow(clippy::cast_precision_loss)]
    let (size, groups) = (Path::new(file).metadata()?.len() as f64, stats.groups as f64);
    println!(
        "{:.0} appends/s, p50 {:?} p99 {:?}; per append: {:.2} us CPU, {:.3} groups, {:.0} bytes of file; log up to {} frames, {} checkpoints",
        1.0 / per(elapsed),
        at(50),
        at(99),
        per(cpu) * 1e6,
        per(groups),
        per(size),
        stats.log_frames,
        stats.checkpoints
    );
    Ok(())
}

fn summary(run: &RunId, status: RunStatus) -> Box<RunSummary> {
    Box::new(RunSummary {
        run: run.clone(),
        workflow: "sequence-of-ten".into(),
        version: "1".into(),
        status,
        starter: None,
        started_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        ended_at: None,
        error: None,
        stuck: None,
        labels: std::collections::BTreeMap::new(),
        revision: 0,
    })
}

/// User and system time of this process; the kernel counts in hundredths.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = text.rsplit_once(')').ok_or("no stat")?.1.split_whitespace().collect();
    let ticks = |index: usize| {
        fields.get(index).ok_or("a field is missing")?.parse::<f64>().map_err(Box::<dyn Error>::from)
    };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
