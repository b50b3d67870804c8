//! Who is who: runs, scopes, steps. All ids are text that is safe in keys, file names and subjects.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

/// One execution of one version of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Arc<str>);

impl RunId {
    /// An id as a client or another run names it.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The id that a client's idempotency key gives: the same key starts the same run.
    pub fn from_key(workflow: &str, key: &str) -> Self {
        Self::hashed("key", &[workflow, key])
    }

    /// The id of the run that a schedule's tick starts: a tick seen twice starts one run.
    pub fn from_tick(workflow: &str, state: &str, tick: &str) -> Self {
        Self::hashed("tick", &[workflow, state, tick])
    }

    /// The id of the run that a webhook's delivery starts: a repeated delivery is the same run.
    pub fn from_delivery(workflow: &str, webhook: &str, delivery: &str) -> Self {
        Self::hashed("delivery", &[workflow, webhook, delivery])
    }

    /// The id of the run that an event starts: an event that comes twice starts one run of each workflow it matches.
    pub fn from_event(workflow: &str, event: &str) -> Self {
        Self::hashed("event", &[workflow, event])
    }

    /// The id of the child run of a `workflow` state, so that a takeover finds the child it already has.
    pub fn from_step(step: &StepId, attempt: u32) -> Self {
        Self::hashed("step", &[step.as_str(), &attempt.to_string()])
    }

    fn hashed(kind: &str, parts: &[&str]) -> Self {
        Self(digest(kind, parts, 16).into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A step: one visit of one state in one scope. The same over retries, takeovers and restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(Arc<str>);

impl StepId {
    /// `hash(run, scope path, state name, visit)`.
    pub fn new(run: &RunId, scope: &ScopePath, state: &str, visit: u32) -> Self {
        Self(digest("step-id", &[run.as_str(), scope.as_str(), state, &visit.to_string()], 12).into())
    }

    /// The id's text: 24 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a scope stands in the tree of its run: `/`, `/diagnostics#1/pods`, `/check#2[3]`.
///
/// Names are percent-encoded where they hold a character that separates (`/ # [ ] %`), a control character or a space,
/// so that two scopes never share a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopePath(Arc<str>);

impl ScopePath {
    /// The root scope, `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The journal of a run's signals; it is no scope, but it is kept like one.
    pub fn inbox() -> Self {
        Self("@inbox".into())
    }

    /// The path as a store or a doorbell hands it back.
    pub fn from_stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The scope of one child of the fork that this scope's state made on this visit.
    #[must_use]
    pub fn child(&self, state: &str, visit: u32, key: &ChildKey) -> Self {
        let mut text = String::with_capacity(self.0.len() + state.len() + 12);
        if !self.is_root() {
            text.push_str(&self.0);
        }
        text.push('/');
        encode(state, &mut text);
        // Writing to a String cannot fail.
        let _ = write!(text, "#{visit}");
        match key {
            ChildKey::Branch(name) => {
                text.push('/');
                encode(name, &mut text);
            }
            ChildKey::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
        }
        Self(text.into())
    }

    /// The parent's path and this scope's key there; `None` for the root and for the inbox.
    pub fn parent(&self) -> Option<(Self, ChildKey)> {
        if let Some(head) = self.0.strip_suffix(']') {
            let (head, index) = head.rsplit_once('[')?;
            let (parent, _state) = head.rsplit_once('/')?;
            return Some((Self::or_root(parent), ChildKey::Index(index.parse().ok()?)));
        }
        let (head, branch) = self.0.rsplit_once('/')?;
        let (parent, _state) = head.rsplit_once('/')?;
        Some((Self::or_root(parent), ChildKey::Branch(decode(branch).into())))
    }

    fn or_root(text: &str) -> Self {
        if text.is_empty() { Self::root() } else { Self(text.into()) }
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// How many forks lie above.
    pub fn depth(&self) -> usize {
        self.0.bytes().filter(|byte| *byte == b'#').count()
    }

    /// The path's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A child among its siblings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChildKey {
    /// A branch of a `parallel`.
    Branch(Arc<str>),
    /// An iteration of a `foreach`, from 0.
    Index(u32),
}

/// A scope of a run: what a journal, a lease and a doorbell are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScopeKey {
    /// The run.
    pub run: RunId,
    /// The scope's path in it.
    pub path: ScopePath,
}

impl ScopeKey {
    /// The scope `path` of `run`.
    pub fn new(run: RunId, path: ScopePath) -> Self {
        Self { run, path }
    }

    /// The run's root scope.
    pub fn root(run: RunId) -> Self {
        Self { run, path: ScopePath::root() }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ScopePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ScopeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.run, self.path)
    }
}

impl fmt::Display for ChildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// Hexadecimal SHA-256 of the parts, cut to `bytes`. Each part is preceded by its length: no two lists collide by concatenation.
fn digest(kind: &str, parts: &[&str], bytes: usize) -> String {
    let mut hasher = Sha256::new();
    hasher.update(kind.as_bytes());
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hex(hasher.finalize().iter().take(bytes))
}

pub(crate) fn hex<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(64);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
        }
    }
    text
}

fn encode(name: &str, into: &mut String) {
    for character in name.chars() {
        if matches!(character, '/' | '#' | '[' | ']' | '%' | ' ') || character.is_control() {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                let _ = write!(into, "%{byte:02X}");
            }
        } else {
            into.push(character);
        }
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
            let value =
                std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(value.unwrap_or(b'?'));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_parent_and_survives_any_name() {
        let root = ScopePath::root();
        let branch = root.child("run diag/x", 1, &ChildKey::Branch("a[0]/#%é".into()));
        assert_eq!(branch.as_str(), "/run%20diag%2Fx#1/a%5B0%5D%2F%23%25é");
        assert_eq!(branch.parent(), Some((root.clone(), ChildKey::Branch("a[0]/#%é".into()))));
        let item = branch.child("check", 2, &ChildKey::Index(3));
        assert_eq!(item.as_str(), format!("{branch}/check#2[3]"));
        assert_eq!(item.parent(), Some((branch, ChildKey::Index(3))));
        assert_eq!((root.parent(), ScopePath::inbox().parent()), (None, None));
        assert_eq!(item.depth(), 2);
    }

    #[test]
    fn ids_do_not_collide_by_concatenation() {
        assert_ne!(RunId::from_key("ab", "c"), RunId::from_key("a", "bc"));
        let run = RunId::new("r");
        let root = ScopePath::root();
        assert_ne!(StepId::new(&run, &root, "s", 11), StepId::new(&run, &root, "s1", 1));
        assert_eq!(StepId::new(&run, &root, "s", 1), StepId::new(&run, &root, "s", 1));
    }
}
