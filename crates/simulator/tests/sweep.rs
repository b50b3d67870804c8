//! The crash-point sweep: every golden workflow, every call that a clean run makes of its ports, every way in which that
//! call can go wrong. Afterwards the run is where the clean one is, by the same way, and nothing was done that was done.
//!
//! A golden workflow is a case of the conformance corpus: its stubs, people, signals and clock are the world. A process
//! that dies leaves nothing but its store; the next one is alone with it and takes everything up (the embedded home), or
//! shares it and finds what was left by leases and due entries alone. Clients ask again, with the same ids.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // It is a test.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use engine::Event;
use engine::Record;
use engine::ScopeKey;
use engine::StepId;
use jiff::Timestamp;
use runtime::memory::Fault;
use serde_json::Value;
use testing::Account;
use testing::Conditions;
use testing::End;
use testing::Mishap;
use testing::Noted;
use testing::Rehearsal;

/// Where a golden workflow is swept.
#[derive(Clone, Copy, PartialEq)]
enum In {
    /// Where a process is alone with its store and what one leaves is taken up at once; and only by deaths, because the tenths
    /// of a second after which a store that failed is asked again decide whom an agent's next answer is for.
    Deaths,
    /// Where a process is alone with its store. When it fails, those tenths decide which of two branches is first, and so the
    /// way: what the case expects holds either way.
    Either,
    /// Where a process is alone with its store.
    Alone,
    /// There, and where processes share it: what one leaves is found minutes later, so only where no time of day, deadline
    /// or person decides about the outcome.
    Both,
}
use In::Alone;
use In::Both;
use In::Deaths;
use In::Either;

/// Each feature of the language, each way to join, to time out, to decide, to wait and to be controlled: the file in the
/// corpus, the beginning of the case's name, and where it is swept.
const GOLDEN: &[(&str, &str, In)] = &[
    ("sequence/three-steps", "states follow", Both),
    ("sequence/three-steps", "an error ends", Both),
    ("sequence/skipped", "a state whose `if` is false", Both),
    ("switch/routes", "of two conditions", Both),
    ("inject/rendered", "templates keep", Both),
    ("transform/programs", "a program's last", Both),
    ("operation/http-and-log", "http.call", Both),
    ("cron/nightly", "a run started by a tick", Both),
    ("fail/succeed", "succeed ends", Both),
    ("retry/backoff", "attempts are repeated", Alone),
    ("retry/backoff", "the first attempt counts", Both),
    ("retry/caught", "a catch matches", Both),
    ("retry/in-a-branch", "a branch given", Both),
    ("try/guarded", "a caught error", Both),
    ("try/guarded", "another error", Both),
    ("try/loop", "each round", Both),
    ("while/nested", "loops nest", Both),
    ("parallel/nested", "branches have branches", Both),
    ("parallel/fail-fast", "the first failure cancels", Alone),
    ("parallel/wait", "all end first", Alone),
    ("parallel/any", "the first that succeeds", Alone),
    ("parallel/any", "when all fail", Either),
    ("parallel/any-array", "of N", Alone),
    ("parallel/loop", "a fork that is come back", Both),
    ("foreach/results", "the same states", Deaths),
    ("foreach/concurrency", "no more than", Alone),
    ("foreach/fail-fast", "by default", Alone),
    ("foreach/failures", "with wait", Deaths),
    ("foreach/waits", "iterations may wait", Alone),
    // The longer a wait, the more sweeps in which nothing is to be done: these are short.
    ("expressions/now-in-output", "now is when", Alone),
    ("pause/until", "an absolute time", Alone),
    ("timeout/operation", "one that does not", Alone),
    ("timeout/composite", "a composite state", Alone),
    ("timeout/blocks", "the timeout of a foreach", Alone),
    ("timeout/blocks", "a try does not", Alone),
    ("timeout/run", "a run that takes longer", Alone),
    ("approval/gate", "an approval shows", Alone),
    ("approval/gate", "a rejection fails", Alone),
    ("approval/gate", "without an answer", Alone),
    ("approval/quorum", "as many approvals", Alone),
    ("approval/routes", "a rejection goes", Alone),
    ("approval/routes", "a deadline goes", Alone),
    ("approval/in-a-branch", "an approval suspends", Alone),
    ("approval/twice", "another decision", Alone),
    ("signal/deploy", "a signal ends", Alone),
    ("signal/deploy", "one that came early", Alone),
    ("signal/deploy", "one of another name", Alone),
    ("signal/timeout", "onTimeout goes", Alone),
    ("signal/everyone", "every waiter", Alone),
    ("subworkflow/nested", "children have children", Both),
    ("subworkflow/nested", "cancelling the run", Alone),
    ("subworkflow/waits", "a child's approval", Alone),
    ("pause/in-flight", "an attempt in flight", Alone),
    ("pause/branches", "a pause holds", Alone),
    ("pause/clocks", "a pause moves an approval", Alone),
    ("pause/retry", "a pause moves the next", Alone),
    ("status/waiting", "paused it says", Alone),
    ("cancel/cancel", "nothing begins", Alone),
    ("cancel/cancel", "a paused run", Alone),
    ("redrive/sequence", "a redrive goes on", Alone),
    ("redrive/branches", "a redrive goes to", Alone),
];

const FAULTS: [Fault; 4] = [Fault::DieBefore, Fault::DieAfter, Fault::Before, Fault::After];

#[test]
fn whatever_call_goes_wrong_the_run_comes_to_the_same() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut golden: Vec<Golden> = GOLDEN
        .iter()
        .map(|(file, case, home)| {
            Golden::read(&root.join(format!("tests/conformance/{file}.test.yaml")), file, case, *home)
        })
        .collect();
    let root = root.canonicalize().unwrap();
    let beside = root.ancestors().skip(1).map(|folder| folder.join("shared/acceptance"));
    match beside.into_iter().find(|folder| folder.is_dir()) {
        Some(folder) => golden.extend(acceptance(&folder)),
        // What is printed by macros is not shown where all is well.
        None => writeln!(
            std::io::stderr(),
            "sweep: no acceptance workflows, there is no shared/acceptance beside the project"
        )
        .unwrap(),
    }
    // One alone, to look at: SWEEP=approval/gate.
    let only = std::env::var("SWEEP").unwrap_or_default();
    golden.retain(|golden| golden.name.contains(&only));
    let next = AtomicUsize::new(0);
    let swept: Mutex<BTreeMap<usize, Swept>> = Mutex::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(golden) = golden.get(index) else { return };
            let done = golden.sweep();
            println!("{:>5} crash points, {:>3} wrong  {}", done.points, done.wrong.len(), golden.name);
            swept.lock().unwrap().insert(index, done);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let swept = swept.into_inner().unwrap();
    let mut wrong = Vec::new();
    for (golden, swept) in golden.iter().zip(swept.values()) {
        wrong.extend(swept.wrong.iter().map(|(point, what)| format!("{}, {point}:\n{what}", golden.name)));
    }
    let points: usize = swept.values().map(|swept| swept.points).sum();
    println!("{points:>5} crash points in {} workflows", golden.len());
    for what in &wrong {
        println!("\n{what}");
    }
    assert!(wrong.is_empty(), "{} crash points of {points} lead elsewhere", wrong.len());
}

/// The tests beside the acceptance workflows.
fn acceptance(folder: &Path) -> Vec<Golden> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
        .iter()
        .map(|folder| {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            (folder.join(format!("{name}.test.yaml")), name)
        })
        .filter(|(path, _)| path.is_file())
        .flat_map(|(path, name)| {
            let cases = parse(&path).cases;
            let started = cases.into_iter().filter(|case| case.expect.refused.is_none());
            let home = |case: &str| if case.starts_with("one failing branch") { Either } else { Alone };
            started.map(|case| Golden::read(&path, &name, &case.name, home(&case.name))).collect::<Vec<_>>()
        })
        .collect()
}

fn parse(path: &Path) -> testing::File {
    let source = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    testing::File::parse(&source, path).unwrap_or_else(|issues| panic!("{}: {issues:?}", path.display()))
}

/// A case, and where it is swept.
struct Golden {
    name: String,
    case: testing::Case,
    rehearsal: Rehearsal,
    home: In,
}

/// What came of the sweep of one case.
#[derive(Default)]
struct Swept {
    points: usize,
    /// The points that lead elsewhere, and where.
    wrong: Vec<(String, String)>,
}

impl Golden {
    fn read(path: &Path, file: &str, case: &str, home: In) -> Self {
        let parsed = parse(path);
        let case = parsed.cases.iter().find(|known| known.name.starts_with(case)).cloned();
        let case = case.unwrap_or_else(|| panic!("{file} has no such case"));
        Self {
            name: format!("{file}: {}", case.name),
            rehearsal: Rehearsal::of(&parsed).unwrap(),
            case,
            home,
        }
    }

    fn play(&self, shared: bool, mishap: Option<Mishap>) -> Account {
        self.rehearsal.play(&self.case, &testing::in_memory, Conditions { shared, mishap })
    }

    fn sweep(&self) -> Swept {
        let mut swept = Swept::default();
        for shared in [false, true] {
            if shared && self.home != Both {
                continue;
            }
            let clean = self.play(shared, None);
            if let Err(why) = sound(&clean) {
                swept.wrong.push(("without a fault".to_owned(), why));
                continue;
            }
            for (fault, (call, name)) in
                FAULTS.iter().flat_map(|fault| clean.calls.iter().enumerate().map(move |call| (*fault, call)))
            {
                if !self.can_happen(fault, name) {
                    continue;
                }
                swept.points += 1;
                let mishap = Mishap { call: u64::try_from(call).unwrap(), fault };
                let account = self.play(shared, Some(mishap));
                let delays = self.home == Either && matches!(fault, Fault::Before | Fault::After);
                let done =
                    sound(&account).and_then(|()| if delays { Ok(()) } else { same(&clean, &account) });
                if let Err(why) = done {
                    let home = if shared { "shared" } else { "alone" };
                    let timeline = account.timeline.join("\n  ");
                    let point = format!("{fault:?} at call {call} ({name}), {home}");
                    swept.wrong.push((point, format!("{why}\n  {timeline}")));
                }
            }
        }
        swept
    }

    /// A doorbell that got lost on the way to its receiver is for the queue to deliver again; a sleep does not fail; and an
    /// agent that does not answer has used up an attempt, which is another story. Whom nobody rings the sweeper finds, in a
    /// minute.
    fn can_happen(&self, fault: Fault, call: &str) -> bool {
        match (fault, call) {
            (Fault::DieBefore | Fault::DieAfter, _) => true,
            (_, "receive" | "sleep" | "perform") => false,
            (Fault::Before, "ring") => self.home == Both,
            _ => self.home != Deaths,
        }
    }
}

/// What holds whatever happened: the case's own expectations, journals without a gap whose records hold each other by their
/// hashes, every success recorded once and its step not performed afterwards, one key for what may repeat an effect, and
/// lists that say what the journals say.
fn sound(account: &Account) -> Result<(), String> {
    if !account.failures.is_empty() {
        return Err(format!("not as the case expects: {:#?}", account.failures));
    }
    let end = account.end.as_ref().ok_or("it did not start")?;
    for (scope, records) in &end.journals {
        let mut prev = "".into();
        for (number, stored) in (1..).zip(records) {
            let record = Record::decode(&stored.body).map_err(|error| error.to_string())?;
            if (record.seq, &record.prev) != (number, &prev) {
                return Err(format!("{scope} has a gap before record {}", record.seq));
            }
            if engine::hash(&stored.body) != stored.hash {
                return Err(format!("record {number} of {scope} is not what its hash says"));
            }
            prev = stored.hash.clone();
        }
    }
    nothing_is_done_twice(account)?;
    let listed = end.listed.as_ref().ok_or("it is in no list")?;
    let shown = (listed.status.to_string(), listed.stuck.as_deref());
    if shown != (end.status.clone(), None) {
        return Err(format!("lists say {shown:?}, the journals {}", end.status));
    }
    Ok(())
}

fn nothing_is_done_twice(account: &Account) -> Result<(), String> {
    let mut entered: BTreeMap<ScopeKey, (String, u32)> = BTreeMap::new();
    let mut succeeded: BTreeSet<String> = BTreeSet::new();
    // The key of each attempt; after a redrive, attempts are counted anew.
    let mut keys: BTreeMap<(String, u32), String> = BTreeMap::new();
    for noted in &account.notes {
        match noted {
            Noted::Appended(scope, record) => {
                for event in Record::decode(&record.body).map_err(|error| error.to_string())?.events {
                    match event {
                        Event::StateEntered { state, visit, .. } => {
                            let name = state.rsplit('/').next().unwrap_or_default().to_owned();
                            entered.insert(scope.clone(), (name, visit));
                        }
                        Event::StepSucceeded { .. } => {
                            let (state, visit) = &entered[scope];
                            let step = StepId::new(&scope.run, &scope.path, state, *visit);
                            if !succeeded.insert(step.as_str().to_owned()) {
                                return Err(format!("{scope} {state}#{visit} succeeded twice"));
                            }
                        }
                        Event::Redriven { .. } => keys.clear(),
                        _ => {}
                    }
                }
            }
            Noted::Called(call) => {
                let step = call.step.as_str().to_owned();
                if succeeded.contains(&step) {
                    return Err(format!("{} of {} was performed after its success", call.state, call.scope));
                }
                let key = keys.entry((step, call.attempt)).or_insert_with(|| call.key.to_string());
                if **key != *call.key {
                    return Err(format!(
                        "{} of {}: {key} became {} in epoch {}",
                        call.state, call.scope, call.key, call.epoch
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Whether a run came to the same end as the clean one, by the same way; times and repeated attempts aside.
fn same(clean: &Account, account: &Account) -> Result<(), String> {
    let (Some(clean), Some(end)) = (&clean.end, &account.end) else { return Err("one did not start".into()) };
    differ("the status", &clean.status, &end.status)?;
    differ("the way", &clean.trail, &end.trail)?;
    let shown = |value: &expression::Value| timeless(serde_json::to_value(value).unwrap());
    differ("the output", &clean.output.as_ref().map(shown), &end.output.as_ref().map(shown))?;
    differ("the context", &shown(&clean.context), &shown(&end.context))?;
    let error = |end: &End| end.error.as_ref().map(|error| timeless(serde_json::to_value(error).unwrap()));
    differ("the error", &error(clean), &error(end))?;
    let (clean, came) = (stories(clean), stories(end));
    for scope in clean.keys().chain(came.keys()).collect::<BTreeSet<_>>() {
        // What was cancelled got as far as it got.
        let cancelled = |story: Option<&Vec<String>>| {
            story.is_none_or(|story| story.last().is_some_and(|last| last.contains("\"cancelled\"")))
        };
        let (clean, came) = (clean.get(scope), came.get(scope));
        if cancelled(clean) && cancelled(came) {
            continue;
        }
        differ(&format!("the story of {scope}"), &clean, &came)?;
    }
    Ok(())
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, clean: &T, came: &T) -> Result<(), String> {
    if clean == came { Ok(()) } else { Err(format!("{what}:\n- {clean:?}\n+ {came:?}")) }
}

/// What happened in each scope, as far as it must be the same: not who claimed what how often, not in how many records a
/// scope heard of its children, not when.
fn stories(end: &End) -> BTreeMap<String, Vec<String>> {
    let mut stories = BTreeMap::new();
    for (scope, records) in &end.journals {
        let mut story = Vec::new();
        let mut ended: BTreeSet<String> = BTreeSet::new();
        let events = records.iter().flat_map(|stored| Record::decode(&stored.body).unwrap().events);
        for event in events {
            match event {
                // An attempt that was in flight ends before a resume, or after it when it had to be performed again.
                Event::StepClaimed { .. }
                | Event::LateResult { .. }
                | Event::ChildrenLaunched { .. }
                | Event::Paused { .. }
                | Event::Resumed { .. } => {}
                Event::ChildrenEnded { ended: children, .. } => {
                    ended.extend(children.into_iter().map(|child| {
                        timeless(serde_json::json!({"child": child.index, "as": child.outcome})).to_string()
                    }));
                }
                event => {
                    story.extend(std::mem::take(&mut ended));
                    story.push(timeless(serde_json::to_value(&event).unwrap()).to_string());
                }
            }
        }
        story.extend(ended);
        stories.insert(scope.to_string(), story);
    }
    stories
}

/// Without times, and without what counts records and claims.
fn timeless(value: Value) -> Value {
    match value {
        Value::String(text) if text.parse::<Timestamp>().is_ok() => "(a time)".into(),
        Value::Array(items) => items.into_iter().map(timeless).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| !matches!(name.as_str(), "epoch" | "fork" | "shift"))
            .map(|(name, value)| (name, timeless(value)))
            .collect(),
        other => other,
    }
}
