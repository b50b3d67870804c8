//! Schedules of a home that is always there: at each tick a run starts, whose id is the tick's, so that one seen twice starts
//! one run. Ticks that were missed (the process was down, the machine asleep) are skipped.

use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use engine::RunId;
use engine::Trigger;
use expression::Value;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use crate::Runtime;
use crate::error::Error;
use crate::plans::Planned;
use crate::ports::DefinitionKind;
use crate::ports::PageRequest;
use crate::runtime::later;
use crate::runtime::until;
use crate::view::StartRequest;

/// At the latest after this much time, the definitions are looked at again.
const LOOK: Duration = Duration::from_mins(1);
/// A tick older than this was missed.
const MISSED: Duration = Duration::from_mins(1);

/// One schedule of one workflow.
struct Schedule {
    workflow: Arc<str>,
    name: Arc<str>,
    cron: Cron,
    zone: TimeZone,
    input: Value,
}

impl Schedule {
    /// The first tick after `after`.
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let local = after.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&local, false).ok().map(|tick| tick.timestamp())
    }
}

/// Fires schedules until told to stop.
pub(crate) async fn run(runtime: Runtime, mut stopped: watch::Receiver<bool>) {
    let mut seen = runtime.now();
    loop {
        let wake = match tick(&runtime, seen).await {
            Ok((upto, next)) => {
                seen = upto;
                next
            }
            Err(error) => {
                tracing::error!(%error, "schedules cannot be looked at; trying again");
                later(runtime.now(), Duration::from_secs(5))
            }
        };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = runtime.ports().clock.sleep(until(runtime.now(), wake)) => {}
        }
    }
}

/// Fires what has ticked since `seen`. Answers up to when it looked, and when to look again.
async fn tick(runtime: &Runtime, seen: Timestamp) -> Result<(Timestamp, Timestamp), Error> {
    let schedules = schedules(runtime).await?;
    let now = runtime.now();
    let oldest = now.checked_sub(MISSED).unwrap_or(Timestamp::MIN).max(seen);
    let mut wake = later(now, LOOK);
    for schedule in schedules {
        let mut after = oldest;
        while let Some(tick) = schedule.next(after) {
            if tick > now {
                wake = wake.min(tick);
                break;
            }
            fire(runtime, &schedule, tick).await;
            after = tick;
        }
    }
    Ok((now.max(seen), wake))
}

async fn fire(runtime: &Runtime, schedule: &Schedule, tick: Timestamp) {
    let request = StartRequest {
        run_id: Some(RunId::from_tick(&schedule.workflow, &schedule.name, &tick.to_string())),
        trigger: Trigger::Schedule { name: schedule.name.clone(), tick },
        ..StartRequest::new(schedule.workflow.clone(), schedule.input.clone())
    };
    match runtime.start(request).await {
        Ok(started) => {
            tracing::info!(workflow = %schedule.workflow, run = %started.run, %tick, "a schedule started a run");
        }
        Err(error) => {
            tracing::error!(workflow = %schedule.workflow, schedule = %schedule.name, %tick, %error, "a schedule could not start a run");
        }
    }
}

/// The schedules of all active workflows.
async fn schedules(runtime: &Runtime) -> Result<Vec<Schedule>, Error> {
    let mut schedules = Vec::new();
    let mut page = PageRequest { limit: 200, cursor: None };
    loop {
        let found = runtime.core.ports.catalog.definitions(DefinitionKind::Workflow, &page).await?;
        for definition in found.items.into_iter().filter(|definition| !definition.disabled) {
            let workflow = match runtime.plan(&definition.id, None).await {
                Ok(Planned::Plan(plan)) => plan.workflow.clone(),
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(workflow = %definition.id, %error, "a workflow's schedules cannot be read");
                    continue;
                }
            };
            schedules.extend(workflow.triggers.iter().filter_map(|trigger| match trigger {
                model::Trigger::Schedule(schedule) if schedule.enabled => read(&definition.id, schedule),
                _ => None,
            }));
        }
        match found.next {
            Some(next) => page.cursor = Some(next),
            None => return Ok(schedules),
        }
    }
}

/// A schedule was checked when its workflow was registered; one that cannot be read all the same is told and left out.
fn read(workflow: &Arc<str>, schedule: &model::Schedule) -> Option<Schedule> {
    let cron = schedule.cron.parse::<Cron>();
    let zone =
        if schedule.timezone.is_empty() { Ok(TimeZone::UTC) } else { TimeZone::get(&schedule.timezone) };
    let (Ok(cron), Ok(zone)) = (cron, zone) else {
        tracing::warn!(%workflow, schedule = %schedule.name, "a schedule cannot be read");
        return None;
    };
    let (workflow, name, input) = (workflow.clone(), schedule.name.clone(), schedule.input.clone());
    Some(Schedule { workflow, name, cron, zone, input })
}
