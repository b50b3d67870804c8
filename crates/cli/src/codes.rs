//! The codes of this crate's errors. Those of the crates below and of a server pass through as they are.

/// Each with a line of what it means; their pages stand in `docs/errors`.
#[cfg(test)]
pub(crate) const CODES: &[(&str, &str)] = &[
    ("FILE_UNREADABLE", "a file or folder cannot be read"),
    ("NO_FILES", "there is nothing to work on in the paths given"),
    ("NO_PROJECT", "a folder is no project"),
    ("DATABASE_NOT_FOUND", "there is no database at this path"),
    ("INPUT_NOT_JSON", "a value given on the command line is no JSON"),
    ("ENDPOINT_INVALID", "the address of a server cannot be read"),
    ("SERVER_UNREACHABLE", "no server answers at the address"),
    ("SERVER_ERROR", "what answered is no Stepwell server"),
    ("REQUEST_INVALID", "what was asked cannot be sent"),
    ("APPROVAL_AMBIGUOUS", "several approvals could be meant"),
    ("APPROVAL_UNANSWERABLE", "a run asks, and nobody can answer"),
    ("SYNC_OTHER_PROJECT", "the running server serves another project"),
    ("AWS_CREDENTIALS", "there are no keys or no region for AWS"),
    ("STACK_UNKNOWN", "a stack cannot be found, or it is none of ours"),
    ("SYSTEM", "the system refused something that everything needs"),
];

/// Codes of the crates below that the command line tells as well, because it meets the same thing first.
#[cfg(test)]
const SHARED: &[&str] = &[
    "ADDRESS_UNAVAILABLE",
    "APPROVAL_NOT_FOUND",
    "BAD_DURATION",
    "DEFINITION_INVALID",
    "PROCESS_TABLE_UNUSABLE",
    "RESULT_NOT_JSON",
    "STORE_LOCKED",
    "STORE_PATH",
];

#[test]
fn every_code_is_in_the_table() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let known: Vec<&str> = CODES.iter().map(|(code, _)| *code).chain(SHARED.iter().copied()).collect();
    let mut used = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for made in source.split(concat!("Failure", "::new(")).skip(1) {
            if let Some(code) = made.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                used.insert(code.to_owned());
            }
        }
    }
    let unknown: Vec<_> = used.iter().filter(|code| !known.contains(&code.as_str())).collect();
    let unused: Vec<_> = known.iter().filter(|code| !used.contains(**code)).collect();
    assert!(
        unknown.is_empty() && unused.is_empty(),
        "not in the table: {unknown:?}; told by nobody: {unused:?}"
    );
}
