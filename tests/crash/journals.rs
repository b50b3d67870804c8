//! What the journals say in the end.

use std::collections::BTreeMap;
use std::path::Path;

use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use engine::StepId;
use jiff::Timestamp;
use runtime::ports::Journal as _;

/// A step that succeeded.
#[derive(Debug)]
pub(crate) struct Success {
    pub(crate) state: String,
    pub(crate) at: Timestamp,
}

/// Every success by its step's id. Each journal is gapless, its records are chained by their hashes, and no step succeeded
/// twice.
pub(crate) fn read<'r>(database: &Path, runs: impl Iterator<Item = &'r String>) -> BTreeMap<String, Success> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = sqlite::Store::open(database, &sqlite::Options::default()).unwrap();
    let mut successes = BTreeMap::new();
    for run in runs {
        let run = RunId::new(run.as_str());
        let mut scopes: Vec<ScopePath> = Vec::new();
        loop {
            let more = runtime.block_on(store.scopes(&run, scopes.last(), 100)).unwrap();
            if more.is_empty() {
                break;
            }
            scopes.extend(more);
        }
        assert!(!scopes.is_empty(), "{run} has no journal");
        for path in scopes {
            let key = ScopeKey::new(run.clone(), path);
            let records = runtime.block_on(store.read(&key, 0, usize::MAX)).unwrap();
            let (mut seq, mut hash, mut entered) = (0, "".into(), None);
            for stored in records {
                let record = Record::decode(&stored.body).unwrap();
                assert_eq!((record.seq, &record.prev), (seq + 1, &hash), "{key}");
                (seq, hash) = (record.seq, stored.hash);
                for event in record.events {
                    note(&key, &event, record.at, &mut entered, &mut successes);
                }
            }
        }
    }
    store.close();
    successes
}

fn note(
    scope: &ScopeKey,
    event: &Event,
    at: Timestamp,
    entered: &mut Option<(String, u32)>,
    successes: &mut BTreeMap<String, Success>,
) {
    match event {
        Event::StateEntered { state, visit, .. } => *entered = Some((state.to_string(), *visit)),
        Event::StepSucceeded { .. } => {
            let (state, visit) = entered.clone().unwrap();
            // An event says where the state stands (`all/right/before`), a step's id is of its name.
            let name = state.rsplit('/').next().unwrap();
            let step = StepId::new(&scope.run, &scope.path, name, visit);
            let before = successes.insert(step.as_str().to_owned(), Success { state: state.clone(), at });
            assert!(before.is_none(), "{scope}: {state} succeeded twice");
        }
        Event::StepFailed { .. } => panic!("{scope}: a step failed: {event:?}"),
        _ => {}
    }
}
