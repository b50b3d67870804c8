//! Histories are the same every time, from a seed and from a file; a fixed few hundred break nothing; what breaks is seen,
//! made smaller and shown. The many with fresh seeds are `stepwell-sim`'s.

// They are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use stepwell_simulator::batch;
use stepwell_simulator::history::History;
use stepwell_simulator::history::play;
use stepwell_simulator::history::play_watched;
use stepwell_simulator::invariants::Violation;
use stepwell_simulator::observation::What;
use stepwell_simulator::plan::Faults;
use stepwell_simulator::plan::Plan;
use stepwell_simulator::shrink;
use stepwell_simulator::trace;

#[test]
fn a_history_is_the_same_every_time() {
    for seed in 0..60 {
        let plan = Plan::from_seed(seed);
        let first = play(&plan, true);
        let from_file: Plan = serde_json::from_str(&shrink::to_json(&plan).unwrap()).unwrap();
        assert_eq!(from_file, plan, "seed {seed}: a plan in a file is the same plan");
        let exactly = Plan { faults: Faults::Exactly(first.made.clone()), ..plan };
        for (how, again) in
            [("again", play(&from_file, true)), ("with exactly the faults it had", play(&exactly, true))]
        {
            let lines = first.lines.iter().zip(&again.lines);
            for (number, (one, other)) in lines.enumerate() {
                if format!("{one:?}") != format!("{other:?}") {
                    let [one, other] = [one, other].map(|line| trace::render(std::slice::from_ref(line)));
                    panic!("seed {seed} {how}, line {number}:\n{one}{other}");
                }
            }
            assert_eq!(first.lines.len(), again.lines.len(), "seed {seed} {how}");
            assert_eq!(first.calls, again.calls, "seed {seed} {how}");
        }
    }
}

/// Every plan in `regressions/` broke an invariant once, for the reason that it is named after. One whose faults no longer
/// happen would show nothing: then it is to be made anew.
#[test]
fn what_broke_once_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let plan: Plan = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let history = play(&plan, true);
        if let Some(violation) = history.violation {
            panic!("{}\n{}{violation}", file.display(), trace::render(&history.lines));
        }
        let Faults::Exactly(faults) = &plan.faults else { panic!("{}: random faults", file.display()) };
        for fault in faults {
            assert!(history.made.contains(fault), "{}: {fault:?} does not happen", file.display());
        }
        let struck = history.lines.iter().filter_map(|line| match line {
            trace::Line::Struck { blow, .. } => Some(blow),
            _ => None,
        });
        assert_eq!(struck.collect::<Vec<_>>(), plan.blows.iter().collect::<Vec<_>>(), "{}", file.display());
    }
}

#[test]
fn no_history_breaks_an_invariant() {
    let totals = batch::run(1000, 2, |number| number < 600, |_, _| {});
    assert_eq!(totals.violations.len(), 0, "{:#?}", totals.violations);
    // Histories in which nothing happens would show nothing.
    assert!(totals.kinds.len() >= 15, "{:#?}", totals.kinds);
    assert!(totals.outcomes.len() >= 3, "{:#?}", totals.outcomes);
    assert_eq!(totals.homes.len(), 3);
    assert!(totals.agree >= 600, "{}", totals.agree);
}

#[test]
fn every_invariant_is_promised_in_the_docs() {
    let docs = include_str!("../../../docs/testing.md");
    for (name, promise) in stepwell_simulator::invariants::INVARIANTS {
        assert!(docs.contains(&format!("| `{name}` | {promise} |")), "docs/testing.md has no row for {name}");
    }
}

/// As if no process might die that has called an agent.
fn forbidden(plan: &Plan) -> History {
    let mut called = 0;
    let watch = move |seen: &_| {
        let stepwell_simulator::observation::Observation { what, .. } = seen;
        called += u32::from(matches!(what, What::Called { .. }));
        match what {
            What::ProcessDied(_) if called > 0 => {
                Err(Violation { invariant: "forbidden", what: "it died".to_owned() })
            }
            _ => Ok(()),
        }
    };
    play_watched(plan, true, Box::new(watch))
}

#[test]
fn what_breaks_is_made_smaller_and_shown() {
    let plan = (0..100).map(Plan::from_seed).find(|plan| forbidden(plan).violation.is_some()).unwrap();
    let (small, history) = shrink::shrink(&plan, &forbidden, &mut || true).unwrap();
    assert_eq!(history.violation.unwrap().invariant, "forbidden");
    let faults = match &small.faults {
        Faults::Exactly(faults) => faults.len(),
        Faults::Random(rates) => panic!("{rates:?}"),
    };
    assert!(faults + small.blows.len() <= 1, "one death is enough: {small:?}");
    assert!(small.flow.measure() < plan.flow.measure());
    let trace = trace::render(&history.lines);
    assert!(trace.contains("dies") && trace.contains("StepClaimed"), "{trace}");
}

#[test]
fn a_panic_anywhere_is_a_violation() {
    for at in [2, 12] {
        let mut seen = 0;
        let watch = move |_: &_| {
            seen += 1;
            assert!(seen < at, "one thing too many");
            Ok(())
        };
        let violation = play_watched(&Plan::from_seed(3), true, Box::new(watch)).violation.unwrap();
        assert_eq!(violation.invariant, "panic");
        assert!(violation.what.contains("one thing too many"), "{violation:?}");
    }
}
