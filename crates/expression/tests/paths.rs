//! Paths: written, read, and what they say when they cannot.

mod common;

use common::{World, check, json, path};
use stepwell_expression::{Path, Value};

#[test]
fn paths_are_read() {
    let world = World::new();
    check(
        r#"
        namespace  =>  "production"
        $.namespace  =>  "production"
        ctx.namespace  =>  "production"
        ctx.deep.a.b[0].c  =>  "found"
        deep.a["b"][0]['c']  =>  "found"
        from["a.b"]  =>  7
        ["from"]["a.b"]  =>  7
        $["from"].keys  =>  1
        steps.health.result.error_rate  =>  0.12
        steps.health.output  =>  {"error_rate":0.12,"status":"degraded"}
        steps.wrapped.result  =>  {"x":1}
        steps.wrapped.output.output  =>  5
        steps.number.result  =>  7
        steps.check-pods.ready  =>  3
        steps.diagnostics.errors.result.error_rate  =>  0.2
        input.value  =>  5
        _runID  =>  "run-1"
        workflow.input.namespace  =>  "production"
        namespase  =>  ! `namespase` cannot be read: there is no key `namespase` in `$`
        namespase  =>  ! did you mean `namespace`?
        thresholds.errorrate  =>  ! there is errorRate, latencyP99; did you mean `errorRate`?
        deep.a.b[3]  =>  ! there is no item 3 in `deep.a.b`; it has 1
        name.x  =>  ! `name` is a string, and has no key `x`
        services.x  =>  ! `services` is an array, and has no key `x`
        name[0]  =>  ! `name` is a string, no array
        approval  =>  ! it is written by the state `request_approval`, which has not run here
        steps.later.x  =>  ! it is written by the state `later`
        steps.health.output.output  =>  ! there is no key `output` in `steps.health.output`
        "#,
        |source| {
            Path::parse(source)
                .and_then(|path| path.read_in(&world.environment()))
                .map_err(|error| error.to_string())
        },
    );
}

#[test]
fn what_is_no_path_is_refused() {
    for text in [
        "",
        ".",
        "a.",
        "a..b",
        "a[",
        "a[]",
        "a[-1]",
        "a[1",
        "a['x]",
        "a[\"x]",
        "a b",
        "a.b c",
        "$a",
        "$.",
        "ctx.",
        "[0]",
        "a[99999999999999999999]",
        "a]",
        "a[0]b",
        "{a}",
        "a,b",
        "a\n",
        "$$.a",
        "a[0x1]",
        "a[\"\\q\"]",
    ] {
        let error = Path::parse(text).expect_err(text);
        assert_eq!(error.code, "PATH_SYNTAX", "{text}");
    }
}

#[test]
fn a_path_reads_back_as_itself() {
    for text in [
        "a",
        "$",
        "a.b[0].c",
        "[\"a.b\"].c",
        "[\"\"]",
        "a[\"x\\\"y\"]",
        "[\"ctx\"].a",
        "ctx.ctx",
        "steps.check-pods",
        "é.ü",
        "a[\"b c\"]",
        "a[\"$\"]",
    ] {
        let path = path(text);
        assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(&path), "{text} as {path}");
        let stored = serde_json::to_string(&path).expect("stored");
        assert_eq!(serde_json::from_str::<Path>(&stored).expect("read"), path);
    }
    assert!(path("$").is_root() && path("ctx").is_root());
    assert_eq!(path("$.a"), path("ctx.a"));
    assert_ne!(path("ctx.ctx"), path("ctx"));
}

#[test]
fn paths_are_written() {
    let cases = [
        ("a", r#"{"a": 9, "b": {"c": [1, 2]}, "s": "x", "n": null}"#),
        ("new.deep.key", r#"{"a": 1, "b": {"c": [1, 2]}, "s": "x", "n": null, "new": {"deep": {"key": 9}}}"#),
        ("b.c[1]", r#"{"a": 1, "b": {"c": [1, 9]}, "s": "x", "n": null}"#),
        ("ctx.b.d", r#"{"a": 1, "b": {"c": [1, 2], "d": 9}, "s": "x", "n": null}"#),
        ("n.x", r#"{"a": 1, "b": {"c": [1, 2]}, "s": "x", "n": {"x": 9}}"#),
        (
            "steps._x.input",
            r#"{"a": 1, "b": {"c": [1, 2]}, "s": "x", "n": null, "steps": {"_x": {"input": 9}}}"#,
        ),
        ("s.x", "!PATH_NOT_A_CONTAINER"),
        ("a[0]", "!PATH_NOT_A_CONTAINER"),
        ("b.c[2]", "!PATH_INDEX"),
        ("b.c.x", "!PATH_NOT_A_CONTAINER"),
        ("steps", "!PATH_RESERVED"),
        ("ctx.ctx", "!PATH_RESERVED"),
        ("input.x", "!PATH_RESERVED"),
        ("workflow.id", "!PATH_RESERVED"),
        ("_error", "!PATH_RESERVED"),
        ("$", "!PATH_ROOT_NOT_OBJECT"),
    ];
    for (text, expected) in cases {
        let mut context = json(r#"{"a": 1, "b": {"c": [1, 2]}, "s": "x", "n": null}"#);
        let before = context.clone();
        match path(text).write(&mut context, Value::from(9)) {
            Ok(()) => assert_eq!(context, json(expected), "{text}"),
            Err(error) => {
                assert_eq!(format!("!{}", error.code), expected, "{error}");
                assert_eq!(context, before, "{text} changed something");
            }
        }
        assert_eq!(before, json(r#"{"a": 1, "b": {"c": [1, 2]}, "s": "x", "n": null}"#), "a copy changed");
    }
    let mut context = json(r#"{"a": 1, "b": 2}"#);
    path("ctx").write(&mut context, json(r#"{"b": {"x": 1}, "c": 3}"#)).expect("merged");
    assert_eq!(context.to_string(), r#"{"a":1,"b":{"x":1},"c":3}"#);
    let error = path("$").write(&mut context, json(r#"{"ok": 1, "steps": {}}"#)).expect_err("reserved");
    assert_eq!(error.code, "PATH_RESERVED");
    assert_eq!(context.to_string(), r#"{"a":1,"b":{"x":1},"c":3}"#);
}

#[test]
fn a_states_own_result_has_names() {
    let own = json(r#"{"status": "ok", "data": 4}"#);
    for (text, expected) in [
        ("$.result", own.to_string()),
        ("$.result.status", "\"ok\"".into()),
        ("$.branches.status", "\"ok\"".into()),
        ("$.data", "4".into()),
        ("$", own.to_string()),
    ] {
        assert_eq!(path(text).read_in_result(&own).expect(text).to_string(), expected, "{text}");
    }
    assert!(path("$.result.x").read_in_result(&own).is_err());
}

#[test]
fn values_are_what_json_is() {
    let text =
        r#"{"z":1,"a":[1.0,-0.0,18446744073709551615,-9223372036854775808,1e300,"é\n\u0001\"\\"],"n":null}"#;
    let value = json(text);
    assert_eq!(serde_json::from_str::<Value>(text).expect("read"), value);
    assert_eq!(value.to_string(), serde_json::to_string(&value).expect("written"));
    assert_eq!(
        serde_json::Value::from(&value),
        serde_json::from_str::<serde_json::Value>(text).expect("read")
    );
    assert_eq!(Value::from(serde_json::Value::from(&value)), value);
    assert_eq!(json("123456789012345678901234567890").to_string(), "123456789012345678901234567890");
    for wrong in [
        "",
        "01",
        "1.",
        ".5",
        "nul",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "\"\t\"",
        "\"\\ud800\"",
        "1 2",
        "1e999",
        "NaN",
        "+1",
        "--1",
        "\u{feff}1",
    ] {
        assert!(Value::parse_json(wrong).is_err(), "{wrong}");
    }
    assert_eq!(json("\"\\ud83d\\ude00\"").as_str(), Some("😀"));
    assert_eq!(json("3"), json("3.0"));
    assert_ne!(json("9007199254740993"), json("9007199254740992.0"));
}
