//! Whatever text is thrown at it, reading ends with a workflow or with errors, and never with a panic.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;
use stepwell_model as model;

use model::Issue;
use model::Options;

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/broken");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn check(source: &str) {
    for file in ["a.yaml", "a.json"] {
        let parsed = model::parse(source, &Options { file, ..Options::default() });
        assert_eq!(parsed.workflow.is_none(), parsed.issues.iter().any(Issue::is_error), "{source}");
        model::render_issues(source, file, &parsed.issues, true);
        if let Some(workflow) = parsed.workflow {
            let again = model::parse(
                &workflow.definition.to_string(),
                &Options { file: "a.json", ..Options::default() },
            );
            assert_eq!(again.workflow.map(|again| again.hash), Some(workflow.hash));
        }
    }
    for file in ["a.agent.yaml", "a.agent.json", "a.prompt", source] {
        model::agent::parse(source, file);
    }
    let _ = model::parse_duration(source);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(source in "\\PC{0,80}") {
        check(&source);
    }

    #[test]
    fn anything_that_looks_like_yaml(source in "([-{}\\[\\]:,&*!|>'\"%@`#? \\n\\t~<a$.0]){0,60}") {
        check(&source);
    }

    /// Real files with a piece cut out, doubled or replaced reach further in than noise does.
    #[test]
    fn real_files_with_an_accident(which in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(),
                                   length in 0..40usize, patch in "[-{}\\[\\]:,&*|>'\"# \\na-z0-9$.]{0,6}") {
        let corpus = corpus();
        let source = &corpus[which.index(corpus.len())];
        let chars: Vec<char> = source.chars().collect();
        let from = from.index(chars.len() + 1);
        let until = (from + length).min(chars.len());
        let broken: String = chars[..from].iter().copied().chain(patch.chars()).chain(chars[until..].iter().copied()).collect();
        check(&broken);
    }
}
