//! `stepwell-sim`: runs histories and says what broke.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use clap::Parser;
use stepwell_simulator::batch;
use stepwell_simulator::batch::Totals;
use stepwell_simulator::history;
use stepwell_simulator::history::History;
use stepwell_simulator::plan::Plan;
use stepwell_simulator::shrink;
use stepwell_simulator::trace;

/// Runs whole histories of Stepwell under every fault that a home can have, and says what broke.
#[derive(Debug, Parser)]
#[command(name = "stepwell-sim", version)]
struct Arguments {
    /// Run exactly the history of this seed, and print what happened.
    #[arg(long, conflicts_with_all = ["plan", "histories", "minutes"])]
    seed: Option<u64>,
    /// Run the plan in this file, and print what happened.
    #[arg(long, conflicts_with_all = ["histories", "minutes"])]
    plan: Option<PathBuf>,
    /// Run so many histories of fresh seeds.
    #[arg(long, default_value_t = 1000)]
    histories: u64,
    /// Run histories of fresh seeds for so many minutes.
    #[arg(long, conflicts_with = "histories")]
    minutes: Option<u64>,
    /// The first seed, instead of a fresh one.
    #[arg(long)]
    first_seed: Option<u64>,
    /// Histories at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Only the verdict, not what happened.
    #[arg(long)]
    quiet: bool,
    /// The flow's files and the plan, before what happened.
    #[arg(long)]
    show: bool,
    /// Go on after a failure, and shrink nothing.
    #[arg(long)]
    keep_going: bool,
    /// How many seconds may be spent on making a failing plan smaller; 0: it stays as it is.
    #[arg(long, default_value_t = 60)]
    shrink: u64,
    /// Write failing plans, made smaller, into this folder.
    #[arg(long)]
    save: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (&arguments.seed, &arguments.plan) {
        (Some(seed), _) => Ok(single(&arguments, &Plan::from_seed(*seed))),
        (None, Some(path)) => read(path).map(|plan| single(&arguments, &plan)),
        (None, None) => many(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn read(path: &PathBuf) -> Result<Plan, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("`{}` is no plan: {error}", path.display()))
}

fn single(arguments: &Arguments, plan: &Plan) -> bool {
    if arguments.show {
        show(plan);
    }
    let history = history::play(plan, !arguments.quiet);
    if !arguments.quiet {
        print!("{}", trace::render(&history.lines));
    }
    println!(
        "seed {}: {}, {} observations, {} calls, {:?}: {:?}",
        plan.seed,
        plan.home.name(),
        history.observations,
        history.calls,
        history.lasted,
        history.outcomes
    );
    verdict(&history)
}

fn show(plan: &Plan) {
    for file in plan.flow.files() {
        println!("# {}\n{}", file.name, file.source);
    }
    match shrink::to_json(plan) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("the plan cannot be written: {error}"),
    }
}

fn verdict(history: &History) -> bool {
    match &history.violation {
        None => println!("no invariant was broken"),
        Some(violation) => println!("BROKEN {}: {}", violation.invariant, violation.what),
    }
    history.violation.is_none()
}

#[allow(clippy::disallowed_methods)] // How long it takes is real time, and a fresh seed is fresh; no history sees either.
fn many(arguments: &Arguments) -> Result<bool, String> {
    let first = match arguments.first_seed {
        Some(first) => first,
        None => fastrand::Rng::new().u64(..1 << 48),
    };
    let begun = Instant::now();
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    eprintln!("histories from seed {first} on");
    let failed = parking_lot::Mutex::new(None);
    let more = |number: u64| {
        if number > 0 && number.is_multiple_of(1000) {
            let seconds = begun.elapsed().as_secs_f64();
            #[allow(clippy::cast_precision_loss)] // It is shown.
            let speed = number as f64 / seconds;
            eprintln!("{number} histories, {speed:.0} a second");
        }
        let enough = match limit {
            Some(limit) => begun.elapsed() >= limit,
            None => number >= arguments.histories,
        };
        !enough && (arguments.keep_going || failed.lock().is_none())
    };
    let each = |plan: &Plan, history: &History| {
        if let Some(violation) = &history.violation {
            println!("seed {}: BROKEN {}: {}", plan.seed, violation.invariant, violation.what);
        }
        failed.lock().get_or_insert_with(|| plan.clone());
    };
    let totals = batch::run(first, arguments.jobs, more, each);
    report(&totals, begun.elapsed());
    let Some(plan) = failed.into_inner() else { return Ok(true) };
    if !arguments.keep_going {
        shrunk(arguments, &plan)?;
    }
    Ok(false)
}

#[allow(clippy::disallowed_methods)] // Patience is real time.
fn shrunk(arguments: &Arguments, plan: &Plan) -> Result<(), String> {
    let begun = Instant::now();
    let patience = Duration::from_secs(arguments.shrink);
    let Some((plan, history)) =
        shrink::shrink(plan, &|plan| history::play(plan, true), &mut || begun.elapsed() < patience)
    else {
        println!("seed {} failed, and did not fail again: it is not the same history every time", plan.seed);
        return Ok(());
    };
    show(&plan);
    print!("{}", trace::render(&history.lines));
    verdict(&history);
    println!("the whole history: stepwell-sim --seed {}", plan.seed);
    if let (Some(folder), Some(violation)) = (&arguments.save, &history.violation) {
        let path = folder.join(format!("{}-{}.json", violation.invariant, plan.seed));
        let text = shrink::to_json(&plan).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        println!("this one: stepwell-sim --plan {}", path.display());
    }
    Ok(())
}

fn report(totals: &Totals, took: Duration) {
    #[allow(clippy::cast_precision_loss)] // It is shown.
    let speed = totals.histories as f64 / took.as_secs_f64();
    println!(
        "{} histories in {:.1} s ({speed:.0} a second), {} observations, {} calls, {} virtual days",
        totals.histories,
        took.as_secs_f64(),
        totals.observations,
        totals.calls,
        totals.lasted.as_secs() / 86_400,
    );
    let list = |counts: &std::collections::BTreeMap<&'static str, u64>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    println!("homes: {}", list(&totals.homes));
    println!("faults: {}", list(&totals.kinds));
    println!("late results: {} in {} histories", totals.late_results, totals.with_late_results);
    println!(
        "runs: {}",
        totals.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    );
    println!("the reference agrees with {} runs, {} moments", totals.agree, totals.moments);
    for (why, count) in &totals.not_comparable {
        println!("not compared: {count} runs, {why}");
    }
    for (invariant, seeds) in &totals.violations {
        let first: Vec<_> = seeds.iter().take(5).map(ToString::to_string).collect();
        println!("BROKEN {invariant}: {} histories, such as seed {}", seeds.len(), first.join(", "));
    }
    if totals.violations.is_empty() {
        println!("no invariant was broken");
    }
}
