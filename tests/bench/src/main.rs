//! Measures a `stepwell serve` over HTTP, each workload with a server and a database of its own.
//!
//!     stepwell-bench --stepwell target/release/stepwell [--seconds 20] [--only w1-10] [--dir .]
//!
//! The client speaks HTTP by itself over connections that it keeps, in one thread and another process than the server: its
//! own CPU time is shown and is not in the server's. What is counted, and how, stands in `docs/performance.md`.
//!
//! It does not know how the server works: it sees its answers, its process (`/proc`), its database's size, and what the
//! store logs about itself when it is closed. Start reading at [`workloads::all`].

mod agent;
mod client;
mod server;
mod workloads;

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use client::Load;
use server::Server;
use workloads::Workload;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some(agent::COMMAND) {
        return runtime.block_on(agent::serve());
    }
    let arguments = Arguments::read()?;
    println!("{}", machine());
    println!("{HEADER}");
    for workload in workloads::all() {
        if arguments.only.as_ref().is_none_or(|only| workload.name.contains(only.as_str())) {
            println!("{}", runtime.block_on(measure(&workload, &arguments))?);
        }
    }
    Ok(())
}

struct Arguments {
    stepwell: PathBuf,
    seconds: u64,
    only: Option<String>,
    dir: PathBuf,
}

impl Arguments {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut read = Self { stepwell: "stepwell".into(), seconds: 20, only: None, dir: ".".into() };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--stepwell" => read.stepwell = value.into(),
                "--seconds" => read.seconds = value.parse()?,
                "--only" => read.only = Some(value),
                "--dir" => read.dir = value.into(),
                _ => {
                    return Err(
                        format!("there is no {name}; try --stepwell, --seconds, --only, --dir").into()
                    );
                }
            }
        }
        // A name without a folder is looked up in PATH; one with a folder must not depend on where the server runs.
        if read.stepwell.components().count() > 1 {
            read.stepwell = read.stepwell.canonicalize()?;
        }
        Ok(read)
    }
}

const HEADER: &str = "workload     clients    runs/s   steps/s   p50 ms   p90 ms   p99 ms  fsyncs/step  bytes/step  \
                      CPU s/1000 steps  peak MB  client CPU s/1000";

async fn measure(workload: &Workload, arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let folder = tempfile::Builder::new().prefix(".bench-").tempdir_in(&arguments.dir)?;
    let agent = if workload.needs_agent { Some(agent::Process::start()?) } else { None };
    workload.write(folder.path(), agent.as_ref().map(|agent| agent.address.as_str()))?;
    let server = Server::start(&arguments.stepwell, folder.path())?;
    let load = Load::new(&server.address, workload);
    // What is made once (files that grow, caches, threads) is made before the count begins.
    let warm = load.run(Duration::from_secs(arguments.seconds.div_ceil(10)), workload.runs).await?;
    let (before, own_before) = (server.cpu_seconds()?, server::own_cpu_seconds()?);
    let run = load.run(Duration::from_secs(arguments.seconds), workload.runs).await?;
    let (cpu, own) = (server.cpu_seconds()? - before, server::own_cpu_seconds()? - own_before);
    let peak = server.peak_megabytes()?;
    let closed = server.stop()?;

    let steps = run.times.len() * workload.steps;
    let all_steps = steps + warm.times.len() * workload.steps;
    let (steps, all_steps, runs) = (float(steps), float(all_steps), float(run.times.len()));
    let seconds = run.elapsed.as_secs_f64();
    let at = |percent: usize| {
        run.times.get(run.times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    let fsyncs = closed.fsyncs.map_or("-".to_owned(), |fsyncs| format!("{:.3}", fsyncs / all_steps));
    Ok(format!(
        "{:<12} {:>7} {:>9.0} {:>9.0} {:>8.2} {:>8.2} {:>8.2}  {:>11}  {:>10.0}  {:>16.4}  {:>7.1}  {:>16.4}",
        workload.name,
        workload.clients,
        runs / seconds,
        steps / seconds,
        at(50),
        at(90),
        at(99),
        fsyncs,
        closed.bytes / all_steps,
        cpu / steps * 1000.0,
        peak,
        own / steps * 1000.0
    ))
}

/// What the figures are of.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cpus} CPUs ({}), Linux {}", model.unwrap_or("unknown"), kernel.trim())
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
fn float(count: usize) -> f64 {
    count as f64
}
