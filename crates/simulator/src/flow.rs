//! A random workflow, and what people and signals do to its run.
//!
//! A [`Flow`] is a tree of [`Node`]s, so that a failing one can be made [smaller](Flow::smaller) branch by branch; its
//! [files](Flow::files) are the YAML that an author would write. What its agents do stands in their tasks
//! ([`behaviour`]), so that the file alone says what should happen.

mod behaviour;
mod cues;
mod data;
mod mend;
mod random;
mod render;
mod shrink;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeSet;

use expression::Value;
use runtime::ports::DefinitionKind;
use serde::Deserialize;
use serde::Serialize;

pub use behaviour::Behaviour;
pub use behaviour::behaviour;
pub use cues::Act;
pub use cues::Cue;
pub use tree::Arm;
pub use tree::Body;
pub use tree::Branch;
pub use tree::Catch;
pub use tree::Clause;
pub use tree::Definition;
pub use tree::Join;
pub use tree::Kind;
pub use tree::Node;
pub use tree::Retry;
pub use tree::Route;
pub use tree::Work;

/// Who starts every run, and so may not decide under separation of duties.
pub const STARTER: &str = "user:starter@example.com";

/// A random workflow, the workflows it calls, and what its world does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The workflow that is started.
    pub main: Definition,
    /// Those it may call; each calls only those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Definition>,
    /// The input of the run.
    pub input: serde_json::Value,
    /// What clients do, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cues: Vec<Cue>,
}

/// A file to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub kind: DefinitionKind,
    /// Its name; it gives an agent its own.
    pub name: String,
    /// Its text.
    pub source: String,
}

impl Flow {
    /// A flow of about `size` states (around ten is usual). The same generator gives the same flow.
    pub fn random(rng: &mut fastrand::Rng, size: u32) -> Self {
        random::flow(rng, size)
    }

    /// Its files in the order in which they can be registered: agents, called workflows, the workflow itself.
    pub fn files(&self) -> Vec<File> {
        let mut agents = BTreeSet::new();
        let definitions: Vec<&Definition> = self.children.iter().chain([&self.main]).collect();
        for definition in &definitions {
            definition.each(&mut |node| agents.extend(node.agents()));
        }
        let agents = agents.into_iter().map(|agent| File {
            kind: DefinitionKind::Agent,
            name: format!("{agent}.agent.yaml"),
            source: "type: static\noutput: the simulator answers for it\n".to_owned(),
        });
        let workflows = definitions.into_iter().map(|definition| File {
            kind: DefinitionKind::Workflow,
            name: format!("{}.workflow.yaml", definition.id),
            source: render::definition(definition),
        });
        agents.chain(workflows).collect()
    }

    /// The id of the workflow to start.
    pub fn workflow_id(&self) -> &str {
        &self.main.id
    }

    /// The run's input.
    pub fn input(&self) -> Value {
        Value::from(self.input.clone())
    }

    /// What clients do, in the order of time.
    pub fn cues(&self) -> &[Cue] {
        &self.cues
    }

    /// Flows like this one with something less, the big cuts first. All are valid, and smaller by [`Self::measure`], so that
    /// whoever follows them comes to an end.
    pub fn smaller(&self) -> Vec<Self> {
        shrink::candidates(self)
    }

    /// How large it is: the length of its text, then the sum of its numbers.
    pub fn measure(&self) -> (usize, u64) {
        shrink::measure(self)
    }
}
