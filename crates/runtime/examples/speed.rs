//! What the loop itself costs: runs over a store in memory, with agents that answer at once.
//!
//!     cargo run --release -p stepwell-runtime --features conformance --example speed -- sequence 10 64 5
//!
//! The arguments: `sequence` (steps in a run), `branches` (branches of a run), `items` (iterations of a run) or `loop` (rounds of a
//! run); how many of them; how
//! many runs at once; for how many seconds.

// A tool for developers: what goes wrong may stop it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_precision_loss, clippy::format_push_string)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use expression::Value;
use stepwell_runtime::Options;
use stepwell_runtime::Ports;
use stepwell_runtime::Runtime;
use stepwell_runtime::Service;
use stepwell_runtime::ServiceOptions;
use stepwell_runtime::StartRequest;
use stepwell_runtime::SystemClock;
use stepwell_runtime::SystemIds;
use stepwell_runtime::memory;
use stepwell_runtime::ports::Agents;
use stepwell_runtime::ports::Call;
use stepwell_runtime::ports::CallError;
use stepwell_runtime::ports::Clock;

struct Echo(Value, AtomicU64);

#[async_trait]
impl Agents for Echo {
    async fn perform(&self, _: Call) -> Result<Value, CallError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.clone())
    }
}

fn workflow(kind: &str, count: usize) -> String {
    let mut text = "id: w\nstates:\n".to_owned();
    match kind {
        "sequence" => {
            for n in 0..count {
                let next = if n + 1 < count { format!("next: s{}", n + 1) } else { "end: true".to_owned() };
                text += &format!("  - {{id: s{n}, type: agent, agent: x, task: do it, {next}}}\n");
            }
        }
        "branches" => {
            text += "  - id: all\n    type: parallel\n    branches:\n";
            for n in 0..count {
                text += &format!(
                    "      - {{name: b{n}, states: [{{id: s, type: agent, agent: x, task: do it}}]}}\n"
                );
            }
        }
        "items" => {
            let items: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            text += &format!(
                "  - {{id: list, type: inject, data: {{list: [{}]}}, next: each}}\n",
                items.join(", ")
            );
            text += "  - {id: each, type: foreach, itemsPath: list, iterator: {states: [{id: s, type: agent, agent: x, task: do it, input: {}}]}}\n";
        }
        _ => {
            text += &format!(
                "  - {{id: l, type: while, condition: 'True', maxIterations: {count}, iterator: {{states: [{{id: s, type: agent, agent: x, task: do it}}]}}}}\n"
            );
        }
    }
    text
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "sequence".to_owned());
    let mut number =
        |default: usize| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (count, at_once, seconds) = (number(10), number(64), number(5));

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(memory::Store::new());
    let agents = Arc::new(Echo(Value::parse_json(r#"{"ok": true}"#).unwrap(), AtomicU64::new(0)));
    let ids = SystemIds::new().unwrap();
    let options = Options::exclusive(ids.worker());
    let ports = Ports {
        journal: store.clone(),
        catalog: store,
        doorbell: Arc::new(memory::Doorbell::new(clock.clone())),
        agents: agents.clone(),
        clock,
        ids: Arc::new(ids),
    };
    let runtime = Runtime::new(ports, options);
    runtime.register_alone(&workflow(&kind, count), None).await.unwrap();
    let service = Service::new(runtime.clone(), ServiceOptions::default());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = tokio::spawn(service.run(async {
        let _ = stopped.await;
    }));

    let runs = Arc::new(AtomicU64::new(0));
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds as u64);
    let begun = cpu();
    let started = tokio::time::Instant::now();
    let clients: Vec<_> = (0..at_once)
        .map(|_| {
            let (runtime, runs) = (runtime.clone(), runs.clone());
            tokio::spawn(async move {
                while tokio::time::Instant::now() < end {
                    let request = StartRequest::new("w", Value::object());
                    let (_, view) = runtime.start_and_wait(request, Duration::from_mins(5)).await.unwrap();
                    view.expect("it ended");
                    runs.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (took, used) = (started.elapsed().as_secs_f64(), cpu() - begun);
    let (runs, steps) = (runs.load(Ordering::Relaxed) as f64, agents.1.load(Ordering::Relaxed) as f64);
    println!(
        "{:.0} runs/s, {:.0} steps/s, {:.1} µs CPU per step",
        runs / took,
        steps / took,
        used * 1e6 / steps
    );
    drop(stop);
    service.await.unwrap();
}

/// Seconds of CPU this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
