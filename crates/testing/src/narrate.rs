//! Events in words, for people who follow a run.

use std::collections::HashMap;
use std::sync::Arc;

use engine::ChildKey;
use engine::Error;
use engine::Event;
use engine::Outcome;
use engine::ScopePath;
use expression::Value;

/// Says what happens, remembering which state each scope is in.
#[derive(Clone, Debug, Default)]
pub struct Narrator {
    states: HashMap<ScopePath, Arc<str>>,
}

/// An event in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The state it is about, by its address; empty for what is about the whole scope.
    pub state: Arc<str>,
    /// What happened.
    pub text: String,
    /// How it should look.
    pub tone: Tone,
}

/// How a line should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something began or ended.
    Plain,
    /// Of interest to those who look closely.
    Detail,
    /// It went well.
    Good,
    /// It did not.
    Bad,
    /// Somebody or something is waited for, or has acted.
    Attention,
}

impl Narrator {
    /// The event in words.
    pub fn line(&mut self, scope: &ScopePath, event: &Event) -> Line {
        let (tone, text) = match event {
            Event::RunStarted(started) => {
                let by =
                    started.starter.as_ref().map_or_else(String::new, |starter| format!(" by {starter}"));
                let input = short(&started.input);
                (Tone::Plain, format!("{} {} started{by}, input {input}", started.workflow, started.version))
            }
            Event::ScopeStarted(started) => match &started.key {
                ChildKey::Branch(name) => (Tone::Detail, format!("branch {name} began")),
                ChildKey::Index(index) => {
                    let item =
                        started.item.as_ref().map_or_else(String::new, |item| format!(": {}", short(item)));
                    (Tone::Detail, format!("iteration {index} began{item}"))
                }
            },
            Event::StateEntered { state, visit, .. } => {
                self.states.insert(scope.clone(), state.clone());
                (
                    Tone::Plain,
                    if *visit > 1 { format!("entered (visit {visit})") } else { "entered".to_owned() },
                )
            }
            Event::StateSkipped { state, .. } => {
                self.states.insert(scope.clone(), state.clone());
                (Tone::Detail, "skipped: its `if` does not hold".to_owned())
            }
            Event::StepClaimed { attempt, epoch, request, .. } => {
                let again = match (attempt, epoch) {
                    (1, 1) => String::new(),
                    (attempt, 1) => format!(" attempt {attempt}"),
                    (attempt, epoch) => format!(" attempt {attempt} (taken over, epoch {epoch})"),
                };
                let request =
                    request.as_ref().map_or_else(String::new, |request| format!(" {}", short(request)));
                (Tone::Detail, format!("performing{again}{request}"))
            }
            Event::StepSucceeded { output, .. } => (Tone::Good, format!("succeeded {}", short(output))),
            Event::StepFailed { attempt, error, retry_at, .. } => {
                let then = retry_at.map_or_else(String::new, |at| format!("; again at {at}"));
                (Tone::Bad, format!("attempt {attempt} failed: {}{then}", describe(error)))
            }
            Event::TimerStarted { until, .. } => (Tone::Attention, format!("waits until {until}")),
            Event::TimerFired {} => (Tone::Plain, "the time has come".to_owned()),
            Event::SignalAwaited { name, deadline } => {
                let until = deadline.map_or_else(String::new, |deadline| format!(" until {deadline}"));
                (Tone::Attention, format!("waits for the signal {name}{until}"))
            }
            Event::SignalReceived { name, payload, .. } => {
                (Tone::Plain, format!("signal {name} {}", short(payload)))
            }
            Event::ApprovalRequested(request) => (
                Tone::Attention,
                format!("asks for approval until {}: {}", request.deadline, one_line(&request.message, 200)),
            ),
            Event::ApprovalVoted { vote } => {
                let verb = if vote.approve { "approved" } else { "rejected" };
                let why = vote
                    .comment
                    .as_ref()
                    .map_or_else(String::new, |comment| format!(": {}", one_line(comment, 200)));
                (Tone::Attention, format!("{verb} by {}{why}", vote.approver))
            }
            Event::ApprovalDecided { approved: true, .. } => (Tone::Good, "decided: approved".to_owned()),
            Event::ApprovalDecided { .. } => (Tone::Bad, "decided: rejected".to_owned()),
            Event::WaitTimedOut {} => (Tone::Bad, "nobody answered in time".to_owned()),
            Event::Forked { children, .. } => (Tone::Detail, format!("forks into {children}")),
            Event::ChildrenLaunched { upto, again } if again.is_empty() => {
                (Tone::Detail, format!("children up to {upto} may run"))
            }
            Event::ChildrenLaunched { again, .. } => {
                (Tone::Detail, format!("{} of its children may go on", again.len()))
            }
            Event::ChildrenEnded { ended, .. } => {
                let failed =
                    ended.iter().filter(|child| !matches!(child.outcome, Outcome::Completed { .. })).count();
                let tone = if failed == 0 { Tone::Detail } else { Tone::Bad };
                (tone, format!("{} ended, {failed} of them not well", ended.len()))
            }
            Event::ChildrenReleased {} => (Tone::Detail, "needs no more of its children".to_owned()),
            Event::SubworkflowRequested { run, workflow, .. } => {
                (Tone::Plain, format!("starts {workflow} as run {run}"))
            }
            Event::BlockEntered { block } => (Tone::Detail, format!("enters its {}", role(*block))),
            Event::ErrorCaught { error, .. } => (Tone::Attention, format!("catches {}", describe(error))),
            Event::BlockLeft {} => (Tone::Detail, "leaves its states".to_owned()),
            Event::ErrorRaised { error, .. } => (Tone::Bad, format!("failed: {}", describe(error))),
            Event::StateComputed { output } => (Tone::Detail, format!("computed {}", short(output))),
            Event::StateCompleted { output, .. } => {
                let output = output.as_ref().map_or_else(String::new, |output| format!(" {}", short(output)));
                (Tone::Detail, format!("completed{output}"))
            }
            Event::Paused { by, .. } => (Tone::Attention, format!("paused{}", by_whom(by.as_ref()))),
            Event::Resumed { by, .. } => (Tone::Attention, format!("resumed{}", by_whom(by.as_ref()))),
            Event::CancelRequested { by, reason, .. } => {
                let why =
                    reason.as_ref().map_or_else(String::new, |reason| format!(": {}", one_line(reason, 200)));
                (Tone::Attention, format!("to be cancelled{}{why}", by_whom(by.as_ref())))
            }
            Event::DeadlinePassed {} => (Tone::Bad, "the run's time is over".to_owned()),
            Event::Redriven { by, .. } => (Tone::Attention, format!("sent on again{}", by_whom(by.as_ref()))),
            Event::Ended { outcome } => ended(outcome),
            Event::LateResult { .. } => {
                (Tone::Detail, "a result came too late; it changes nothing".to_owned())
            }
            Event::SignalSent { name, payload, by, .. } => {
                (Tone::Attention, format!("signal {name} sent{} {}", by_whom(by.as_ref()), short(payload)))
            }
        };
        let of_scope = matches!(
            event,
            Event::RunStarted(_)
                | Event::ScopeStarted(_)
                | Event::Ended { .. }
                | Event::Paused { .. }
                | Event::Resumed { .. }
                | Event::CancelRequested { .. }
                | Event::DeadlinePassed {}
                | Event::Redriven { .. }
                | Event::SignalSent { .. }
        );
        let state = match event {
            Event::LateResult { state, .. } => state.clone(),
            // Whoever catches, or goes on with the error, is the state around.
            Event::BlockLeft {} | Event::ErrorCaught { .. } => self.leave(scope),
            _ if of_scope => Arc::from(""),
            _ => self.states.get(scope).cloned().unwrap_or_default(),
        };
        // After the last state of its list, the one around goes on.
        if matches!(event, Event::StateCompleted { next: None, .. } | Event::StateSkipped { next: None, .. })
        {
            self.leave(scope);
        }
        Line { state, text, tone }
    }

    fn leave(&mut self, scope: &ScopePath) -> Arc<str> {
        let Some(state) = self.states.get_mut(scope) else { return Arc::default() };
        if let Some(outer) = around(state) {
            *state = Arc::from(outer);
        }
        state.clone()
    }
}

/// The address of the state around one: without the state's own name and what says which list of states it stands in.
fn around(address: &str) -> Option<&str> {
    let mut outer = None;
    let mut begun = 0;
    let mut rest = address;
    while let Some((_, block)) = rest.split_once('/') {
        outer = address.get(..begun + rest.len() - block.len() - 1);
        // The blocks of which a state has several have a name or a number of their own.
        let parts = if block.starts_with("catch/") || block.starts_with("branches/") { 2 } else { 1 };
        let inner = block.splitn(parts + 1, '/').nth(parts)?;
        begun = address.len() - inner.len();
        rest = inner;
    }
    outer
}

fn ended(outcome: &Outcome) -> (Tone, String) {
    match outcome {
        Outcome::Completed { output } => (Tone::Good, format!("COMPLETED {}", short(output))),
        Outcome::Failed { error } => (Tone::Bad, format!("FAILED: {}", describe(error))),
        Outcome::Cancelled { reason } => {
            let why =
                reason.as_ref().map_or_else(String::new, |reason| format!(": {}", one_line(reason, 200)));
            (Tone::Attention, format!("CANCELLED{why}"))
        }
        Outcome::TimedOut { error } => (Tone::Bad, format!("TIMED_OUT: {}", describe(error))),
    }
}

fn role(block: engine::BlockRole) -> &'static str {
    match block {
        engine::BlockRole::While => "next round",
        engine::BlockRole::Try => "try",
        engine::BlockRole::Catch(_) => "catch",
        engine::BlockRole::Finally => "finally",
    }
}

fn by_whom(by: Option<&Arc<str>>) -> String {
    by.map_or_else(String::new, |by| format!(" by {by}"))
}

fn describe(error: &Error) -> String {
    one_line(&crate::check::describe(error), 400)
}

/// A value in at most 120 characters.
fn short(value: &Value) -> String {
    one_line(&value.to_string(), 120)
}

fn one_line(text: &str, limit: usize) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= limit {
        return text.chars().map(shown).collect();
    }
    text.chars().take(limit.saturating_sub(1)).map(shown).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::around;

    #[test]
    fn every_block_leads_to_the_state_around_it() {
        for (address, outer) in [
            ("a", None),
            ("a/try/b", Some("a")),
            ("a/catch/0/b", Some("a")),
            ("a/try/b/branches/catch/c/iterator/d", Some("a/try/b/branches/catch/c")),
            ("try/finally/catch/catch/1/try", Some("try/finally/catch")),
        ] {
            assert_eq!(around(address), outer, "{address}");
        }
    }
}
