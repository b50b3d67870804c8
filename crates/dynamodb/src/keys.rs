//! Where everything stands in the table.
//!
//! | item | partition | sort | in an index |
//! | --- | --- | --- | --- |
//! | record | `J#run#path` | its number, 20 digits | the first one in `listed` under `J#run`, by path |
//! | snapshot | `J#run#path` | `!`, before all records | |
//! | context of a fork | `J#run#path` | `f#number`, behind all records | |
//! | summary | `R#run` | `META` | `listed` under `R#shard`, `by-workflow` under `W#workflow#status#shard`, `by-status` under `S#status#shard`, each by its start |
//! | due entry | `R#run` | `D#path` | `listed` under `D#shard`, by its time |
//! | approval | `R#run` | `A#id` | `by-workflow` under `A#shard`, and while it is pending `listed` under `P#shard`, by when it was asked |
//! | waiter | `R#run` | `W#path` | |
//! | lease | `R#run` | `L#path` | |
//! | version of a definition | `F#kind#id` | `V#version` | |
//! | the newest version with a hash | `F#kind#id` | `H#hash` | |
//! | the active version, a copy | `F#kind#id` | `ACTIVE` | |
//! | name of a definition | `FS#kind` | its id | |
//!
//! A name that is not the last part of a key has its `#` escaped, so that no two things share a key. What would be too long
//! for a key is cut and ends in a hash; where the whole text is needed, it is an attribute.

use std::borrow::Cow;
use std::fmt::Write as _;

use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use runtime::ports::DefinitionKind;
use runtime::ports::RunStatus;
use sha2::Digest;
use sha2::Sha256;

/// The sort key of a snapshot.
pub(crate) const SNAPSHOT: &str = "!";
/// The sort keys of records lie from the first of these (included) to the second.
pub(crate) const RECORDS: (&str, &str) = ("0", ":");
/// The sort key of a run's summary.
pub(crate) const META: &str = "META";
/// The sort key of the active version of a definition.
pub(crate) const ACTIVE: &str = "ACTIVE";
/// How many shards a list of runs or approvals has. It stands in the table: a change needs a migration.
pub(crate) const LIST_SHARDS: u8 = 4;
/// How many shards the due entries have. It stands in the table: a change needs a migration.
pub(crate) const DUE_SHARDS: u8 = 16;

/// Bytes of one part of a key. A sort key has 1024, and holds a time, a run and an id at most.
const PART: usize = 460;
/// Bytes of a path, which stands beside nothing longer than a prefix, or in a partition key.
const PATH: usize = 900;

pub(crate) fn journal(scope: &ScopeKey) -> String {
    format!("J#{}#{}", run_part(&scope.run), path_part(&scope.path))
}

pub(crate) fn record(seq: u64) -> String {
    format!("{seq:020}")
}

pub(crate) fn fork(seq: u64) -> String {
    format!("f#{seq}")
}

pub(crate) fn run(run: &RunId) -> String {
    format!("R#{}", run_part(run))
}

pub(crate) fn due(path: &ScopePath) -> String {
    format!("D#{}", path_part(path))
}

pub(crate) fn lease(path: &ScopePath) -> String {
    format!("L#{}", path_part(path))
}

pub(crate) fn waiter(path: &ScopePath) -> String {
    format!("W#{}", path_part(path))
}

pub(crate) fn approval(id: &str) -> String {
    format!("A#{}", fit(id, PATH))
}

pub(crate) fn definition(kind: DefinitionKind, id: &str) -> String {
    format!("F#{}#{}", kind_part(kind), fit(id, PATH))
}

pub(crate) fn version(version: &str) -> String {
    format!("V#{}", fit(version, PATH))
}

pub(crate) fn hash(hash: &str) -> String {
    format!("H#{}", fit(hash, PATH))
}

/// The partition of the names of a kind, and a name's sort key in it.
pub(crate) fn names(kind: DefinitionKind) -> String {
    format!("FS#{}", kind_part(kind))
}

pub(crate) fn name(id: &str) -> Cow<'_, str> {
    fit(id, PATH)
}

/// The partition of `listed` that lists a run's scopes, and a path's place there.
pub(crate) fn scopes(run: &RunId) -> String {
    format!("J#{}", run_part(run))
}

pub(crate) fn scope_place(path: &ScopePath) -> Cow<'_, str> {
    path_part(path)
}

/// The partitions of `listed` with due entries; each scope's by its run.
pub(crate) fn due_shard(shard: u8) -> String {
    format!("D#{shard}")
}

pub(crate) fn due_place(at: Timestamp, scope: &ScopeKey) -> String {
    format!("{}#{}#{}", time(at), run_part(&scope.run), fit(scope.path.as_str(), PART))
}

/// Where the entries of a time end: above all of them, below those of any later time.
pub(crate) fn due_until(at: Timestamp) -> String {
    format!("{}$", time(at))
}

/// The partitions of the lists of runs.
pub(crate) fn runs(shard: u8) -> String {
    format!("R#{shard}")
}

pub(crate) fn runs_of(workflow: &str, status: RunStatus, shard: u8) -> String {
    format!("W#{}#{status}#{shard}", part(workflow))
}

pub(crate) fn runs_in(status: RunStatus, shard: u8) -> String {
    format!("S#{status}#{shard}")
}

pub(crate) fn run_place(started: Timestamp, run: &RunId) -> String {
    format!("{}#{}", time(started), run_part(run))
}

/// The partitions of the lists of approvals.
pub(crate) fn approvals(shard: u8) -> String {
    format!("A#{shard}")
}

pub(crate) fn pending(shard: u8) -> String {
    format!("P#{shard}")
}

pub(crate) fn approval_place(asked: Timestamp, run: &RunId, id: &str) -> String {
    format!("{}#{}#{}", time(asked), run_part(run), fit(id, PART))
}

/// The shard of whatever belongs to a run. The same for ever: items stand under it.
pub(crate) fn shard(run: &RunId, shards: u8) -> u8 {
    let first = Sha256::digest(run.as_str()).first().copied().unwrap_or(0);
    first % shards
}

/// The folder of a run's large values.
pub(crate) fn run_folder(run: &RunId) -> String {
    format!("runs/{}/", hashed(run.as_str(), 32))
}

/// The folder of a definition's large values.
pub(crate) fn definition_folder(kind: DefinitionKind, id: &str) -> String {
    format!("definitions/{}/{}/", kind_part(kind), hashed(id, 32))
}

/// A time whose order as text is its order in time.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{:022}", at.as_nanosecond() + 1_000_000_000_000_000_000_000)
}

fn kind_part(kind: DefinitionKind) -> char {
    match kind {
        DefinitionKind::Workflow => 'w',
        DefinitionKind::Agent => 'a',
    }
}

fn run_part(run: &RunId) -> String {
    part(run.as_str())
}

fn path_part(path: &ScopePath) -> Cow<'_, str> {
    fit(path.as_str(), PATH)
}

/// A part of a key that others follow.
fn part(text: &str) -> String {
    fit(&text.replace('%', "%25").replace('#', "%23"), PART).into_owned()
}

/// The text, if it is short enough for `most` bytes; else its beginning and a hash of the whole.
fn fit(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    for character in text.chars() {
        if kept.len() + character.len_utf8() > most - 33 {
            break;
        }
        kept.push(character);
    }
    Cow::Owned(format!("{kept}~{}", hashed(text, 32)))
}

/// The first `digits` of the hash of a text, in hexadecimal.
pub(crate) fn hashed(text: &str, digits: usize) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_share_a_key_and_none_is_too_long() {
        let key =
            |run: &str, path: &str| journal(&ScopeKey::new(RunId::new(run), ScopePath::from_stored(path)));
        assert_ne!(key("a", "#b"), key("a#", "b"));
        assert_ne!(key("a%23", "b"), key("a#", "b"));
        let long = "ü".repeat(3000);
        let scope = ScopeKey::new(RunId::new(&*long), ScopePath::from_stored(&*long));
        assert!(journal(&scope).len() <= 2048);
        assert_ne!(key(&long, "x"), key(&format!("{long}x"), "x"));
        for sort in [
            due(&scope.path),
            due_place(Timestamp::MAX, &scope),
            approval(&long),
            approval_place(Timestamp::MIN, &scope.run, &long),
            version(&long),
        ] {
            assert!(sort.len() <= 1024, "{} bytes", sort.len());
        }
    }

    #[test]
    fn times_as_text_are_in_order() {
        let times =
            [Timestamp::MIN, Timestamp::UNIX_EPOCH, "2026-01-31T09:00:00Z".parse().unwrap(), Timestamp::MAX];
        assert!(times.is_sorted_by_key(|at| time(*at)));
        assert!(times.iter().all(|at| time(*at).len() == 22));
        let scope = ScopeKey::root(RunId::new("r"));
        assert!(due_place(Timestamp::UNIX_EPOCH, &scope) < due_until(Timestamp::UNIX_EPOCH));
    }
}
