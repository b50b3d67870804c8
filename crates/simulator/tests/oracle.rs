//! Random histories with all their faults, held against the reference: no fault changes what a run comes to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopePath;
use parking_lot::Mutex;
use runtime::ports::DefinitionKind;
use stepwell_simulator::history;
use stepwell_simulator::observation::What;
use stepwell_simulator::oracle;
use stepwell_simulator::oracle::Journals;
use stepwell_simulator::oracle::Verdict;
use stepwell_simulator::oracle::Workflows;
use stepwell_simulator::plan::Plan;

#[test]
fn faults_do_not_change_what_runs_come_to() {
    let first: u64 = std::env::var("REFERENCE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("REFERENCE_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let (mut compared, mut over, mut moments) = (0, 0, 0);
    let mut wrong = Vec::new();
    for seed in first..first + count {
        let plan = Plan::from_seed(seed);
        let journals = journals(&plan);
        let workflows = workflows(&plan);
        for run in roots(&journals) {
            match oracle::compare(&workflows, &journals, &run) {
                Ok(Verdict::Agrees(agreement)) => {
                    compared += 1;
                    over += u32::from(agreement.over);
                    moments += agreement.moments;
                    if !agreement.behind.is_empty() {
                        println!("seed {seed}: behind {:?}", agreement.behind);
                    }
                }
                Ok(Verdict::NotComparable(reason)) => {
                    wrong.push(format!("seed {seed}: not comparable: {reason}"));
                }
                Err(difference) => wrong.push(format!("seed {seed}: {difference}")),
            }
        }
    }
    println!("{compared} runs, {over} over, {moments} moments");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), wrong.join("\n\n"));
}

/// Everything that was written in the history of a plan.
fn journals(plan: &Plan) -> Journals {
    let journals: Arc<Mutex<Journals>> = Arc::default();
    let written = journals.clone();
    let watch = move |observation: &stepwell_simulator::observation::Observation| {
        if let What::Appended { scope, record, .. } = &observation.what {
            written.lock().entry(scope.clone()).or_default().push(record.clone());
        }
        Ok(())
    };
    let history = history::play_watched(plan, false, Box::new(watch));
    if let Some(violation) = history.violation {
        println!("seed {}: {}: {}", plan.seed, violation.invariant, violation.what);
    }
    std::mem::take(&mut *journals.lock())
}

fn workflows(plan: &Plan) -> Workflows {
    let files = plan.flow.files().into_iter().filter(|file| file.kind == DefinitionKind::Workflow);
    let parsed = files.map(|file| {
        let options = model::Options { file: &file.name, ..model::Options::default() };
        let workflow = model::parse(&file.source, &options).workflow.unwrap();
        (workflow.hash.clone(), Arc::new(workflow))
    });
    parsed.collect()
}

/// The runs that no other run asked for.
fn roots(journals: &Journals) -> BTreeSet<RunId> {
    let is_root = |record: &Record| match record.events.first() {
        Some(Event::RunStarted(started)) => started.parent.is_none(),
        _ => false,
    };
    let roots = journals.iter().filter(|(key, records)| {
        key.path == ScopePath::root()
            && records.first().is_some_and(|record| is_root(&Record::decode(&record.body).unwrap()))
    });
    roots.map(|(key, _)| key.run.clone()).collect()
}
