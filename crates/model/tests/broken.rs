//! Every file under `tests/broken` is refused with exactly the issues that its first lines announce.
//!
//! `# expect: CODE line:column`, one line for each error (`# warn:` for each warning); of a JSON file, which has no
//! comments, they stand in a file beside it that ends in `.expect`.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;

use stepwell_model as model;

use model::Code;
use model::Issue;
use model::Options;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/broken");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "json"))
        .collect();
    files.sort();
    files
}

fn expected(path: &Path, source: &str) -> Vec<String> {
    let beside = path.with_extension("json.expect");
    let text = if beside.exists() { std::fs::read_to_string(beside).unwrap() } else { source.to_owned() };
    let mut expected: Vec<String> = text
        .lines()
        .filter_map(|line| line.trim_start_matches('\u{feff}').strip_prefix("# "))
        .filter_map(|line| {
            let error = line.strip_prefix("expect: ").map(|rest| format!("error {rest}"));
            error.or_else(|| line.strip_prefix("warn: ").map(|rest| format!("warning {rest}")))
        })
        .map(|line| line.trim().to_owned())
        .collect();
    expected.sort();
    expected
}

fn found(issues: &[Issue]) -> Vec<String> {
    let line = |issue: &Issue| format!("{} {} {}:{}", issue.severity, issue.code, issue.line, issue.column);
    let mut found: Vec<String> = issues.iter().map(line).collect();
    found.sort();
    found
}

#[test]
fn every_broken_file_is_refused_with_the_right_codes_at_the_right_places() {
    let files = files();
    assert!(files.len() >= 40, "there are only {} files", files.len());
    let mut wrong = String::new();
    for path in &files {
        let source = std::fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let parsed = model::parse(&source, &Options { file: &name, ..Options::default() });
        let (expected, found) = (expected(path, &source), found(&parsed.issues));
        if expected != found || parsed.workflow.is_some() {
            let text = model::render_issues(&source, &name, &parsed.issues, false);
            let _ = write!(wrong, "\n==== {name}\nexpected {expected:#?}\nfound {found:#?}\n{text}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_code_has_a_page_and_no_two_are_spelled_alike() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let mut seen = std::collections::BTreeSet::new();
    for code in Code::ALL {
        assert!(seen.insert(code.as_str()), "{code} twice");
        let page = std::fs::read_to_string(pages.join(format!("{code}.md")));
        assert!(page.is_ok_and(|text| text.starts_with(&format!("# {code}\n"))), "{code} has no page");
    }
}
