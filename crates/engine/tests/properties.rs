//! Whatever happens, in whatever order: what must stay true. Each decision is replayed from its journal by `world`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::collections::BTreeSet;

use expression::Value;
use proptest::prelude::*;
use stepwell_engine::Activity;
use stepwell_engine::Event;
use stepwell_engine::Outcome;
use stepwell_engine::ScopePath;
use stepwell_engine::Stimulus;
use stepwell_engine::Vote;
use world::World;
use world::failure;
use world::json;

const WORKFLOW: &str = "
id: everything
timeoutSeconds: 100000
states:
  - {id: first, type: agent, agent: x, retry: {maxAttempts: 2, backoffSeconds: 5}, next: guard}
  - id: guard
    type: try
    next: last
    try:
      states:
        - id: fan
          type: parallel
          timeoutSeconds: 500
          branches:
            - name: gate
              states:
                - {id: ask, type: human_approval, message: Go?, timeoutSeconds: 120, onTimeout: approve, next: act}
                - {id: act, type: agent, agent: x}
            - name: each
              states:
                - id: check
                  type: foreach
                  itemsPath: items
                  maxConcurrency: 2
                  onFailure: wait
                  iterator:
                    states:
                      - {id: one, type: agent, agent: x, retry: {maxAttempts: 3, backoffSeconds: 1}, next: two}
                      - {id: two, type: wait, duration: 7}
            - name: loop
              states:
                - id: rounds
                  type: while
                  next: hear
                  condition: '(steps.turn.n if steps.turn else 0) < 2'
                  iterator:
                    states:
                      - {id: turn, type: transform, expression: '{\"n\": (steps.turn.n if steps.turn else 0) + 1}', next: work}
                      - {id: work, type: agent, agent: x}
                - {id: hear, type: signal, signal: go, timeoutSeconds: 300, onTimeout: heard, next: heard}
                - {id: heard, type: succeed}
          join: {mode: 2}
    catch: {states: [{id: mend, type: agent, agent: x}]}
    finally: {states: [{id: tidy, type: agent, agent: x}]}
  - {id: last, type: agent, agent: x}
";

#[derive(Clone, Debug)]
enum Act {
    Answer(usize, bool, bool),
    WorkersDie,
    Pass(i64),
    Pause,
    Resume,
    Cancel,
    Redrive,
    Signal,
    Vote(bool),
    /// A stimulus given again or out of turn: nothing may come of it.
    Noise(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (any::<usize>(), prop::bool::weighted(0.7), any::<bool>()).prop_map(|(index, ok, definite)| Act::Answer(index, ok, definite)),
        2 => Just(Act::WorkersDie),
        4 => (1_i64..200).prop_map(Act::Pass),
        1 => Just(Act::Pause),
        2 => Just(Act::Resume),
        1 => prop::bool::weighted(0.2).prop_map(|cancel| if cancel { Act::Cancel } else { Act::Redrive }),
        1 => Just(Act::Redrive),
        1 => Just(Act::Signal),
        2 => prop::bool::weighted(0.8).prop_map(Act::Vote),
        2 => any::<usize>().prop_map(Act::Noise),
    ]
}

fn do_act(world: &mut World, act: &Act) {
    match act {
        Act::Answer(index, ok, definite) if !world.unanswered.is_empty() => {
            let index = index % world.unanswered.len();
            let result = if *ok { Ok(json("{\"n\": 1}")) } else { Err(failure("agent_error", *definite)) };
            world.answer_late(index, result);
        }
        Act::Answer(..) => {}
        Act::WorkersDie => world.workers_die(),
        Act::Pass(seconds) => world.pass(*seconds),
        Act::Pause => drop(world.control(Stimulus::Pause { by: None })),
        Act::Resume => drop(world.control(Stimulus::Resume { by: None })),
        Act::Cancel => drop(world.control(Stimulus::Cancel { by: None, reason: None })),
        Act::Redrive => drop(world.control(Stimulus::Redrive { by: None })),
        Act::Signal => world.signal("go", Value::Null),
        Act::Vote(approve) => {
            let asked: Vec<_> = world
                .scopes()
                .filter_map(|(path, scope)| Some((path.clone(), scope.approval()?.0.id.clone())))
                .collect();
            for (path, approval) in asked {
                let vote = Vote {
                    approve: *approve,
                    approver: "user:a".into(),
                    teams: Vec::new(),
                    comment: None,
                    form: None,
                };
                world.give(&path, Stimulus::Vote { approval, vote });
            }
            world.settle();
        }
        Act::Noise(seed) => {
            let paths: Vec<ScopePath> = world.scopes().map(|(path, _)| path.clone()).collect();
            let path = paths[seed % paths.len()].clone();
            let ended = vec![stepwell_engine::ChildEnded {
                index: 0,
                seq: 1_000,
                outcome: Outcome::Cancelled { reason: None },
            }];
            let old = stepwell_engine::Clocks { version: 0, cancelled: true, ..Default::default() };
            let state = "one".into();
            let stale =
                Stimulus::Performed { state, visit: 99, attempt: 1, epoch: 1, result: Ok(Value::Null) };
            let noise = [
                Stimulus::ChildrenEnded { fork: 0, ended },
                Stimulus::Sync(old),
                stale,
                Stimulus::Signals(Vec::new()),
            ];
            let index = (seed / 7) % noise.len();
            let before = world.scope(path.as_str()).map(|scope| (scope.activity(), scope.context().clone()));
            let performing = before.as_ref().is_some_and(|(activity, _)| *activity == Activity::Performing);
            if !performing {
                world.give(&path, noise[index].clone());
                let after =
                    world.scope(path.as_str()).map(|scope| (scope.activity(), scope.context().clone()));
                assert_eq!(before, after, "noise changed {path}");
            }
        }
    }
}

/// What the journals say: steps that succeeded, each named once.
fn succeeded(world: &World) -> BTreeSet<(String, String, u32)> {
    let mut steps = BTreeSet::new();
    for (path, _) in world.scopes() {
        let mut at = None;
        for event in world.events(path.as_str()) {
            match event {
                Event::StateEntered { state, visit, .. } => {
                    at = Some((path.to_string(), state.to_string(), visit));
                }
                Event::StepClaimed { .. } => {
                    let at = at.clone().unwrap();
                    assert!(!steps.contains(&at), "{at:?} was claimed again after its success");
                }
                Event::StepSucceeded { .. } => {
                    assert!(steps.insert(at.clone().unwrap()), "{at:?} succeeded twice");
                }
                _ => {}
            }
        }
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_its_promises(acts in prop::collection::vec(act(), 1..60)) {
        let mut world = World::new(WORKFLOW, |_| None);
        world.start(json(r#"{"items": [1, 2, 3]}"#));
        let mut known = BTreeSet::new();
        for act in &acts {
            let paused = world.root().is_paused();
            let performed = world.asked.len();
            do_act(&mut world, act);
            if paused && world.root().is_paused() {
                prop_assert_eq!(world.asked.len(), performed, "something was claimed while paused, by {:?}", act);
            }
            let now = succeeded(&world);
            prop_assert!(now.is_superset(&known), "a success was lost");
            known = now;
        }
        // Left alone, with every question answered, it ends.
        world.control(Stimulus::Resume { by: None });
        for _ in 0..400 {
            if world.outcome().is_some() {
                break;
            }
            if world.unanswered.is_empty() {
                world.pass(100);
                if world.unanswered.is_empty() {
                    world.workers_die();
                }
            } else {
                world.answer_late(0, Ok(json("{\"n\": 1}")));
            }
        }
        prop_assert!(world.outcome().is_some(), "it hangs: {:?}", world.scopes().map(|(path, scope)| (path.to_string(), scope.activity())).collect::<Vec<_>>());
        let records: usize = world.scopes().map(|(path, _)| world.records(path.as_str())).sum();
        world.settle();
        prop_assert_eq!(records, world.scopes().map(|(path, _)| world.records(path.as_str())).sum::<usize>(), "it is over, and yet something happens");
    }
}
