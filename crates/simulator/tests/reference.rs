//! Every case of the corpus, held against the reference: what the engine made of it is what the language says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // A test fails by panicking.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use engine::Event;
use engine::Outcome;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use expression::Value;
use parking_lot::Mutex;
use runtime::ports::DefinitionKind;
use runtime::ports::PageRequest;
use runtime::ports::RunFilter;
use stepwell_simulator::oracle;
use stepwell_simulator::oracle::Journals;
use stepwell_simulator::oracle::Verdict;
use stepwell_simulator::oracle::Workflows;
use testing::Home;

/// A case that was performed: its run, and all there is to know about it.
struct Performed {
    file: String,
    run: RunId,
    workflows: Workflows,
    journals: Journals,
}

#[test]
fn every_case_of_the_corpus_is_what_the_reference_says() {
    let mut cases = 0;
    let mut over = 0;
    let (mut scopes, mut moments) = (0, 0);
    let mut differences = Vec::new();
    let mut incomparable = Vec::new();
    let mut behind = Vec::new();
    for folder in corpora() {
        for performed in perform_all(&folder) {
            cases += 1;
            match oracle::compare(&performed.workflows, &performed.journals, &performed.run) {
                Ok(Verdict::Agrees(agreement)) => {
                    over += usize::from(agreement.over);
                    scopes += agreement.scopes;
                    moments += agreement.moments;
                    behind
                        .extend(agreement.behind.iter().map(|place| format!("{}: {place}", performed.file)));
                }
                Ok(Verdict::NotComparable(reason)) => {
                    incomparable.push(format!("{}: {reason}", performed.file));
                }
                Err(difference) => differences.push(format!("{}: {difference}", performed.file)),
            }
        }
    }
    println!("{cases} runs, {over} over, {scopes} scopes, {moments} moments; behind: {behind:#?}");
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n\n"));
    assert!(incomparable.is_empty(), "not comparable:\n{}", incomparable.join("\n"));
    assert!(cases > 200 && over > 200, "only {cases} cases, {over} over");
}

/// What may be changed in one event so that the journal tells of something that the language does not allow.
type Alteration = (&'static str, fn(&mut Event) -> bool);

const ALTERATIONS: &[Alteration] = &[
    ("another request", |event| match event {
        Event::StepClaimed { request: Some(request), .. } => {
            *request = Value::from(vec![request.clone()]);
            true
        }
        _ => false,
    }),
    ("another way on", |event| match event {
        Event::StateCompleted { next, .. } => {
            *next = if next.is_some() { None } else { Some("elsewhere".into()) };
            true
        }
        _ => false,
    }),
    ("another output", |event| match event {
        Event::StateCompleted { output: Some(output), .. } => {
            *output = Value::from(vec![output.clone()]);
            true
        }
        _ => false,
    }),
    ("one root key more", |event| match event {
        Event::StateCompleted { writes, .. } => {
            writes.push(("more".into(), Value::Null));
            true
        }
        _ => false,
    }),
    ("one visit more", |event| match event {
        Event::StateEntered { visit, .. } => {
            *visit += 1;
            true
        }
        _ => false,
    }),
    ("another decision", |event| match event {
        Event::ApprovalDecided { approved, .. } => {
            *approved = !*approved;
            true
        }
        _ => false,
    }),
    ("another kind of error", |event| match event {
        Event::ErrorRaised { error, .. } => {
            error.kind = "altered".into();
            true
        }
        _ => false,
    }),
    ("another clause", |event| match event {
        Event::ErrorCaught { clause, .. } => {
            *clause += 1;
            true
        }
        _ => false,
    }),
    ("one child more", |event| match event {
        Event::Forked { children, .. } => {
            *children += 1;
            true
        }
        _ => false,
    }),
    ("another end of a child", |event| match event {
        Event::ChildrenEnded { ended, .. } if matches!(ended[0].outcome, Outcome::Completed { .. }) => {
            ended[0].outcome = Outcome::Completed { output: "altered".into() };
            true
        }
        _ => false,
    }),
    ("another end", |event| match event {
        Event::Ended { outcome: Outcome::Completed { output } } => {
            *output = Value::from(vec![output.clone()]);
            true
        }
        Event::Ended { outcome: Outcome::Failed { error } } => {
            error.attempts += 1;
            true
        }
        _ => false,
    }),
];

/// The journals with the first event altered that can be, in whatever scope; every record still follows from the one before.
fn altered(journals: &Journals, alter: fn(&mut Event) -> bool) -> Option<Journals> {
    let mut journals = journals.clone();
    for stored in journals.values_mut() {
        let mut records: Vec<_> = stored.iter().map(|record| Record::decode(&record.body).unwrap()).collect();
        if !records.iter_mut().flat_map(|record| &mut record.events).any(alter) {
            continue;
        }
        let mut prev = Arc::from("");
        for (record, stored) in records.iter_mut().zip(stored) {
            record.prev = prev;
            *stored = record.encode().unwrap();
            prev = stored.hash.clone();
        }
        return Some(journals);
    }
    None
}

#[test]
fn what_the_language_does_not_allow_is_noticed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance");
    let performed: Vec<_> = ["approval", "foreach", "parallel", "subworkflow", "switch", "try"]
        .iter()
        .flat_map(|it| perform_all(&folder.join(it)))
        .collect();
    for (what, alter) in ALTERATIONS {
        let mut altered_runs = 0;
        for Performed { file, run, workflows, journals } in &performed {
            let Some(journals) = altered(journals, *alter) else { continue };
            altered_runs += 1;
            let verdict = oracle::compare(workflows, &journals, run);
            assert!(verdict.is_err(), "{file}: {what} was not noticed: {verdict:?}");
        }
        assert!(altered_runs > 3, "{what}: only {altered_runs} runs");
    }
}

/// The folders with cases: those of the repository, and those that stand beside it where there are any.
fn corpora() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = vec![repository.join("tests/conformance"), repository.join("examples")];
    folders.extend(
        repository.ancestors().take(4).map(|above| above.join("shared/acceptance")).find(|it| it.is_dir()),
    );
    folders
}

fn tests_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.to_string_lossy().ends_with(".test.yaml") {
            found.push(path);
        }
    }
}

fn perform_all(folder: &Path) -> Vec<Performed> {
    let mut paths = Vec::new();
    tests_below(folder, &mut paths);
    paths.iter().flat_map(|path| perform(path)).collect()
}

fn perform(path: &Path) -> Vec<Performed> {
    let text = std::fs::read_to_string(path).unwrap();
    let file = testing::File::parse(&text, path)
        .unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
    let homes: Arc<Mutex<Vec<Home>>> = Arc::default();
    let made = homes.clone();
    let reports = testing::run(&[file], 1, &move |clock| {
        let home = testing::in_memory(clock)?;
        made.lock().push(home.clone());
        Ok(home)
    });
    for report in &reports {
        assert!(report.failures.is_empty(), "{}: {}: {:?}", path.display(), report.name, report.failures);
    }
    let reading = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let name = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap_or(path);
    let file = name.display().to_string();
    let homes = std::mem::take(&mut *homes.lock());
    reading.block_on(async {
        let mut all = Vec::new();
        for home in homes {
            all.extend(read(&file, &home).await);
        }
        all
    })
}

/// The runs of a home that nobody's run started.
async fn read(file: &str, home: &Home) -> Vec<Performed> {
    let page = PageRequest { limit: 1000, cursor: None };
    let runs = home.catalog.runs(&RunFilter::default(), &page).await.unwrap().items;
    let mut journals = Journals::new();
    let mut workflows = Workflows::new();
    let mut roots = Vec::new();
    for summary in runs {
        for path in home.journal.scopes(&summary.run, None, 10_000).await.unwrap() {
            let key = ScopeKey::new(summary.run.clone(), path);
            let records = home.journal.read(&key, 0, 1_000_000).await.unwrap();
            journals.insert(key, records);
        }
        let root = Record::decode(&journals[&ScopeKey::root(summary.run.clone())][0].body).unwrap();
        let Some(Event::RunStarted(started)) = root.events.into_iter().next() else { panic!("no start") };
        let catalog = &home.catalog;
        let definition = catalog
            .pinned(DefinitionKind::Workflow, &started.workflow, &started.hash)
            .await
            .unwrap()
            .unwrap();
        let file = definition.file.as_deref().unwrap_or("workflow.yaml");
        let options = model::Options { file, ..model::Options::default() };
        let workflow = model::parse(&definition.source, &options).workflow.unwrap();
        workflows.insert(started.hash.clone(), Arc::new(workflow));
        if started.parent.is_none() {
            roots.push(summary.run);
        }
    }
    let performed = |run| Performed {
        file: file.to_owned(),
        run,
        workflows: workflows.clone(),
        journals: journals.clone(),
    };
    roots.into_iter().map(performed).collect()
}
