//! The contexts of a run's scopes, as the fold of their journals has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::ForkContext;
use engine::RunId;
use engine::Scope;
use engine::ScopeKey;
use engine::ScopePath;
use expression::Value;
use model::Workflow;

use super::Journals;

/// The context of every scope with a journal.
pub(super) fn of<'a>(
    workflow: &Workflow,
    journals: &Journals,
    run: &RunId,
    paths: impl Iterator<Item = &'a ScopePath>,
) -> Result<BTreeMap<ScopePath, Value>, String> {
    let mut paths: Vec<&ScopePath> = paths.collect();
    // Parents first: a child begins with what its parent had when it forked.
    paths.sort_by_key(|path| path.depth());
    let mut bases: BTreeMap<ScopePath, Arc<ForkContext>> = BTreeMap::new();
    let mut contexts = BTreeMap::new();
    for path in paths {
        let key = ScopeKey::new(run.clone(), path.clone());
        let Some(records) = journals.get(&key) else { continue };
        let mut scope = if path.is_root() {
            Scope::root(run.clone())
        } else {
            let base = bases.get(path).ok_or_else(|| format!("{path} has a journal, but no fork made it"))?;
            Scope::child(key, base.clone())
        };
        let mut last_fork = 0;
        for record in records {
            scope.replay(workflow, record).map_err(|error| error.to_string())?;
            let Some(fork) = scope.fork(workflow).filter(|fork| fork.seq() > last_fork) else { continue };
            last_fork = fork.seq();
            let children: Vec<_> = (0..fork.children()).map(|index| fork.path(index)).collect();
            let Some(context) = scope.fork_context(workflow).map(Arc::new) else { continue };
            bases.extend(children.into_iter().map(|child| (child, context.clone())));
        }
        contexts.insert(path.clone(), scope.context().clone());
    }
    Ok(contexts)
}
