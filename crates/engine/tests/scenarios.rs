//! What a run does, told as stories: each with every journal replayed after every record.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::unnecessary_wraps)]

mod world;

use std::cell::RefCell;
use std::rc::Rc;

use expression::Value;
use stepwell_engine::Activity;
use stepwell_engine::ChildEnded;
use stepwell_engine::Event;
use stepwell_engine::Outcome;
use stepwell_engine::Refusal;
use stepwell_engine::ScopePath;
use stepwell_engine::Stimulus;
use stepwell_engine::Vote;
use world::World;
use world::failure;
use world::json;

fn completed(world: &World) -> &Value {
    match world.outcome() {
        Some(Outcome::Completed { output }) => output,
        other => panic!("not completed but {other:?}, at {:?}", world.root().activity()),
    }
}

fn failed(world: &World) -> &stepwell_engine::Error {
    match world.outcome() {
        Some(Outcome::Failed { error }) => error,
        other => panic!("not failed but {other:?}, at {:?}", world.root().activity()),
    }
}

fn ok(text: &str) -> Option<Result<Value, stepwell_engine::Failure>> {
    Some(Ok(json(text)))
}

fn vote(approver: &str, approve: bool) -> Vote {
    Vote {
        approve,
        approver: approver.into(),
        teams: Vec::new(),
        comment: Some("because".into()),
        form: None,
    }
}

fn approval_id(world: &World, path: &str) -> std::sync::Arc<str> {
    world.scope(path).unwrap().approval().unwrap().0.id.clone()
}

#[test]
fn a_sequential_step_costs_one_record() {
    let mut world = World::new(
        "
id: sequence
states:
  - {id: a, type: agent, agent: x, next: b}
  - {id: b, type: agent, agent: x, next: c}
  - {id: c, type: agent, agent: x}
",
        |asked| ok(&format!(r#"{{"from": "{}"}}"#, asked.state)),
    );
    world.start(json("{}"));
    assert_eq!(completed(&world), &json(r#"{"from": "c"}"#));
    // The start claims a; each commit claims the next; the last one ends the run.
    assert_eq!(world.records("/"), 4);
    assert_eq!(world.path("/"), ["a", "b", "c"]);
    assert_eq!(
        world.asked[1].request,
        json(r#"{"input": {"from": "a"}}"#),
        "what flows in is the agent's input"
    );
}

#[test]
fn a_key_rises_after_a_definite_failure_only() {
    let mut world = World::new(
        "
id: retry
states:
  - id: a
    type: agent
    agent: x
    retry: {maxAttempts: 4, backoffSeconds: 10, backoff: exponential}
",
        |asked| match asked.attempt {
            1 => Some(Err(failure("timeout", false))),
            2 => Some(Err(failure("agent_error", true))),
            3 => None,
            _ => ok("{}"),
        },
    );
    world.start(json("{}"));
    assert_eq!(world.root().activity(), Activity::Backoff);
    world.pass(10);
    world.pass(19);
    assert_eq!(world.asked.len(), 2, "the second pause is 20 s");
    world.pass(1);
    for _ in 0..4 {
        world.workers_die();
    }
    let keys: Vec<_> =
        world.asked.iter().map(|asked| asked.key.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(keys, ["1", "1", "2", "2", "2", "2", "2"]);
    let epochs: Vec<_> = world.asked.iter().map(|asked| (asked.attempt, asked.epoch)).collect();
    assert_eq!(epochs, [(1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5)]);
    world.workers_die();
    assert_eq!(world.root().activity(), Activity::Backoff, "five silent epochs fail the attempt");
    world.pass(40);
    assert_eq!(
        world.asked.last().unwrap().key.rsplit('/').next(),
        Some("2"),
        "nobody knows whether it took effect"
    );
    completed(&world);
}

#[test]
fn at_most_once_is_not_taken_over_and_retry_does_not_cover_it() {
    let source = "
id: once
states:
  - {id: a, type: agent, agent: x, atMostOnce: true, retry: {maxAttempts: 3}}
";
    let mut world = World::new(source, |_| None);
    world.start(json("{}"));
    world.workers_die();
    assert_eq!(failed(&world).kind.as_ref(), "interrupted");
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn an_uncaught_error_after_several_attempts_is_exhaustion_with_the_last_inside() {
    let source = "
id: exhausted
states:
  - {id: a, type: agent, agent: x, retry: {maxAttempts: 3, backoffSeconds: 1}}
";
    let mut world = World::new(source, |_| Some(Err(failure("agent_error", true))));
    world.start(json("{}"));
    world.pass(10);
    let error = failed(&world);
    assert_eq!((error.kind.as_ref(), error.attempts), ("retry_exhausted", 3));
    assert_eq!(error.cause.as_ref().unwrap().kind.as_ref(), "agent_error");
}

const BRANCHES: &str = "
id: branches
states:
  - id: gather
    type: parallel
    branches:
      - {name: one, agent: one}
      - {name: two, states: [{id: deep, type: agent, agent: two}]}
      - {name: three, agent: three}
    join: JOIN
    next: after
  - {id: after, type: agent, agent: after}
";

fn branches(
    join: &str,
    answer: impl Fn(&str) -> Option<Result<Value, stepwell_engine::Failure>> + 'static,
) -> World {
    let mut world = World::new(&BRANCHES.replace("JOIN", join), move |asked| answer(&asked.agent));
    world.start(json("{}"));
    world
}

#[test]
fn all_waits_for_all_and_merges_by_name() {
    let world = branches("{mode: all}", |agent| ok(&format!("\"{agent}\"")));
    assert_eq!(world.context("steps.gather"), json(r#"{"one": "one", "two": "two", "three": "three"}"#));
    assert_eq!(
        world.asked.last().unwrap().request,
        json(r#"{"input": {"one": "one", "two": "two", "three": "three"}}"#)
    );
}

#[test]
fn any_goes_on_with_the_first_and_cancels_the_others() {
    let mut world =
        branches("{mode: any}", |agent| if agent == "two" || agent == "after" { ok("1") } else { None });
    completed(&world);
    assert_eq!(world.context("steps.gather"), json(r#"{"two": 1}"#));
    let loser = world.scope("/gather#1/one").unwrap();
    assert!(matches!(loser.outcome(), Some(Outcome::Cancelled { .. })));
    let records = world.records("/gather#1/one");
    world.answer_late(0, Ok(json("2")));
    assert_eq!(world.records("/gather#1/one"), records, "a late result of a cancelled scope changes nothing");
    assert_eq!(world.context("steps.gather"), json(r#"{"two": 1}"#));
}

#[test]
fn a_failing_branch_says_the_way_it_came() {
    let world = branches("{mode: all}", |agent| match agent {
        "two" => Some(Err(failure("agent_error", true))),
        _ => None,
    });
    let error = failed(&world);
    assert_eq!(error.kind.as_ref(), "agent_error");
    assert_eq!(error.message.as_ref(), "gather/two/deep: agent_error happened");
    assert!(
        world.scope("/gather#1/three").unwrap().outcome().is_some(),
        "the first failure cancels the rest"
    );
}

#[test]
fn waiting_joins_report_the_first_failure_in_declared_order() {
    let world = branches("{mode: all, onFailure: wait}", |agent| match agent {
        "three" => Some(Err(failure("early", true))),
        "one" => Some(Err(failure("late", true))),
        _ => ok("1"),
    });
    assert_eq!(failed(&world).kind.as_ref(), "late");
}

#[test]
fn two_of_three_survive_one_failure_but_not_two() {
    let fails = |names: &'static [&'static str]| {
        move |agent: &str| {
            if names.contains(&agent) { Some(Err(failure("agent_error", true))) } else { ok("1") }
        }
    };
    completed(&branches("{mode: 2}", fails(&["one"])));
    failed(&branches("{mode: 2}", fails(&["one", "three"])));
}

#[test]
fn iterations_run_a_few_at_a_time_and_keep_their_order() {
    let mut world = World::new(
        "
id: each
states:
  - id: check
    type: foreach
    itemsPath: services
    itemName: service
    maxConcurrency: 2
    iterator:
      states:
        - {id: ask, type: agent, agent: x, task: '{{ service }}: {{ _index + 1 }} of {{ _total }}'}
",
        |_| None,
    );
    world.start(json(r#"{"services": ["a", "b", "c"]}"#));
    assert_eq!(world.asked.len(), 2);
    world.answer_late(1, Ok(json("\"B\"")));
    assert_eq!(world.asked.len(), 3);
    assert_eq!(world.asked[2].request.get("task"), Some(&json("\"c: 3 of 3\"")));
    world.answer_late(1, Ok(json("\"C\"")));
    world.answer_late(0, Ok(json("\"A\"")));
    assert_eq!(completed(&world), &json(r#"{"results": ["A", "B", "C"], "count": 3}"#));
}

#[test]
fn no_items_are_success() {
    let source = "
id: none
states:
  - {id: check, type: foreach, itemsPath: services, agent: x}
";
    let mut world = World::new(source, |_| None);
    world.start(json(r#"{"services": []}"#));
    assert_eq!(completed(&world), &json(r#"{"results": [], "count": 0}"#));
}

#[test]
fn what_could_not_be_read_back_is_refused() {
    let source = "
id: deep
states:
  - {id: a, type: agent, agent: x}
";
    let nested = |levels: usize| json_unbounded(levels);
    let mut world = World::new(source, move |_| Some(Ok(nested(64))));
    world.start(json("{}"));
    completed(&world);
    let mut world = World::new(source, move |_| Some(Ok(nested(65))));
    world.start(json("{}"));
    assert_eq!(failed(&world).code.as_deref(), Some("VALUE_UNFIT"));
}

fn json_unbounded(levels: usize) -> Value {
    (1..levels).fold(Value::from(Vec::<Value>::new()), |inner, _| Value::from(vec![inner]))
}

#[test]
fn an_agent_for_each_item_receives_the_item() {
    let source = "
id: each
states:
  - {id: given, type: transform, expression: '[\"x\"]', next: spell}
  - {id: spell, type: foreach, itemsPath: steps.given, itemName: letter, agent: speller}
";
    let mut world = World::new(source, |_| ok("1"));
    world.start(json("{}"));
    let input = r#"{"input": {"letter": "x", "_item": "x", "_index": 0, "_total": 1}}"#;
    assert_eq!(
        world.asked[0].request,
        json(input),
        "what flows in is no object, so the item's names are all there is"
    );
}

#[test]
fn a_loop_back_is_a_new_visit_and_a_new_step() {
    let mut world = World::new(
        "
id: loop
states:
  - {id: ask, type: agent, agent: x, resultPath: answer, next: done}
  - {id: done, type: switch, dataPath: answer, conditions: [{if: 'n < 3', next: ask}], defaultNext: end}
  - {id: end, type: succeed, output: {n: '{{ answer.n }}'}}
",
        {
            let mut n = 0;
            move |_| {
                n += 1;
                ok(&format!(r#"{{"n": {n}}}"#))
            }
        },
    );
    world.start(json("{}"));
    assert_eq!(completed(&world), &json(r#"{"n": 3}"#));
    let keys: std::collections::BTreeSet<_> = world.asked.iter().map(|asked| asked.key.clone()).collect();
    assert_eq!(keys.len(), 3);
}

#[test]
fn finally_runs_whatever_happens_and_catch_sees_the_last_attempt() {
    let source = "
id: try
states:
  - id: guard
    type: try
    next: after
    try: {states: [{id: risky, type: agent, agent: risky, retry: {maxAttempts: 2, backoffSeconds: 0}}]}
    catch:
      errors: [agent_error]
      as: problem
      states: [{id: mend, type: agent, agent: mend, task: '{{ _error.type }} {{ _error.attempts }} {{ problem.message }}'}]
    finally: {states: [{id: tidy, type: agent, agent: tidy}]}
  - {id: after, type: agent, agent: after}
";
    let mut world = World::new(source, |asked| match asked.agent.as_str() {
        "risky" => Some(Err(failure("agent_error", true))),
        _ => ok("\"fine\""),
    });
    world.start(json("{}"));
    assert_eq!(completed(&world), &json("\"fine\""));
    assert_eq!(
        world.path("/"),
        ["guard", "guard/try/risky", "guard/catch/0/mend", "guard/finally/tidy", "after"]
    );
    assert_eq!(world.asked[2].request.get("task"), Some(&json("\"agent_error 2 agent_error happened\"")));

    let mut world = World::new(source, |asked| match asked.agent.as_str() {
        "risky" => Some(Err(failure("other", true))),
        _ => ok("1"),
    });
    world.start(json("{}"));
    assert_eq!(failed(&world).kind.as_ref(), "retry_exhausted");
    assert_eq!(world.path("/"), ["guard", "guard/try/risky", "guard/finally/tidy"]);
}

#[test]
fn a_composite_timeout_is_caught_outside_only_and_runs_the_finally_inside() {
    let source = "
id: limits
states:
  - id: outer
    type: try
    try:
      states:
        - id: limited
          type: try
          timeoutSeconds: 60
          try: {states: [{id: slow, type: agent, agent: slow}]}
          catch: {states: [{id: inner, type: agent, agent: inner}]}
          finally: {states: [{id: tidy, type: wait, duration: 10}]}
    catch: {errors: [timeout], states: [{id: caught, type: agent, agent: caught}]}
";
    let mut world = World::new(source, |asked| if asked.agent == "slow" { None } else { ok("\"caught\"") });
    world.start(json("{}"));
    world.pass(60);
    world.settle();
    world.workers_die();
    world.pass(10);
    assert_eq!(completed(&world), &json("\"caught\""));
    let agents: Vec<_> = world.asked.iter().map(|asked| asked.agent.as_str()).collect();
    assert_eq!(agents, ["slow", "caught"]);
}

const APPROVAL: &str = "
id: gate
states:
  - {id: gate, type: human_approval, message: 'Deploy {{ what }}?', timeoutSeconds: 60, next: after, EXTRA}
  - {id: after, type: agent, agent: after}
";

fn gate(extra: &str) -> World {
    let mut world = World::new(&APPROVAL.replace("EXTRA", extra), |_| ok("1"));
    world.start(json(r#"{"what": "api"}"#));
    world
}

fn cast(world: &mut World, approver: &str, approve: bool) -> Option<Refusal> {
    let approval = approval_id(world, "/");
    world.control(Stimulus::Vote { approval, vote: vote(approver, approve) }).refusal
}

#[test]
fn an_approval_takes_its_quorum_of_the_right_people() {
    let mut world = gate(
        "approvers: ['user:a', 'user:b', 'team:x', 'user:starter'], quorum: 2, separationOfDuties: true",
    );
    assert_eq!(world.root().approval().unwrap().0.message.as_ref(), "Deploy api?");
    assert!(matches!(cast(&mut world, "user:z", true), Some(Refusal::NotAnApprover { .. })));
    assert_eq!(cast(&mut world, "user:starter", true), Some(Refusal::StarterMayNotDecide));
    assert_eq!(cast(&mut world, "user:a", true), None);
    assert_eq!(cast(&mut world, "user:a", true), Some(Refusal::DecidedAlready));
    assert!(matches!(cast(&mut world, "user:a", false), Some(Refusal::DecidedOtherwise(_))));
    assert_eq!(world.asked.len(), 0);
    let approval = approval_id(&world, "/");
    let member = Vote { teams: vec!["team:x".into()], ..vote("user:m", true) };
    assert_eq!(world.control(Stimulus::Vote { approval, vote: member }).refusal, None);
    completed(&world);
    assert_eq!(world.context("steps.gate.approver"), json("\"user:m\""));
}

#[test]
fn a_rejection_fails_cancels_or_goes_elsewhere() {
    let mut world = gate("quorum: 2");
    cast(&mut world, "user:a", false);
    let error = failed(&world);
    assert_eq!((error.kind.as_ref(), error.message.as_ref()), ("rejected", "rejected by user:a: because"));
    let mut world = gate("onReject: cancel");
    cast(&mut world, "user:a", false);
    assert!(matches!(world.outcome(), Some(Outcome::Cancelled { .. })));
    let mut world = gate("onReject: after");
    cast(&mut world, "user:a", false);
    completed(&world);
    assert_eq!(world.context("steps.gate.approved"), json("false"));
}

#[test]
fn a_deadline_times_out_approves_rejects_or_goes_elsewhere() {
    let mut world = gate("quorum: 1");
    world.pass(59);
    assert_eq!(world.root().activity(), Activity::Approval);
    world.pass(1);
    assert!(matches!(world.outcome(), Some(Outcome::TimedOut { .. })));
    let mut world = gate("onTimeout: approve");
    world.pass(60);
    completed(&world);
    let mut world = gate("onTimeout: reject");
    world.pass(60);
    assert_eq!(failed(&world).kind.as_ref(), "rejected");
    let mut world = gate("onTimeout: after");
    world.pass(60);
    assert_eq!(world.context("steps.gate.decision"), json("\"timeout\""));
}

#[test]
fn a_pause_stops_the_clocks_of_every_scope() {
    let mut world = World::new(
        "
id: clocks
timeoutSeconds: 1000
states:
  - id: both
    type: parallel
    branches:
      - {name: timer, states: [{id: rest, type: wait, duration: 100}]}
      - {name: work, states: [{id: ask, type: agent, agent: x, next: more}, {id: more, type: agent, agent: y}]}
",
        |asked| if asked.agent == "x" { None } else { ok("1") },
    );
    world.start(json("{}"));
    world.pass(40);
    world.control(Stimulus::Pause { by: None });
    world.pass(5_000);
    world.answer_late(0, Ok(json("1")));
    assert_eq!(world.asked.len(), 1, "what was in flight is recorded, what follows waits");
    assert_eq!(world.scope("/both#1/timer").unwrap().activity(), Activity::Timer);
    world.control(Stimulus::Resume { by: None });
    assert_eq!(world.asked.len(), 2);
    world.pass(59);
    assert_eq!(world.scope("/both#1/timer").unwrap().activity(), Activity::Timer);
    world.pass(1);
    completed(&world);
}

#[test]
fn a_child_begun_while_its_run_is_paused_claims_nothing() {
    let source = "
id: late
states:
  - {id: check, type: foreach, itemsPath: items, maxConcurrency: 1, agent: x}
";
    let mut world = World::new(source, |_| None);
    world.start(json(r#"{"items": [1, 2]}"#));
    world.control(Stimulus::Pause { by: None });
    world.answer_late(0, Ok(json("1")));
    assert_eq!(world.asked.len(), 1);
    world.control(Stimulus::Resume { by: None });
    assert_eq!(world.asked.len(), 2);
    world.control(Stimulus::Pause { by: None });
    world.control(Stimulus::Resume { by: None });
    world.answer_late(0, Ok(json("2")));
    completed(&world);
}

#[test]
fn cancel_reaches_every_scope_and_nothing_new_starts() {
    let mut world = branches("{mode: all}", |_| None);
    world.control(Stimulus::Cancel { by: Some("user:a".into()), reason: Some("enough".into()) });
    assert_eq!(world.outcome(), Some(&Outcome::Cancelled { reason: Some("enough".into()) }));
    for (path, scope) in world.scopes() {
        assert!(matches!(scope.outcome(), Some(Outcome::Cancelled { .. })), "{path}");
    }
    let refusal = world.control(Stimulus::Cancel { by: None, reason: None }).refusal;
    assert!(matches!(refusal, Some(Refusal::Over(_))));
    assert_eq!(world.asked.len(), 3);
}

#[test]
fn a_redrive_repeats_what_failed_and_nothing_else() {
    let broken = Rc::new(RefCell::new(true));
    let mut world = branches("{mode: all}", {
        let broken = broken.clone();
        move |agent| match agent {
            "two" if *broken.borrow() => Some(Err(failure("agent_error", true))),
            _ => ok(&format!("\"{agent}\"")),
        }
    });
    failed(&world);
    let first: Vec<_> = world.asked.iter().map(|asked| (asked.agent.clone(), asked.key.clone())).collect();
    *broken.borrow_mut() = false;
    world.control(Stimulus::Redrive { by: None });
    completed(&world);
    assert_eq!(world.context("steps.gather"), json(r#"{"one": "one", "two": "two", "three": "three"}"#));
    let again: Vec<_> = world.asked.iter().skip(first.len()).collect();
    let count = |name: &str| world.asked.iter().filter(|asked| asked.agent == name).count();
    assert_eq!((count("one"), count("two"), count("three"), count("after")), (1, 2, 1, 1));
    assert!(
        again.iter().all(|asked| first.iter().all(|(_, key)| *key != asked.key)),
        "a definite failure gets a new key"
    );
    assert_eq!(world.control(Stimulus::Redrive { by: None }).refusal, Some(Refusal::NotFailed));
}

#[test]
fn a_redrive_of_an_attempt_nobody_knows_about_keeps_its_key() {
    let source = "
id: unknown
states:
  - {id: pay, type: agent, agent: x}
";
    let mut world = World::new(source, |asked| match asked.attempt {
        1 => Some(Err(failure("timeout", false))),
        _ => ok("1"),
    });
    world.start(json("{}"));
    failed(&world);
    world.control(Stimulus::Redrive { by: None });
    completed(&world);
    assert_eq!(world.asked[0].key, world.asked[1].key);
}

#[test]
fn a_redriven_run_gets_its_time_again() {
    let source = "
id: timed
timeoutSeconds: 60
states:
  - {id: rest, type: wait, duration: 90}
";
    let mut world = World::new(source, |_| ok("1"));
    world.start(json("{}"));
    world.pass(60);
    assert!(matches!(world.outcome(), Some(Outcome::TimedOut { .. })));
    world.control(Stimulus::Redrive { by: None });
    assert_eq!(world.root().activity(), Activity::Timer);
    world.pass(59);
    assert_eq!(world.root().activity(), Activity::Timer);
}

#[test]
fn a_redriven_state_is_held_to_its_time_again() {
    let source = "
id: limited
states:
  - {id: both, type: parallel, timeoutSeconds: 60, branches: [{name: a, agent: x}, {name: b, agent: y}]}
";
    let mut world = World::new(source, |_| None);
    world.start(json("{}"));
    world.pass(60);
    assert_eq!(failed(&world).code.as_deref(), Some("STATE_TIMED_OUT"));
    world.control(Stimulus::Redrive { by: None });
    assert_eq!(world.root().activity(), Activity::Fork);
    world.pass(59);
    assert_eq!(world.root().activity(), Activity::Fork);
    world.pass(1);
    assert_eq!(failed(&world).code.as_deref(), Some("STATE_TIMED_OUT"));
}

#[test]
fn a_failed_child_cancelled_before_it_hears_of_its_redrive_ends_anew() {
    let mut world = branches("{mode: all, onFailure: wait}", |agent| match agent {
        "one" => Some(Err(failure("agent_error", true))),
        _ => ok("1"),
    });
    failed(&world);
    // Both reach the root before any child hears of either.
    world.give(&ScopePath::root(), Stimulus::Redrive { by: None });
    world.give(&ScopePath::root(), Stimulus::Cancel { by: None, reason: None });
    world.settle();
    assert!(matches!(world.outcome(), Some(Outcome::Cancelled { .. })), "at {:?}", world.root().activity());
}

#[test]
fn early_signals_are_kept_and_each_waiter_gets_its_own() {
    let mut world = World::new(
        "
id: signals
states:
  - {id: rest, type: wait, duration: 10, next: second}
  - {id: second, type: signal, signal: two, next: first}
  - {id: first, type: signal, signal: one, next: again}
  - {id: again, type: signal, signal: one, timeoutSeconds: 30, onTimeout: end, next: end}
  - {id: end, type: succeed, output: {first: '{{ steps.first }}', again: '{{ steps.again }}'}}
",
        |_| None,
    );
    world.start(json("{}"));
    world.signal("one", json("1"));
    world.signal("two", json("2"));
    world.pass(10);
    assert_eq!(world.root().activity(), Activity::Signal);
    world.pass(30);
    assert_eq!(completed(&world), &json(r#"{"first": 1, "again": null}"#));
}

#[test]
fn a_late_result_is_noted_and_changes_nothing() {
    let source = "
id: late
states:
  - {id: a, type: agent, agent: x, next: b}
  - {id: b, type: wait, duration: 10}
";
    let mut world = World::new(source, |asked| if asked.epoch == 1 { None } else { ok("\"second\"") });
    world.start(json("{}"));
    world.workers_die();
    assert_eq!(world.root().activity(), Activity::Timer);
    world.answer_late(0, Ok(json("\"first\"")));
    assert_eq!(world.context("steps.a"), json("\"second\""));
    assert!(world.events("/").iter().any(|event| matches!(event, Event::LateResult { epoch: 1, .. })));
    world.pass(10);
    completed(&world);
}

#[test]
fn a_rejection_in_a_branch_can_cancel_the_run() {
    let mut world = World::new(
        "
id: gates
states:
  - id: both
    type: parallel
    branches:
      - {name: ask, states: [{id: gate, type: human_approval, message: 'Go?', onReject: cancel}]}
      - {name: work, agent: x}
",
        |_| None,
    );
    world.start(json("{}"));
    let approval = approval_id(&world, "/both#1/ask");
    world.give(
        &ScopePath::from_stored("/both#1/ask"),
        Stimulus::Vote { approval, vote: vote("user:a", false) },
    );
    world.settle();
    assert!(matches!(world.outcome(), Some(Outcome::Cancelled { reason: Some(_) })));
    assert!(world.scope("/both#1/work").unwrap().outcome().is_some());
}

#[test]
fn a_branch_gives_what_it_wrote_or_its_last_output() {
    let mut world = World::new(
        "
id: outputs
states:
  - id: both
    type: parallel
    branches:
      - {name: writes, states: [{id: a, type: agent, agent: x, resultPath: pods, next: b}, {id: b, type: agent, agent: x, resultPath: logs}]}
      - {name: last, states: [{id: c, type: agent, agent: x, resultPath: pods, next: d}, {id: d, type: agent, agent: x, resultPath: steps.d}]}
      - {name: own, states: [{id: e, type: agent, agent: x}], output: {e: '{{ steps.e }}'}}
",
        |asked| ok(&format!("\"{}\"", asked.state)),
    );
    world.start(json("{}"));
    assert_eq!(
        completed(&world),
        &json(r#"{"writes": {"pods": "a", "logs": "b"}, "last": "d", "own": {"e": "e"}}"#)
    );
}

/// It is over for its state, not yet for its children: a deadline that rang for it would ring for ever.
#[test]
fn a_fork_that_is_released_has_no_deadline_any_more() {
    let mut world = World::new(
        "
id: race
states:
  - {id: both, type: parallel, join: {mode: any}, timeoutSeconds: 60, branches: [{name: a, agent: x}, {name: b, agent: y}]}
",
        |_| None,
    );
    world.start(json("{}"));
    assert!(world.root().due().is_some());
    let fork = match &world.events("/both#1/a")[0] {
        Event::ScopeStarted(started) => started.fork,
        other => panic!("{other:?}"),
    };
    let outcome = Outcome::Completed { output: json("1") };
    let ended = vec![ChildEnded { index: 0, seq: 2, outcome }];
    world.give(&ScopePath::root(), Stimulus::ChildrenEnded { fork, ended });
    assert!(world.events("/").iter().any(|event| matches!(event, Event::ChildrenReleased {})));
    assert_eq!((world.root().activity(), world.root().due()), (Activity::Fork, None));
}

/// Two workers may hand in the same end at once: the journal has it once.
#[test]
fn an_end_that_is_told_twice_counts_once() {
    let mut world = World::new(
        "
id: both
states:
  - {id: both, type: parallel, branches: [{name: a, agent: x}, {name: b, agent: y}]}
",
        |_| None,
    );
    world.start(json("{}"));
    let fork = match &world.events("/both#1/a")[0] {
        Event::ScopeStarted(started) => started.fork,
        other => panic!("{other:?}"),
    };
    let end = |seq| {
        let outcome = Outcome::Completed { output: json("1") };
        ChildEnded { index: 0, seq, outcome }
    };
    world.give(&ScopePath::root(), Stimulus::ChildrenEnded { fork, ended: vec![end(2), end(2)] });
    let ended = world.events("/").into_iter().find_map(|event| match event {
        Event::ChildrenEnded { ended, .. } => Some(ended.len()),
        _ => None,
    });
    assert_eq!(ended, Some(1));
}

#[test]
fn a_redrive_keeps_to_the_concurrency() {
    let source = "
id: again
states:
  - {id: check, type: foreach, itemsPath: items, maxConcurrency: 2, onFailure: wait, agent: x}
";
    let mut calls = 0;
    let mut world = World::new(source, move |_| {
        calls += 1;
        if calls <= 5 { Some(Err(failure("agent_error", true))) } else { None }
    });
    world.start(json(r#"{"items": [1, 2, 3, 4, 5]}"#));
    assert_eq!(world.asked.len(), 5);
    failed(&world);
    world.control(Stimulus::Redrive { by: None });
    assert_eq!(world.unanswered.len(), 2);
    world.answer_late(0, Ok(json("1")));
    assert_eq!(world.unanswered.len(), 2);
    // What could not go on yet goes on after the next redrive.
    world.control(Stimulus::Cancel { by: None, reason: None });
    world.unanswered.clear();
    world.control(Stimulus::Redrive { by: None });
    world.workers_die();
    for left in (0..4).rev() {
        assert_eq!(world.unanswered.len(), 2.min(left + 1));
        world.answer_late(0, Ok(json("1")));
    }
    assert_eq!(completed(&world), &json(r#"{"results": [1, 1, 1, 1, 1], "count": 5}"#));
}

#[test]
fn finally_runs_though_the_time_is_over_before_it_begins() {
    // Of one of these lengths the block ends where the record is full, and the next one is made after the deadline.
    for length in 1..70 {
        for (inner, outer) in [("timeoutSeconds: 10,", ""), ("", "timeoutSeconds: 10,")] {
            let states: Vec<String> = (0..length)
                .map(|index| {
                    let next =
                        if index + 1 < length { format!("next: s{}", index + 1) } else { "end: true".into() };
                    format!("{{id: s{index}, type: inject, resultPath: some, data: {{x: 1}}, {next}}}")
                })
                .collect();
            let states = states.join(", ");
            let source = format!(
                "
id: late
states:
  - {{id: outer, type: try, {outer} try: {{states: [{{id: inner, type: try, {inner}
      try: {{states: [{states}]}},
      finally: {{states: [{{id: last, type: inject, data: {{x: 1}}}}]}}}}]}},
      catch: {{states: [{{id: caught, type: inject, data: {{x: 2}}}}]}}}}
"
            );
            let mut world = World::new(&source, |_| None);
            world.slowness = jiff::SignedDuration::from_secs(20);
            world.start(json("{}"));
            let finally = Event::BlockEntered { block: stepwell_engine::BlockRole::Finally };
            assert!(world.events("/").contains(&finally), "{length} {inner}{outer}");
        }
    }
}
