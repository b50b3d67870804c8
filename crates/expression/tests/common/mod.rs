//! What the tests share: a workflow's context, and evaluation in one line.

// Not every test uses everything; and helpers of tests are tests.
#![allow(dead_code, clippy::panic)]

use stepwell_expression::{
    Budget, Data, Environment, EvalError, Expression, Names, Path, Program, Special, Value,
};

/// JSON text as a value.
pub(crate) fn json(text: &str) -> Value {
    Value::parse_json(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A run in the middle of a workflow.
pub(crate) struct World {
    pub(crate) context: Value,
    pub(crate) input: Value,
    pub(crate) names: Names,
    pub(crate) data_path: Option<Path>,
    pub(crate) iteration: Vec<(std::sync::Arc<str>, Value)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let names = Names::builder()
            .state("check_services")
            .state("diagnostics")
            .state("check-pods")
            .state("later")
            .result(&path("steps.health"), "check_services")
            .result(&path("analysis"), "analyze_ip")
            .result(&path("approval"), "request_approval")
            .result(&path("steps.diagnostics"), "diagnostics")
            .branch_result(&path("steps.diagnostics"), "pods")
            .branch_result(&path("steps.diagnostics"), "errors")
            .writes("deploy_status", "simulate_deploy")
            .build();
        let context = json(
            r#"{
                "namespace": "production",
                "services": ["api", "web", "worker"],
                "thresholds": {"errorRate": 0.05, "latencyP99": 500},
                "n": 3, "big": 18446744073709551615, "f": 2.5, "t": true, "nothing": null,
                "name": "Ada", "list": [1, 2, 3], "from": {"keys": 1, "items": "x", "a.b": 7},
                "deep": {"a": {"b": [{"c": "found"}]}},
                "analysis": {"risk_score": 0.9, "reason": "scan"},
                "workflow": {"id": "w", "version": "1.0", "input": {"namespace": "production"}},
                "steps": {
                    "health": {"error_rate": 0.12, "status": "degraded"},
                    "wrapped": {"result": {"x": 1}, "output": 5},
                    "number": 7,
                    "check-pods": {"ready": 3},
                    "check_services": {"error_rate": 0.12, "status": "degraded"},
                    "diagnostics": {"pods": {"ready": 3}, "errors": {"error_rate": 0.2}}
                }
            }"#,
        );
        let input = json(r#"{"kubernetes": {"pods": [1, 2]}, "value": 5}"#);
        Self { context, input, names, data_path: None, iteration: Vec::new() }
    }

    pub(crate) fn environment(&self) -> Environment<'_> {
        let mut environment = Environment::new(&self.context, &self.input, &self.names);
        environment.iteration = &self.iteration;
        environment.special =
            Special { timestamp: Some("2026-01-02T03:04:05Z"), run_id: Some("run-1"), ..Special::default() };
        if let Some(path) = &self.data_path {
            environment.data = Some(Data::read(path, &environment).unwrap_or_else(|error| panic!("{error}")));
        }
        environment
    }

    pub(crate) fn eval(&self, source: &str) -> Result<Value, String> {
        let expression = Expression::parse(source).map_err(|error| error.to_string())?;
        expression.eval(&self.environment(), &mut Budget::full()).map_err(|error| error.to_string())
    }

    pub(crate) fn run(&self, source: &str) -> Result<Value, String> {
        let program = Program::parse(source).map_err(|error| error.to_string())?;
        program.eval(&self.environment(), &mut Budget::full()).map_err(|error| error.to_string())
    }

    pub(crate) fn run_within(&self, source: &str, mut budget: Budget) -> Result<Value, EvalError> {
        let program = Program::parse(source).unwrap_or_else(|error| panic!("{error}: {source}"));
        program.eval(&self.environment(), &mut budget)
    }
}

/// Each line is an expression or program, an arrow, and the JSON it gives or `!` and a part of its error.
pub(crate) fn check(cases: &str, eval: impl Fn(&str) -> Result<Value, String>) {
    let mut failures = Vec::new();
    for line in cases.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("##")) {
        let (source, expected) = line.rsplit_once("  =>  ").unwrap_or_else(|| panic!("no arrow: {line}"));
        let source = source.trim_end().replace("⏎", "\n");
        let expected = expected.trim();
        let got = eval(&source);
        let right = match (&got, expected.strip_prefix('!')) {
            (Err(error), Some(part)) => error.contains(part.trim()),
            (Ok(value), None) => value.to_string() == json(expected).to_string(),
            _ => false,
        };
        if !right {
            let got = got.map_or_else(|error| format!("! {error}"), |value| value.to_string());
            failures.push(format!("{source}\n    expected {expected}\n    got      {got}"));
        }
    }
    assert!(failures.is_empty(), "{} wrong:\n{}", failures.len(), failures.join("\n"));
}
