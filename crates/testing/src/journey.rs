//! From the journals of a run to the way it took.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use engine::ChildKey;
use engine::Event;
use engine::ScopePath;
use model::Block;
use model::Kind;
use model::Workflow;

use crate::trail::Inside;
use crate::trail::Step;
use crate::trail::Trail;

/// What happened in each scope, in order.
pub(crate) type Journals = BTreeMap<ScopePath, Vec<Event>>;

/// The states of a workflow by their address.
pub(crate) struct Map {
    states: HashMap<Arc<str>, Place>,
}

/// A state, as far as the way through it is concerned.
struct Place {
    name: Arc<str>,
    /// The `try` or `while` it stands in, in the same scope.
    container: Option<Arc<str>>,
    kind: PlaceKind,
}

enum PlaceKind {
    /// Stands for an agent given in place of states; no part of the way.
    Implicit,
    Plain,
    Block,
    Branches(Vec<Arc<str>>),
    Iterations,
}

impl Map {
    pub(crate) fn of(workflow: &Workflow) -> Self {
        let mut map = Self { states: HashMap::new() };
        map.block(workflow, &workflow.root, None);
        map
    }

    fn block(&mut self, workflow: &Workflow, block: &Block, container: Option<&Arc<str>>) {
        for state in block.states.iter().filter_map(|id| workflow.state(*id)) {
            let kind = match &state.kind {
                _ if state.implicit => PlaceKind::Implicit,
                Kind::Parallel(parallel) => {
                    for branch in &parallel.branches {
                        self.block(workflow, &branch.block, None);
                    }
                    PlaceKind::Branches(parallel.branches.iter().map(|branch| branch.name.clone()).collect())
                }
                Kind::Foreach(foreach) => {
                    self.block(workflow, &foreach.block, None);
                    PlaceKind::Iterations
                }
                Kind::While(repeat) => {
                    self.block(workflow, &repeat.block, Some(&state.address));
                    PlaceKind::Block
                }
                Kind::Try(attempt) => {
                    let catches = attempt.catch.iter().map(|clause| &clause.block);
                    for block in [&attempt.body].into_iter().chain(catches).chain(&attempt.finally) {
                        self.block(workflow, block, Some(&state.address));
                    }
                    PlaceKind::Block
                }
                _ => PlaceKind::Plain,
            };
            let place = Place { name: state.name.clone(), container: container.cloned(), kind };
            self.states.insert(state.address.clone(), place);
        }
    }

    /// The way through a scope and all below it.
    pub(crate) fn trail(&self, journals: &Journals, scope: &ScopePath) -> Trail {
        let mut way = Way { open: Vec::new(), done: Trail::default() };
        // The fork that the current state is about to make.
        let mut forking: Option<(&Place, u32)> = None;
        for event in journals.get(scope).into_iter().flatten() {
            match event {
                Event::StateEntered { state, visit, .. } => {
                    let Some(place) = self.states.get(state) else { continue };
                    way.close_up_to(place.container.as_ref());
                    forking = None;
                    let inside = match &place.kind {
                        PlaceKind::Implicit => continue,
                        PlaceKind::Plain => Inside::Nothing,
                        PlaceKind::Block => Inside::Block(Trail::default()),
                        PlaceKind::Branches(_) => Inside::Branches(Vec::new()),
                        PlaceKind::Iterations => Inside::Iterations(Vec::new()),
                    };
                    if matches!(place.kind, PlaceKind::Branches(_) | PlaceKind::Iterations) {
                        forking = Some((place, *visit));
                    }
                    way.open.push((state.clone(), Step { state: place.name.to_string(), inside }));
                }
                Event::Forked { children, .. } => {
                    let Some((place, visit)) = forking.take() else { continue };
                    let below = |key: &ChildKey| self.trail(journals, &scope.child(&place.name, visit, key));
                    let inside = match &place.kind {
                        PlaceKind::Branches(names) => Inside::Branches(
                            names
                                .iter()
                                .map(|name| (name.to_string(), below(&ChildKey::Branch(name.clone()))))
                                .collect(),
                        ),
                        _ => Inside::Iterations(
                            (0..*children).map(|index| below(&ChildKey::Index(index))).collect(),
                        ),
                    };
                    if let Some((_, step)) = way.open.last_mut() {
                        step.inside = inside;
                    }
                }
                _ => {}
            }
        }
        way.close_up_to(None);
        way.done
    }
}

/// A way being walked: the states entered and not left, the innermost last.
struct Way {
    open: Vec<(Arc<str>, Step)>,
    done: Trail,
}

impl Way {
    fn close_up_to(&mut self, container: Option<&Arc<str>>) {
        while self.open.last().is_some_and(|(address, _)| Some(address) != container) {
            let Some((_, step)) = self.open.pop() else { return };
            match self.open.last_mut() {
                Some((_, Step { inside: Inside::Block(trail), .. })) => trail.0.push(step),
                _ => self.done.0.push(step),
            }
        }
    }
}
