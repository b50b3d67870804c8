//! The expression evaluator never panics, stays inside its budget, and says the same twice.
#![no_main]

use std::sync::LazyLock;

use expression::{Budget, Environment, Expression, Names, Path, Program, Template, TemplateOptions, Value};
use libfuzzer_sys::fuzz_target;

static CONTEXT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(
        r#"{"a": {"b": [0, 1.5, -7, "ü", null, true, {"c": "x"}]}, "n": 12345678901234567890123, "s": "häl\"lo",
            "steps": {"health": {"result": {"error_rate": 0.12}, "status": "ok"}, "text": "t"},
            "workflow": {"id": "w", "version": "1", "runId": "r", "input": {"a": 1}}}"#,
    )
    .expect("the context is JSON")
});
static NAMES: LazyLock<Names> =
    LazyLock::new(|| Names::builder().state("health").state("later").writes("b", "later").build());

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let environment = Environment::new(&CONTEXT, &Value::Null, &NAMES);
    // Small enough that an input is done in milliseconds, with every limit in reach.
    let budget = || Budget { fuel: 50_000, bytes: 1 << 20, result_bytes: 64 << 10 };
    if let Ok(parsed) = Expression::parse(source) {
        same(|| parsed.eval(&environment, &mut budget()).map_err(|e| e.to_string()));
    }
    if let Ok(parsed) = Program::parse(source) {
        same(|| parsed.eval(&environment, &mut budget()).map_err(|e| e.to_string()));
    }
    if let Ok(parsed) = Template::parse(source, &TemplateOptions { secrets: true }) {
        same(|| parsed.eval(&environment, &mut budget()).map_err(|e| e.to_string()));
    }
    if let Ok(path) = Path::parse(source) {
        let written = path.to_string();
        assert_eq!(Path::parse(&written).as_ref(), Ok(&path), "{source:?} was written as {written:?}");
    }
});

/// An evaluation depends on nothing but its arguments, and what it gives fits in its budget.
fn same(eval: impl Fn() -> Result<Value, String>) {
    let first = eval();
    assert_eq!(first, eval());
    if let Ok(value) = first {
        let json = serde_json::to_vec(&value).expect("a result is JSON");
        assert!(json.len() <= 64 << 10, "{} bytes came through a limit of 64 KiB", json.len());
    }
}
