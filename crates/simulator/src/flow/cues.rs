//! What people and programs do to a run, and when.

use serde::Deserialize;
use serde::Serialize;

use super::Flow;
use super::STARTER;
use super::random::Dice;
use super::tree::Definition;
use super::tree::Kind;
use super::tree::Node;

/// Who may decide, where only some may.
pub(super) const PEOPLE: [&str; 3] = ["user:ann@example.com", "user:bo@example.com", "user:cy@example.com"];

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Something that a client does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cue {
    /// Milliseconds after the start.
    pub after: u64,
    /// What.
    pub act: Act,
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Act {
    /// Approves whatever this state asks just then, in the run and in the runs it has started.
    Approve {
        /// The state.
        state: String,
        /// Who.
        approver: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// Rejects it.
    Reject {
        /// The state.
        state: String,
        /// Who.
        approver: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// Sends a signal to the run.
    Signal {
        /// By which a repeated one is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Its name.
        name: String,
        /// What it carries.
        payload: serde_json::Value,
    },
    /// Pauses the run.
    Pause,
    /// Resumes it.
    Resume,
    /// Cancels it.
    Cancel,
    /// Redrives it.
    Redrive,
    /// Starts it again, under the same key.
    StartAgain,
}

/// What is done to a run of this flow: mostly what it waits for, sometimes what nobody should do.
pub(super) fn cues(dice: &mut Dice<'_>, flow: &Flow) -> Vec<Cue> {
    let mut cues = Cues { list: Vec::new() };
    for definition in flow.children.iter().chain([&flow.main]) {
        each(definition, &mut |node| match &node.kind {
            Kind::Approval { .. } => cues.votes(dice, node),
            Kind::Signal { signal, timeout, .. } => cues.signals(dice, signal, timeout.is_some()),
            _ => {}
        });
    }
    cues.control(dice);
    let mut list = cues.list;
    list.sort_by_key(|cue| cue.after);
    list
}

fn each(definition: &Definition, see: &mut dyn FnMut(&Node)) {
    definition.each(&mut |node| see(node));
}

struct Cues {
    list: Vec<Cue>,
}

impl Cues {
    fn add(&mut self, after: u64, act: Act) {
        self.list.push(Cue { after, act });
    }

    /// A state may ask late, or more than once: its people look in from time to time.
    fn votes(&mut self, dice: &mut Dice<'_>, node: &Node) {
        let Kind::Approval { approvers, quorum, separation, .. } = &node.kind else { return };
        let quorum = quorum.unwrap_or(1) as usize;
        let people: Vec<String> = if approvers.is_empty() {
            PEOPLE.iter().map(|&who| who.to_owned()).collect()
        } else {
            approvers.iter().filter(|who| who.starts_with("user:")).cloned().collect()
        };
        let mood = dice.below(100);
        if (85..93).contains(&mood) {
            return;
        }
        let comment = dice.chance(40).then(|| "as “agreed”\nwith all".to_owned());
        if *separation || dice.chance(5) {
            let after = dice.time(10 * MINUTE);
            let (state, approver) = (node.name.clone(), STARTER.to_owned());
            self.add(after, Act::Approve { state, approver, comment: None });
        }
        let mut at = dice.time(20 * SECOND);
        for _ in 0..dice.between(2, 5) {
            for (index, approver) in people.iter().take(quorum).enumerate() {
                let (state, approver, comment) = (node.name.clone(), approver.clone(), comment.clone());
                let after = at + dice.time(5 * SECOND);
                let rejects = (73..85).contains(&mood) && index + 1 == quorum;
                let odd = mood >= 93 && index == 0;
                self.add(
                    after,
                    if rejects {
                        Act::Reject {
                            state: state.clone(),
                            approver: approver.clone(),
                            comment: comment.clone(),
                        }
                    } else {
                        Act::Approve {
                            state: state.clone(),
                            approver: approver.clone(),
                            comment: comment.clone(),
                        }
                    },
                );
                if odd {
                    self.add(
                        after,
                        Act::Approve { state: state.clone(), approver: approver.clone(), comment },
                    );
                    self.add(after + dice.time(SECOND), Act::Reject { state, approver, comment: None });
                }
            }
            at = at * u64::from(dice.between(3, 9)) + dice.time(MINUTE);
        }
    }

    fn signals(&mut self, dice: &mut Dice<'_>, signal: &str, may_miss: bool) {
        if may_miss && dice.chance(25) {
            return;
        }
        let times = if may_miss { dice.between(1, 3) } else { dice.between(2, 4) };
        for index in 0..times {
            let after = dice.time_or(80, 2 * MINUTE, 3 * HOUR);
            let id = dice.chance(70).then(|| format!("{signal}-{index}"));
            let payload = match dice.below(4) {
                0 => serde_json::json!(null),
                1 => serde_json::json!(dice.below(9)),
                2 => serde_json::json!("go"),
                _ => serde_json::json!({"go": dice.chance(80), "n": dice.below(9)}),
            };
            let act = Act::Signal { id: id.clone(), name: signal.to_owned(), payload };
            if id.is_some() && dice.chance(25) {
                self.add(after + dice.time(MINUTE), act.clone());
            }
            self.add(after, act);
        }
    }

    fn control(&mut self, dice: &mut Dice<'_>) {
        if dice.chance(25) {
            let at = dice.time(MINUTE);
            self.add(at, Act::Pause);
            if dice.chance(10) {
                self.add(at + dice.time(SECOND), Act::Pause);
            }
            let long = if dice.chance(70) { 2 * MINUTE } else { 2 * HOUR };
            self.add(at + 1 + dice.time(long), Act::Resume);
        }
        if dice.chance(4) {
            self.add(dice.time(MINUTE), Act::Resume);
        }
        if dice.chance(9) {
            let at = dice.time_or(70, 20 * SECOND, HOUR);
            self.add(at, Act::Cancel);
            if dice.chance(30) {
                self.add(at + dice.time(SECOND), Act::Cancel);
            }
            if dice.chance(30) {
                self.add(at + dice.time(10 * MINUTE), Act::Redrive);
            }
        }
        for _ in 0..dice.between(0, 2) {
            if dice.chance(35) {
                self.add(dice.time_or(50, 5 * MINUTE, 4 * HOUR), Act::Redrive);
            }
        }
        let last = |act: Act| self.list.iter().filter(|cue| cue.act == act).map(|cue| cue.after).max();
        if let (Some(_), Some(redriven)) = (last(Act::Pause), last(Act::Redrive)) {
            self.add(redriven + 1 + dice.time(MINUTE), Act::Resume);
        }
        if dice.chance(15) {
            self.add(dice.time(5 * MINUTE), Act::StartAgain);
        }
    }
}
