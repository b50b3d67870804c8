//! What is known of a workflow before it runs: its states, what they write, and where results stand.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexSet;

use crate::path::{Path, Segment};

/// The names of one workflow, built once: state names, keys that states write, positions of results.
///
/// `steps.<any>` always is a result; the builder adds the others.
#[derive(Clone, Debug)]
pub struct Names {
    nodes: Vec<Node>,
    /// State names, in order.
    states: IndexSet<Arc<str>>,
    /// Everyone who writes something.
    writers: Vec<Arc<str>>,
    /// Root keys that states write, and who does.
    roots: HashMap<Arc<str>, u32>,
    /// Keys of `steps` that states write, and who does.
    steps: HashMap<Arc<str>, u32>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    result: bool,
    keys: HashMap<Arc<str>, u32>,
    /// The node of keys that have none of their own.
    any: Option<u32>,
}

/// Where in the context a value was read from, as far as results are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub(crate) At);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum At {
    /// Nowhere that matters.
    #[default]
    Nowhere,
    /// At this node of the tree of positions.
    Node(u32),
    /// At this node, but `.output` has been read: its keys are plain.
    Opened(u32),
    /// None, because this writer has not run.
    Absent(u32),
}

impl Mark {
    pub(crate) const NOWHERE: Mark = Mark(At::Nowhere);
}

const ROOT: u32 = 0;
const STEPS: u32 = 1;
const ANY_STEP: u32 = 2;

impl Default for Names {
    fn default() -> Self {
        Names::builder().build()
    }
}

impl Names {
    /// Starts with no states.
    pub fn builder() -> NamesBuilder {
        let root = Node { keys: HashMap::from([(Arc::from("steps"), STEPS)]), ..Node::default() };
        let steps = Node { any: Some(ANY_STEP), ..Node::default() };
        let any = Node { result: true, ..Node::default() };
        NamesBuilder {
            names: Names {
                nodes: vec![root, steps, any],
                states: IndexSet::new(),
                writers: Vec::new(),
                roots: HashMap::new(),
                steps: HashMap::new(),
            },
        }
    }

    /// The mark of the value at `path`, not itself taken as a result but with the results below it: what
    /// [`Environment::input_mark`](crate::Environment::input_mark) is when the state at that path was the one before.
    pub fn mark(&self, path: &Path) -> Mark {
        let mut at = Mark(At::Node(ROOT));
        for segment in path.segments() {
            at = match segment {
                Segment::Key(key) => self.below(at, key),
                Segment::Index(_) => Mark::default(),
            };
        }
        match at.0 {
            At::Node(node) => Mark(At::Opened(node)),
            _ => at,
        }
    }

    /// [`mark`](Self::mark) of the path `steps.STATE`.
    pub fn result_of(&self, state: &str) -> Mark {
        Self::open(self.below(self.below(Self::root(), "steps"), state))
    }

    /// Whether a state has this name.
    pub fn is_state(&self, name: &str) -> bool {
        self.states.contains(name)
    }

    /// The mark of the context itself.
    pub(crate) fn root() -> Mark {
        Mark(At::Node(ROOT))
    }

    /// The mark of the key `key` of a value with mark `mark`.
    pub(crate) fn below(&self, mark: Mark, key: &str) -> Mark {
        let (At::Node(node) | At::Opened(node)) = mark.0 else { return Mark::default() };
        let Some(node) = self.nodes.get(node as usize) else { return Mark::default() };
        node.keys.get(key).copied().or(node.any).map_or_else(Mark::default, |node| Mark(At::Node(node)))
    }

    /// Whether a value with this mark is a result.
    pub(crate) fn is_result(&self, mark: Mark) -> bool {
        matches!(mark.0, At::Node(node) if self.nodes.get(node as usize).is_some_and(|node| node.result))
    }

    /// The mark behind `.output`.
    pub(crate) fn open(mark: Mark) -> Mark {
        match mark.0 {
            At::Node(node) => Mark(At::Opened(node)),
            _ => mark,
        }
    }

    /// The mark of None where a root key stands that some state writes, if one does.
    pub(crate) fn absent_root(&self, key: &str) -> Option<Mark> {
        self.roots.get(key).map(|writer| Mark(At::Absent(*writer)))
    }

    /// The mark of None where a key of `steps` stands that some state writes, if one does.
    pub(crate) fn absent_step(&self, key: &str) -> Option<Mark> {
        self.steps.get(key).map(|writer| Mark(At::Absent(*writer)))
    }

    /// Who writes what is absent here.
    pub(crate) fn writer(&self, mark: Mark) -> Option<&str> {
        match mark.0 {
            At::Absent(writer) => self.writers.get(writer as usize).map(AsRef::as_ref),
            _ => None,
        }
    }

    /// Whether this is the context itself.
    pub(crate) fn is_root(mark: Mark) -> bool {
        mark.0 == At::Node(ROOT)
    }

    /// Whether this is `steps`.
    pub(crate) fn is_steps(mark: Mark) -> bool {
        mark.0 == At::Node(STEPS)
    }

    pub(crate) fn steps() -> Mark {
        Mark(At::Node(STEPS))
    }

    pub(crate) fn states(&self) -> impl Iterator<Item = &Arc<str>> {
        self.states.iter()
    }

    pub(crate) fn written_roots(&self) -> impl Iterator<Item = &Arc<str>> {
        self.roots.keys()
    }

    pub(crate) fn written_steps(&self) -> impl Iterator<Item = &Arc<str>> {
        self.steps.keys()
    }
}

/// Collects [`Names`].
#[derive(Clone, Debug)]
pub struct NamesBuilder {
    names: Names,
}

impl NamesBuilder {
    /// A state: its output is `steps.<name>`, and `<name>` where nothing else has that name.
    #[must_use]
    pub fn state(mut self, name: &str) -> Self {
        let name: Arc<str> = name.into();
        if !self.names.is_state(&name) {
            let writer = self.writer(&name);
            self.names.steps.entry(name.clone()).or_insert(writer);
            self.names.states.insert(name);
        }
        self
    }

    /// A root key of the context that `state` writes: None until it has.
    #[must_use]
    pub fn writes(mut self, key: &str, state: &str) -> Self {
        let writer = self.writer(state);
        self.names.roots.entry(key.into()).or_insert(writer);
        self
    }

    /// A `resultPath` of `state`: what stands there is a result.
    #[must_use]
    pub fn result(mut self, path: &Path, state: &str) -> Self {
        let writer = self.writer(state);
        match path.segments() {
            [] => return self,
            [Segment::Key(steps), Segment::Key(key), ..] if steps.as_ref() == "steps" => {
                self.names.steps.entry(key.clone()).or_insert(writer);
            }
            [Segment::Key(key), ..] => {
                self.names.roots.entry(key.clone()).or_insert(writer);
            }
            [Segment::Index(_), ..] => {}
        }
        if let Some(node) = self.node(path)
            && let Some(node) = self.names.nodes.get_mut(node as usize)
        {
            node.result = true;
        }
        self
    }

    /// A branch whose result stands under its key, below the `parallel`'s own result at `path`.
    #[must_use]
    pub fn branch_result(mut self, path: &Path, branch: &str) -> Self {
        if let Some(parent) = self.node(path)
            && let Some(node) = self.child(parent, branch)
            && let Some(node) = self.names.nodes.get_mut(node as usize)
        {
            node.result = true;
        }
        self
    }

    /// The finished names.
    pub fn build(self) -> Names {
        self.names
    }

    fn writer(&mut self, state: &str) -> u32 {
        let writers = &mut self.names.writers;
        let at = writers.iter().position(|writer| writer.as_ref() == state).unwrap_or_else(|| {
            writers.push(state.into());
            writers.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn node(&mut self, path: &Path) -> Option<u32> {
        path.segments().iter().try_fold(ROOT, |node, segment| match segment {
            Segment::Key(key) => self.child(node, key),
            Segment::Index(_) => None,
        })
    }

    fn child(&mut self, parent: u32, key: &str) -> Option<u32> {
        let next = u32::try_from(self.names.nodes.len()).ok()?;
        let node = self.names.nodes.get_mut(parent as usize)?;
        if let Some(&child) = node.keys.get(key) {
            return Some(child);
        }
        node.keys.insert(key.into(), next);
        self.names.nodes.push(Node { result: parent == STEPS, ..Node::default() });
        Some(next)
    }
}
