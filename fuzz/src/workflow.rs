//! The workflow parser never panics, never runs away, and quotes only places that exist.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    for file in ["fuzz.workflow.yaml", "fuzz.workflow.json"] {
        let parsed = model::parse(source, &model::Options { file, ..model::Options::default() });
        let refused = parsed.issues.iter().any(model::Issue::is_error);
        assert_eq!(parsed.workflow.is_none(), refused, "a workflow or an error, and never both");
        // As YAML counts them: a carriage return alone ends a line, too.
        let breaks = source.replace("\r\n", "\n").matches(['\n', '\r']).count();
        let lines = u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1);
        for issue in &parsed.issues {
            assert!(issue.line >= 1 && issue.line <= lines, "line {} of {lines}: {issue}", issue.line);
            assert!(issue.column >= 1, "{issue}");
        }
        model::render_issues(source, file, &parsed.issues, false);
        if let Some(workflow) = parsed.workflow {
            // What is stored is read again when a run goes on: it must be the same workflow.
            let definition = serde_json::to_string(&workflow.definition).expect("a definition is JSON");
            let again = model::parse(
                &definition,
                &model::Options { file: "stored.json", ..model::Options::default() },
            );
            let again =
                again.workflow.unwrap_or_else(|| panic!("refused when read again: {:?}", again.issues));
            assert_eq!(again.hash, workflow.hash);
        }
    }
});
