//! From a failing plan to a small one that fails in the same way.

use std::sync::Arc;

use crate::history::History;
use crate::plan::Faults;
use crate::plan::Home;
use crate::plan::Limits;
use crate::plan::Plan;
use crate::plan::Rates;

/// A smaller plan that breaks the same invariant, and its history. `play` records what it plays ([`history::play`] with
/// `recording`, as a rule); `more` says whether there is time for another try. `None` when the plan does not fail at all.
///
/// [`history::play`]: crate::history::play
pub fn shrink(
    plan: &Plan,
    play: &dyn Fn(&Plan) -> History,
    more: &mut dyn FnMut() -> bool,
) -> Option<(Plan, History)> {
    let first = play(plan);
    let invariant = first.violation.as_ref()?.invariant;
    let mut best = Best { plan: plan.clone(), history: first, invariant, play, more };
    // Random faults become exactly those that were made, so that single ones can be left out.
    if matches!(best.plan.faults, Faults::Random(_)) {
        let made = best.history.made.clone();
        best.attempt(Plan { faults: Faults::Exactly(made), ..best.plan.clone() });
        best.attempt(Plan { faults: Faults::Exactly(Vec::new()), ..best.plan.clone() });
    }
    loop {
        let before = size(&best.plan);
        best.simplify();
        best.drop_faults();
        best.drop_blows();
        best.shrink_flow();
        if size(&best.plan) >= before || !(best.more)() {
            return Some((best.plan, best.history));
        }
    }
}

struct Best<'a> {
    plan: Plan,
    history: History,
    invariant: &'static str,
    play: &'a dyn Fn(&Plan) -> History,
    more: &'a mut dyn FnMut() -> bool,
}

impl Best<'_> {
    /// Takes this plan if it fails in the same way.
    fn attempt(&mut self, plan: Plan) -> bool {
        if plan == self.plan || !(self.more)() {
            return false;
        }
        let history = (self.play)(&plan);
        let same = history.violation.as_ref().is_some_and(|found| found.invariant == self.invariant);
        if same {
            self.plan = plan;
            self.history = history;
        }
        same
    }

    /// The plan without what makes histories hard to read.
    fn simplify(&mut self) {
        for number in (0..self.plan.starts.len()).rev() {
            if self.plan.starts.len() > 1 {
                let mut plan = self.plan.clone();
                plan.starts.remove(number);
                self.attempt(plan);
            }
        }
        self.attempt(Plan { starts: vec![0; self.plan.starts.len()], ..self.plan.clone() });
        self.attempt(Plan { answered: false, ..self.plan.clone() });
        self.attempt(Plan { abandoned: false, ..self.plan.clone() });
        self.attempt(Plan { jitter: false, ..self.plan.clone() });
        self.attempt(Plan { home: Home::Embedded, ..self.plan.clone() });
        match self.plan.home {
            Home::Cluster { processes: 2.., visibility, heartbeats } => {
                self.attempt(Plan {
                    home: Home::Cluster { processes: 1, visibility, heartbeats },
                    ..self.plan.clone()
                });
            }
            Home::Serverless { sandboxes: 2.., limit } => {
                self.attempt(Plan { home: Home::Serverless { sandboxes: 1, limit }, ..self.plan.clone() });
            }
            _ => {}
        }
        self.attempt(Plan { limits: Limits::default(), ..self.plan.clone() });
        self.attempt(Plan { calm_after: 0, ..self.plan.clone() });
    }

    fn drop_faults(&mut self) {
        self.drop_some(
            |plan| match &plan.faults {
                Faults::Exactly(faults) => faults.clone(),
                Faults::Random(_) => Vec::new(),
            },
            |plan, faults| plan.faults = Faults::Exactly(faults),
        );
    }

    fn drop_blows(&mut self) {
        self.drop_some(|plan| plan.blows.clone(), |plan, blows| plan.blows = blows);
    }

    /// Leaves out ever smaller parts of a list (delta debugging, Zeller and Hildebrandt 2002).
    fn drop_some<T: Clone>(&mut self, get: impl Fn(&Plan) -> Vec<T>, set: impl Fn(&mut Plan, Vec<T>)) {
        let mut chunk = get(&self.plan).len();
        while chunk > 0 {
            let mut from = 0;
            while from < get(&self.plan).len() {
                let list = get(&self.plan);
                let rest = list.iter().take(from).chain(list.iter().skip(from + chunk)).cloned().collect();
                let mut plan = self.plan.clone();
                set(&mut plan, rest);
                if !self.attempt(plan) {
                    from += chunk;
                }
                if !(self.more)() {
                    return;
                }
            }
            chunk /= 2;
        }
    }

    fn shrink_flow(&mut self) {
        'again: loop {
            for flow in self.plan.flow.smaller() {
                if self.attempt(Plan { flow, ..self.plan.clone() }) {
                    continue 'again;
                }
                if !(self.more)() {
                    return;
                }
            }
            return;
        }
    }
}

/// How much there is to a plan: less is better.
fn size(plan: &Plan) -> (usize, (usize, u64), u64) {
    let faults = match &plan.faults {
        Faults::Exactly(faults) => faults.len(),
        Faults::Random(rates) if *rates == Rates::default() => 0,
        Faults::Random(_) => usize::MAX / 2,
    };
    let plain = [
        plan.jitter,
        plan.abandoned,
        plan.answered,
        plan.home != Home::Embedded,
        plan.calm_after > 0,
        plan.limits != Limits::default(),
    ];
    let knobs = plain.iter().filter(|knob| **knob).count();
    let processes = u64::from(plan.home.processes());
    (faults + plan.blows.len() + plan.starts.len() + knobs, plan.flow.measure(), processes)
}

/// The plan as a file.
pub fn to_json(plan: &Plan) -> Result<String, Arc<str>> {
    serde_json::to_string_pretty(plan).map_err(|error| error.to_string().into())
}
