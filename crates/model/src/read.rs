//! The dialect of LANGUAGE: from a tree that knows its places to typed states.

use std::collections::BTreeSet;

use crate::AgentCatalog;
use crate::Issue;
use crate::Workflow;

/// What a workflow is read with.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The file's name; `.json` is read as JSON.
    pub file: &'a str,
    /// The agents there are. Without it agents are not checked.
    pub agents: Option<&'a dyn AgentCatalog>,
    /// The ids of the workflows there are. Without it sub-workflows are not checked.
    pub workflows: Option<&'a BTreeSet<String>>,
}

/// What came of reading a workflow.
#[derive(Debug)]
pub struct Parsed {
    /// The workflow, if there was no error.
    pub workflow: Option<Workflow>,
    /// Errors and warnings, in the order of the file.
    pub issues: Vec<Issue>,
}

/// Reads and checks a workflow. Everything that is wrong is told at once.
pub fn parse(source: &str, options: &Options<'_>) -> Parsed {
    match crate::yaml::parse(source, options.file) {
        Ok(_) => Parsed { workflow: None, issues: Vec::new() },
        Err(issues) => Parsed { workflow: None, issues },
    }
}
