//! `timeline`.

use engine::RunId;
use engine::ScopePath;
use jiff::Timestamp;
use runtime::Runtime;

use super::Held;
use super::Violation;
use super::broken;
use super::ledger::Ledger;

const NAME: &str = "timeline";
/// All at once, as far as a history goes.
const ALL: usize = 10_000;
/// Pages in which it is read again.
const PAGES: usize = 5;

/// An entry's place: time, scope, record, event.
type Place = (Timestamp, ScopePath, u64, u32);

/// At the end each run's timeline has every event of every record observed in it once, its inbox's included, in the order of
/// time, then scope, then number; so in an order consistent with each journal. Small pages give the same as one large one.
/// When no read fails.
pub(super) async fn finish(ledger: &Ledger, runtime: &Runtime) -> Held {
    for run in ledger.runs.keys() {
        let mut expected = Vec::new();
        let mut records = 0;
        for line in ledger.scopes(run) {
            records += line.records.len();
            for record in &line.records {
                for (index, event) in (0..).zip(&record.events) {
                    expected.push(((record.at, line.key.path.clone(), record.seq, index), event));
                }
            }
        }
        expected.sort_by(|left, right| left.0.cmp(&right.0));
        let whole = read(runtime, run, ALL).await?;
        if whole.len() != expected.len() {
            let (found, expected) = (whole.len(), expected.len());
            return broken(NAME, format!("run {run}: {found} entries for {expected} events"));
        }
        for (found, (place, event)) in whole.iter().zip(&expected) {
            if found.0 != *place {
                return broken(NAME, format!("run {run}: {:?} where {place:?} belongs", found.0));
            }
            if Some(&found.1) != serde_json::to_value(event).ok().as_ref() {
                return broken(NAME, format!("run {run}: {place:?} is shown as {}", found.1));
            }
        }
        let paged = read(runtime, run, (records / PAGES).max(1)).await?;
        if !paged.iter().map(|found| &found.0).eq(expected.iter().map(|expected| &expected.0)) {
            return broken(NAME, format!("run {run}: small pages give another timeline than a large one"));
        }
    }
    Ok(())
}

async fn read(
    runtime: &Runtime,
    run: &RunId,
    limit: usize,
) -> Result<Vec<(Place, serde_json::Value)>, Violation> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = match runtime.timeline(run, after.as_deref(), limit).await {
            Ok(page) => page,
            Err(error) => return broken(NAME, format!("run {run}: {error}")),
        };
        if page.items.is_empty() {
            return Ok(found);
        }
        found.extend(page.items.into_iter().map(|it| ((it.at, it.scope, it.seq, it.index), it.event)));
        if page.next == after {
            return broken(NAME, format!("run {run}: the page after {after:?} is the same again"));
        }
        after = page.next;
    }
}
