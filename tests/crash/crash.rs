//! `stepwell serve` under a load of 200 runs of five workflows is killed with SIGKILL at random, fifty times, and started
//! again each time. Afterwards every run has ended as it should, and what its agents saw and what its journals say agree:
//! no step was performed again after its success was recorded, every repetition came under the same idempotency key,
//! each step succeeded once, and every journal is gapless.
//!
//! `STEPWELL_SEED` repeats a sequence of kills; the seed is printed.

// It is a test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod agents;
mod journals;
mod server;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use agents::Calls;
use journals::Success;
use serde_json::Value;
use serde_json::json;
use server::Server;

const RUNS: usize = 200;
const KILLS: usize = 50;
/// A server lives so long after it has begun to serve, at random.
const LIFE: std::ops::Range<u64> = 100..1_300;
/// A step that was under way when its server was killed is taken up again within this time: a life and a start, and far
/// less than a lease (30 s).
const AT_ONCE: jiff::SignedDuration = jiff::SignedDuration::from_secs(20);
/// Longer than all that is left then takes.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn killed_fifty_times_every_step_is_recorded_once() {
    let seed = std::env::var("STEPWELL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| std::hash::RandomState::new().hash_one(0));
    println!("STEPWELL_SEED={seed}");
    let mut random = Random(seed);
    let folder = tempfile::tempdir().unwrap();
    let calls = Calls::listen(folder.path());
    write_project(folder.path(), &calls);

    let mut load = Load::default();
    for life in 0..KILLS {
        let mut server = Server::start(folder.path());
        // New runs in most lives, so that each kill meets some that begin and some that are under way.
        let wanted = RUNS * (life + 1) / (KILLS - 5);
        load.drive(&server, wanted.min(RUNS), Duration::from_millis(random.within(LIFE)));
        server.kill();
        calls.wait_until_idle();
    }
    let mut server = Server::start(folder.path());
    let mut left = PATIENCE;
    while load.started.len() < RUNS || !load.are_all_over(&server) {
        load.drive(&server, RUNS, Duration::from_millis(200));
        left = left
            .checked_sub(Duration::from_millis(200))
            .unwrap_or_else(|| panic!("{} do not end: {:?}\n{}", load.open.len(), load.open, server.log()));
    }
    for (key, run) in &load.started {
        let (_, view) = server.get(&format!("/api/v1/workflow-runs/{run}")).unwrap();
        assert_eq!(view["status"], "COMPLETED", "{key}: {view}");
        assert_eq!(view["output"], expected(key), "{key}: {view}");
    }
    server.end();

    let successes = journals::read(&folder.path().join("stepwell.db"), load.started.values());
    check(&calls.all(), &successes);
}

/// What the agents saw against what is recorded.
fn check(calls: &[agents::Call], successes: &BTreeMap<String, Success>) {
    let mut keys = BTreeMap::<&str, BTreeSet<&str>>::new();
    for call in calls {
        keys.entry(&call.step).or_default().insert(&call.key);
        let Some(success) = successes.get(&call.step) else {
            panic!("step {} was performed and its success is in no journal", call.step);
        };
        assert!(
            call.at <= success.at,
            "step {} ({}) was performed at {} although its success was recorded at {}",
            call.step,
            success.state,
            call.at,
            success.at
        );
    }
    for (step, keys) in &keys {
        assert_eq!(keys.len(), 1, "no attempt failed, so step {step} has one key: {keys:?}");
    }
    for (step, success) in successes {
        assert!(keys.contains_key(step.as_str()), "{} succeeded and was never performed", success.state);
    }
    let mut times = BTreeMap::<&str, Vec<_>>::new();
    for call in calls {
        times.entry(&call.step).or_default().push(call.at);
    }
    for (step, times) in &mut times {
        times.sort();
        for pair in times.windows(2) {
            let gap = pair[1].duration_since(pair[0]);
            assert!(gap < AT_ONCE, "step {step} was taken up again after {gap:?}: it waited for its lease");
        }
    }
    let repeated = calls.len() - keys.len();
    println!("{} steps in {} calls, {repeated} of them repeated; {KILLS} kills", keys.len(), calls.len());
    assert!(repeated > KILLS, "the kills met few steps: the test shows little");
}

/// The runs, as whoever starts them knows them.
#[derive(Default)]
struct Load {
    /// By the client's key.
    started: BTreeMap<String, String>,
    open: BTreeSet<String>,
}

impl Load {
    /// For `time`: starts runs until there are `wanted`, and approves whatever is asked. A server that is busy dying
    /// answers nothing; the next one is asked again, under the same key.
    fn drive(&mut self, server: &Server, wanted: usize, time: Duration) {
        let mut left = time;
        loop {
            // Not all at once, so that a kill also meets those that begin.
            for _ in self.started.len()..wanted.min(self.started.len() + 2) {
                let _ = self.start(server);
            }
            let _ = approve_all(server);
            let pause = left.min(Duration::from_millis(50));
            sleep(pause);
            left -= pause;
            if left.is_zero() {
                return;
            }
        }
    }

    fn start(&mut self, server: &Server) -> Option<()> {
        let number = self.started.len();
        let key = format!("{}-{number}", WORKFLOWS[number % WORKFLOWS.len()].0);
        let workflow = WORKFLOWS[number % WORKFLOWS.len()].0;
        let body = json!({"workflowId": workflow, "input": {"number": number}});
        // Sometimes twice, as a client does that lost the answer.
        for _ in 0..=(number % 7 / 6) {
            let (status, answer) = server.post("/api/v1/workflow-runs", &body, Some(&key))?;
            assert!(status == 200 || status == 201, "{key}: {status} {answer}");
            let run = answer["runId"].as_str().unwrap().to_owned();
            let before = self.started.insert(key.clone(), run.clone());
            assert!(before.is_none_or(|before| before == run), "{key} started two runs");
            self.open.insert(run);
        }
        Some(())
    }

    fn are_all_over(&mut self, server: &Server) -> bool {
        self.open.retain(|run| {
            let view = server.get(&format!("/api/v1/workflow-runs/{run}")).map(|(_, view)| view);
            let status = view.as_ref().and_then(|view| view["status"].as_str());
            !matches!(status, Some("COMPLETED" | "FAILED" | "CANCELLED" | "TIMED_OUT"))
        });
        self.open.is_empty()
    }
}

fn approve_all(server: &Server) -> Option<()> {
    let (_, list) = server.get("/api/v1/workflow-approvals?limit=1000")?;
    for asked in list["items"].as_array().unwrap() {
        let (run, id) = (asked["runId"].as_str().unwrap(), asked["approvalId"].as_str().unwrap());
        let path = format!("/api/v1/workflow-runs/{run}/approvals/{id}/approve");
        let (status, answer) = server.post(&path, &json!({"approver": "user:ann"}), None)?;
        assert!(status == 200 || status == 409, "{status} {answer}");
    }
    Some(())
}

/// Id and states.
const WORKFLOWS: [(&str, &str); 5] = [
    (
        "sequence",
        "
  - {id: first, type: agent, agent: program, task: one, next: second}
  - {id: second, type: agent, agent: service, task: two, next: third}
  - {id: third, type: agent, agent: program, task: three, next: last}
  - {id: last, type: transform, expression: 'steps.third.n + ctx.number', end: true}
",
    ),
    (
        "branches",
        "
  - id: all
    type: parallel
    next: last
    branches:
      - {name: left, agent: program, task: left}
      - {name: middle, agent: service, task: middle}
      - id: right
        states:
          - {id: before, type: agent, agent: service, task: before, next: after}
          - {id: after, type: agent, agent: service, task: after, end: true}
  - {id: last, type: transform, expression: 'len(steps.all) + ctx.number', end: true}
",
    ),
    (
        "items",
        "
  - id: all
    type: foreach
    itemsPath: workflow.input.items
    maxConcurrency: 3
    next: last
    iterator:
      states: [{id: check, type: agent, agent: service, task: check, end: true}]
  - {id: last, type: transform, expression: 'steps.all.count + ctx.number', end: true}
",
    ),
    (
        "waits",
        "
  - {id: before, type: agent, agent: service, task: before, next: pause}
  - {id: pause, type: wait, duration: 2s, next: after}
  - {id: after, type: agent, agent: program, task: after, next: last}
  - {id: last, type: transform, expression: 'steps.after.n + ctx.number', end: true}
",
    ),
    (
        "asks",
        "
  - {id: before, type: agent, agent: program, task: before, next: ask}
  - {id: ask, type: approval, message: 'Run {{ ctx.number }}?', approvers: ['user:ann'], next: after}
  - {id: after, type: agent, agent: service, task: after, next: last}
  - {id: last, type: transform, expression: 'steps.after.n + ctx.number', end: true}
",
    ),
];

const INPUT: &str = "{type: object, required: [number], properties: {number: {type: integer}, \
                     items: {type: array, default: [1, 2, 3, 4, 5]}}}";

/// The output of the run with this key. Agents answer `{n: 1}`.
fn expected(key: &str) -> Value {
    let (workflow, number) = key.split_once('-').unwrap();
    let added = match workflow {
        "branches" => 3,
        "items" => 5,
        _ => 1,
    };
    json!(added + number.parse::<usize>().unwrap())
}

fn write_project(folder: &Path, calls: &Calls) {
    let write = |file: &str, text: String| {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (id, states) in WORKFLOWS {
        let text = format!("id: {id}\nversion: '1'\ninputSchema: {INPUT}\nstates:{states}");
        write(&format!("workflows/{id}.workflow.yaml"), text);
    }
    write("agents/service.agent.yaml", format!("type: http\nmethod: POST\nurl: http://{}/\n", calls.address));
    // As the service: slow at first, quick when it is asked again.
    let script = format!(
        "grep -q $STEPWELL_STEP_ID {calls} && pause=0.005 || pause=0.5; \
         echo \"$(date +%s%N) $STEPWELL_STEP_ID $STEPWELL_IDEMPOTENCY_KEY\" >> {calls}; sleep $pause; echo '{{\"n\": 1}}'",
        calls = calls.file.display()
    );
    std::fs::write(&calls.file, "").unwrap();
    let command = json!(["sh", "-c", script]);
    write("agents/program.agent.yaml", format!("type: command\ncommand: {command}\ninherit: [PATH]\n"));
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        range.start + (mixed ^ (mixed >> 31)) % (range.end - range.start)
    }
}
