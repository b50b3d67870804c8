//! Schedules: at each tick a run starts, whose id is the tick's, so that one seen twice starts one run. A process that stays
//! looks when the next tick comes; a home without one each minute. Both look at a window of time, and need no memory for that.
//!
//! A tick older than the window was missed (nothing ran, or the machine slept). It is skipped, unless its schedule catches up:
//! then missed ticks are followed back to one whose run exists, and start theirs, the oldest first.

use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use engine::RunId;
use engine::Trigger;
use expression::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::Missed;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::watch;

use crate::Runtime;
use crate::error::Error;
use crate::error::StartError;
use crate::plans::parse;
use crate::ports::Definition;
use crate::ports::DefinitionKind;
use crate::ports::PageRequest;
use crate::runtime::later;
use crate::runtime::until;
use crate::view::StartRequest;

/// At the latest after this much time, the definitions are looked at again.
const LOOK: Duration = Duration::from_mins(1);
/// The window of a process that looks when the next tick comes.
const WINDOW: Duration = Duration::from_mins(1);
/// When a start has failed, it is tried again after so long.
const SETBACK: Duration = Duration::from_secs(5);
/// How far back a schedule catches up…
const BACK: Duration = Duration::from_hours(24);
/// …and at how many ticks.
const BACK_AT_MOST: usize = 100;

/// What a look at the schedules did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticked {
    /// Runs that were started.
    pub started: usize,
    /// Starts that failed and are worth another try, by the next look whose window holds their ticks.
    pub failed: usize,
    /// When to look again: at the next tick, and within a minute.
    pub next: Timestamp,
}

/// Starts runs for what has ticked within `window`, and for what was missed before where a schedule says so. May be called from
/// many processes at once, and as often as one likes; what calls it each minute gives a window of some minutes, so that
/// one call may fail. A tick from before its schedule was registered is none.
pub async fn tick(runtime: &Runtime, window: Duration) -> Result<Ticked, Error> {
    let schedules = runtime.schedules().await?;
    let now = runtime.now();
    let mut ticked = Ticked { started: 0, failed: 0, next: later(now, LOOK) };
    for schedule in schedules {
        if let Err(error) = fire_all(runtime, &schedule, now, window, &mut ticked).await {
            tracing::error!(workflow = %schedule.workflow, schedule = %schedule.name, %error, "a schedule could not start a run; trying again");
            ticked.failed += 1;
            ticked.next = ticked.next.min(later(now, SETBACK));
        }
        if let Some(next) = schedule.next(now) {
            ticked.next = ticked.next.min(next);
        }
    }
    Ok(ticked)
}

/// Fires schedules until told to stop.
pub(crate) async fn run(runtime: Runtime, mut stopped: watch::Receiver<bool>) {
    loop {
        let wake = match tick(&runtime, WINDOW).await {
            Ok(ticked) => ticked.next,
            Err(error) => {
                tracing::error!(%error, "schedules cannot be looked at; trying again");
                later(runtime.now(), SETBACK)
            }
        };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = runtime.ports().clock.sleep(until(runtime.now(), wake)) => {}
        }
    }
}

/// The id and the hash of a definition.
type Read = (Arc<str>, Arc<str>);

/// The schedules that this process has read.
#[derive(Default)]
pub(crate) struct Schedules {
    /// By the active definition.
    kept: Mutex<FxHashMap<Read, Vec<Arc<Schedule>>>>,
}

/// One schedule of one workflow.
struct Schedule {
    workflow: Arc<str>,
    name: Arc<str>,
    cron: Cron,
    zone: TimeZone,
    input: Value,
    catches_up: bool,
    registered_at: Timestamp,
    /// Ticks up to then have been seen to by this process.
    seen: Mutex<Option<Timestamp>>,
    /// Since when the schedule has been what it is, once that was asked.
    since: Mutex<Option<Timestamp>>,
}

impl Schedule {
    /// The first tick after `after`.
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let local = after.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&local, false).ok().map(|tick| tick.timestamp())
    }

    /// The ticks after `after`, up to and with `upto`.
    fn ticks(&self, after: Timestamp, upto: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(after), |tick| self.next(*tick)).take_while(move |tick| *tick <= upto)
    }

    fn run(&self, tick: Timestamp) -> RunId {
        RunId::from_tick(&self.workflow, &self.name, &tick.to_string())
    }

    /// A schedule was checked when its workflow was registered; one that cannot be read all the same is told and left out.
    fn read(definition: &Definition, schedule: &model::Schedule) -> Option<Self> {
        let cron = schedule.cron.parse::<Cron>();
        let zone =
            if schedule.timezone.is_empty() { Ok(TimeZone::UTC) } else { TimeZone::get(&schedule.timezone) };
        let (Ok(cron), Ok(zone)) = (cron, zone) else {
            tracing::warn!(workflow = %definition.id, schedule = %schedule.name, "a schedule cannot be read");
            return None;
        };
        Some(Self {
            workflow: definition.id.clone(),
            name: schedule.name.clone(),
            cron,
            zone,
            input: schedule.input.clone(),
            catches_up: schedule.missed == Missed::CatchUp,
            registered_at: definition.registered_at,
            seen: Mutex::default(),
            since: Mutex::default(),
        })
    }
}

/// Fires what one schedule has to, the oldest first; up to the first that fails, so that none before a run that exists is
/// missing.
async fn fire_all(
    runtime: &Runtime,
    schedule: &Schedule,
    now: Timestamp,
    window: Duration,
    ticked: &mut Ticked,
) -> Result<(), Error> {
    let earlier = |by| now.checked_sub(by).unwrap_or(Timestamp::MIN);
    let seen = *schedule.seen.lock();
    let from = seen.unwrap_or(Timestamp::MIN);
    let horizon = earlier(window).max(from);
    let oldest = if schedule.catches_up { earlier(BACK.max(window)).max(from) } else { horizon };
    let oldest =
        if oldest < schedule.registered_at { runtime.since(schedule).await?.max(oldest) } else { oldest };
    let mut due: Vec<Timestamp> = schedule.ticks(oldest, now).collect();
    // Those in the window may be in other hands at this moment; those before are missed, if their runs do not exist.
    let missed = due.partition_point(|tick| *tick <= horizon);
    let recent = due.split_off(missed);
    let mut lost = Vec::new();
    for tick in due.into_iter().rev().take(BACK_AT_MOST) {
        if runtime.core.ports.catalog.run(&schedule.run(tick)).await?.is_some() {
            break;
        }
        lost.push(tick);
    }
    lost.reverse();
    for tick in lost.into_iter().chain(recent) {
        // A look before a start is cheaper than a start in vain; who has looked before knows that there is none.
        let exists = seen.is_none() && runtime.core.ports.catalog.run(&schedule.run(tick)).await?.is_some();
        if !exists && fire(runtime, schedule, tick).await? {
            ticked.started += 1;
        }
        *schedule.seen.lock() = Some(tick);
    }
    *schedule.seen.lock() = Some(now.max(from));
    Ok(())
}

/// Starts the run of a tick; false when there is nothing to start, or never will be.
async fn fire(runtime: &Runtime, schedule: &Schedule, tick: Timestamp) -> Result<bool, Error> {
    let request = StartRequest {
        run_id: Some(schedule.run(tick)),
        trigger: Trigger::Schedule { name: schedule.name.clone(), tick },
        ..StartRequest::new(schedule.workflow.clone(), schedule.input.clone())
    };
    match runtime.start(request).await {
        Ok(started) => {
            if started.created {
                tracing::info!(workflow = %schedule.workflow, run = %started.run, %tick, "a schedule started a run");
            }
            Ok(started.created)
        }
        Err(StartError::Other(error)) if !error.is_lasting() => Err(error),
        Err(error) => {
            tracing::error!(workflow = %schedule.workflow, schedule = %schedule.name, %tick, %error, "a schedule could not start a run");
            Ok(false)
        }
    }
}

impl Runtime {
    /// The schedules of all active workflows. What was read before is not read again.
    async fn schedules(&self) -> Result<Vec<Arc<Schedule>>, Error> {
        let mut page = PageRequest { limit: 200, cursor: None };
        let mut before = std::mem::take(&mut *self.core.schedules.kept.lock());
        let mut kept = FxHashMap::default();
        loop {
            let found = self.core.ports.catalog.definitions(DefinitionKind::Workflow, &page).await;
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    before.extend(kept);
                    *self.core.schedules.kept.lock() = before;
                    return Err(error.into());
                }
            };
            for definition in found.items.iter().filter(|definition| !definition.disabled) {
                let key = (definition.id.clone(), definition.hash.clone());
                let schedules = before.remove(&key).unwrap_or_else(|| schedules_of(definition));
                kept.insert(key, schedules);
            }
            match found.next {
                Some(next) => page.cursor = Some(next),
                None => break,
            }
        }
        let schedules = kept.values().flatten().cloned().collect();
        *self.core.schedules.kept.lock() = kept;
        Ok(schedules)
    }

    /// Since when this schedule has been what it is: since the first of the versions that have it one after the other up to
    /// the active one. So registering another version does not lose a tick that nobody has looked at yet.
    async fn since(&self, schedule: &Schedule) -> Result<Timestamp, Error> {
        if let Some(since) = *schedule.since.lock() {
            return Ok(since);
        }
        let active = schedule.registered_at;
        let mut since = active;
        let versions = self.core.ports.catalog.versions(DefinitionKind::Workflow, &schedule.workflow).await?;
        for version in versions.iter().skip_while(|version| version.registered_at >= active) {
            let same = |other: &Arc<Schedule>| {
                let pattern = other.cron.pattern.to_string() == schedule.cron.pattern.to_string();
                other.name == schedule.name && pattern && other.zone == schedule.zone
            };
            if !schedules_of(version).iter().any(same) {
                break;
            }
            since = version.registered_at;
        }
        *schedule.since.lock() = Some(since);
        Ok(since)
    }
}

fn schedules_of(definition: &Definition) -> Vec<Arc<Schedule>> {
    let workflow = match parse(definition) {
        Ok(workflow) => workflow,
        Err(problem) => {
            tracing::warn!(workflow = %definition.id, %problem, "a workflow's schedules cannot be read");
            return Vec::new();
        }
    };
    let enabled = workflow.triggers.iter().filter_map(|trigger| match trigger {
        model::Trigger::Schedule(schedule) if schedule.enabled => Some(schedule),
        _ => None,
    });
    enabled.filter_map(|schedule| Schedule::read(definition, schedule)).map(Arc::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule {
            workflow: "w".into(),
            name: "s".into(),
            cron: cron.parse().unwrap(),
            zone: TimeZone::get(zone).unwrap(),
            input: Value::object(),
            catches_up: false,
            registered_at: Timestamp::UNIX_EPOCH,
            seen: Mutex::default(),
            since: Mutex::default(),
        }
    }

    fn ticks(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let (from, to): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
        schedule(cron, zone).ticks(from, to).map(|tick| tick.to_string()).collect()
    }

    #[test]
    fn a_day_has_its_tick_when_clocks_are_set_forward() {
        // On 29 March 2026 there is no half past two in Berlin: it ticks when the gap is over, and only once.
        let found = ticks("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(found, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn a_day_has_one_tick_when_clocks_are_set_back() {
        // On 25 October 2026 there are two.
        let found = ticks("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(found, ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn what_ticks_each_half_hour_does_so_through_both() {
        for (from, to) in [
            ("2026-03-28T22:00:00Z", "2026-03-29T04:00:00Z"),
            ("2026-10-24T22:00:00Z", "2026-10-25T04:00:00Z"),
        ] {
            let found = ticks("*/30 * * * *", "Europe/Berlin", from, to);
            assert_eq!(found.len(), 12, "{found:?}");
        }
    }
}
