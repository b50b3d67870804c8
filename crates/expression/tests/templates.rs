//! Templates, trees of templates, secrets.

mod common;

use common::{World, check, json};
use stepwell_expression::{
    Budget, EvalErrorKind, Part, SecretSource, Template, TemplateOptions, Tree, TreeOptions, Value,
};

fn template(world: &World, source: &str) -> Result<Value, String> {
    let template = Template::parse(source, &TemplateOptions::default()).map_err(|error| error.to_string())?;
    template.eval(&world.environment(), &mut Budget::full()).map_err(|error| error.to_string())
}

#[test]
fn templates_are_filled_in() {
    let mut world = World::new();
    let evil = "{{ 1 + 1 }} ${env:SECRET} ${namespace} $.n";
    if let Some(context) = world.context.object_mut() {
        context.insert("evil", evil);
    }
    check(
        r#"
        Check {{ ctx.services }} now  =>  "Check [\"api\",\"web\",\"worker\"] now"
        {{ ctx.services }}  =>  ["api","web","worker"]
        {{ctx.n}}  =>  3
        ( {{ ctx.n }} )  =>  "( 3 )"
        {{ n }}{{ n }}  =>  "33"
        Rate {{ steps.diagnostics.errors.result.error_rate }}.  =>  "Rate 0.2."
        {{ $.deep.a.b[0].c }}  =>  "found"
        a {{ $.thresholds }} b  =>  "a {\"errorRate\":0.05,\"latencyP99\":500} b"
        {{ $.missing }}  =>  ! `missing` cannot be read: there is no key `missing`
        ${namespace}  =>  "production"
        ${services}  =>  ["api","web","worker"]
        in ${namespace}!  =>  "in production!"
        ${nowhere}  =>  ! `${nowhere}` is no root key of the context
        ${nowhere}  =>  ! write `$${nowhere}`
        ${a.b}  =>  ! is no root key
        ${HOME:-x}  =>  ! write `$${HOME:-x}`
        $${namespace}  =>  "${namespace}"
        $5 and {x} and }} and $  =>  "$5 and {x} and }} and $"
        {{ '{{' }} and {{ "}}" }}  =>  "{{ and }}"
        {{ {"a": {"b": 1}} }}  =>  {"a":{"b":1}}
        {{ {"a": {"b": 1}}}}  =>  {"a":{"b":1}}
        {{ "a'}}" + '"}}' }}!  =>  "a'}}\"}}!"
        {{ None }} and {{ True }} and {{ 1.0 }}  =>  "null and true and 1.0"
        {{ 10000000000 * 10000000000 }}!  =>  "100000000000000000000!"
        {{ evil }}  =>  "{{ 1 + 1 }} ${env:SECRET} ${namespace} $.n"
        x{{ evil }}  =>  "x{{ 1 + 1 }} ${env:SECRET} ${namespace} $.n"
        {{ x  =>  ! the `{{` is not closed
        {{ }}  =>  ! an expression is expected
        {{ a b }}  =>  ! unexpected identifier 'b' behind a complete expression (line 1, column 6)
        ⏎  {{ n.x }}  =>  ! (line 2, column 8: `n.x`)
        ${env:TOKEN}  =>  ! a secret cannot stand here
        plain  =>  "plain"
        "#,
        |source| template(&world, source),
    );
}

#[test]
fn white_space_around_one_template_is_ignored() {
    let world = World::new();
    assert_eq!(template(&world, "  {{ n }}\n"), Ok(json("3")));
    assert_eq!(template(&world, "").as_ref(), Ok(&json(r#""""#)));
}

#[test]
fn a_tree_is_filled_in_and_its_secrets_are_named() {
    let world = World::new();
    let options = TreeOptions { paths: true, secrets: true };
    let source = json(
        r#"{
            "url": "https://x/{{ namespace }}?q=${env:KEY}",
            "token": "${vault:kv/app#token}",
            "path": "$.thresholds.errorRate", "whole": "$.steps.health.output", "price": "$$.50", "dollars": "$.5 each",
            "from data": {"a/b~c": ["{{ name }}", 1, "${aws-sm:db#password}"]},
            "plain": ["a", {"b": null}]
        }"#,
    );
    let tree = Tree::parse(&source, &options).expect("a tree");
    assert!(!tree.is_literal());
    let rendered = tree.render(&world.environment(), &mut Budget::full()).expect("rendered");
    let expected = json(
        r#"{
            "url": "https://x/production?q=${env:KEY}",
            "token": "${vault:kv/app#token}",
            "path": 0.05, "whole": {"error_rate": 0.12, "status": "degraded"}, "price": "$.50", "dollars": "$.5 each",
            "from data": {"a/b~c": ["Ada", 1, "${aws-sm:db#password}"]},
            "plain": ["a", {"b": null}]
        }"#,
    );
    assert_eq!(rendered.value.to_string(), expected.to_string());
    let slots: Vec<_> = rendered.secrets.iter().map(|slot| slot.pointer.as_str()).collect();
    assert_eq!(slots, ["/url", "/token", "/from data/a~1b~0c/2"]);
    let [url, token, _] = rendered.secrets.as_slice() else { panic!("three secrets") };
    assert_eq!(url.parts.first(), Some(&Part::Text("https://x/production?q=".to_owned())));
    let Some(Part::Secret(secret)) = token.parts.first() else { panic!("a secret") };
    assert_eq!((secret.source, secret.name.as_str()), (SecretSource::Vault, "kv/app"));
    assert_eq!(secret.field.as_deref(), Some("token"));
    let stored = serde_json::to_string(&rendered.secrets).expect("stored");
    assert_eq!(
        serde_json::from_str::<Vec<stepwell_expression::SecretSlot>>(&stored).expect("read"),
        rendered.secrets
    );
}

#[test]
fn data_never_makes_a_secret() {
    let mut world = World::new();
    if let Some(context) = world.context.object_mut() {
        context.insert("evil", "${env:SECRET}");
    }
    let tree = Tree::parse(
        &json(r#"["{{ evil }}", "x {{ evil }}", "${evil}", "$.evil", "{{ $.evil }} ${env:OK}"]"#),
        &TreeOptions { paths: true, secrets: true },
    )
    .expect("a tree");
    let rendered = tree.render(&world.environment(), &mut Budget::full()).expect("rendered");
    assert_eq!(rendered.secrets.len(), 1);
    let parts = &rendered.secrets.first().expect("one").parts;
    assert_eq!(parts.first(), Some(&Part::Text("${env:SECRET} ".to_owned())));
    assert_eq!(parts.len(), 2);
}

#[test]
fn every_wrong_string_of_a_tree_is_named() {
    let source = json(r#"{"a": "{{ 1 + }}", "b": ["ok", "{{"], "c": "$.a..b", "d": "${env:X}"}"#);
    let errors =
        Tree::parse(&source, &TreeOptions { paths: true, secrets: false }).map(|_| ()).expect_err("errors");
    let places: Vec<_> = errors.iter().map(|error| (error.pointer.as_str(), error.error.code)).collect();
    assert_eq!(
        places,
        [
            ("/a", "EXPRESSION_SYNTAX"),
            ("/b/1", "EXPRESSION_SYNTAX"),
            ("/c", "PATH_SYNTAX"),
            ("/d", "EXPRESSION_SYNTAX")
        ]
    );
    let tree =
        Tree::parse(&json(r#"{"a": {"b": "{{ missing }}"}}"#), &TreeOptions::default()).expect("a tree");
    let world = World::new();
    let error = tree.render(&world.environment(), &mut Budget::full()).expect_err("missing");
    assert!(error.to_string().starts_with("at /a/b: nothing is named `missing`"), "{error}");
}

#[test]
fn what_is_read_is_known() {
    let options = TemplateOptions::default();
    let source =
        "{{ a.b[\"c\"].get('d', 1).e }} ${k} {{ $.x.y[0].z }}\n{{ [q for q in items if hasattr(q, 'w')] }}";
    let template = Template::parse(source, &options).expect("a template");
    let found: Vec<_> = template
        .references()
        .iter()
        .map(|r| {
            format!(
                "{}:{} {}.{}{}",
                r.line,
                r.column,
                r.name,
                r.keys.join("."),
                if r.optional { "?" } else { "" }
            )
        })
        .collect();
    assert_eq!(found, ["1:4 a.b.c.d?", "1:32 ctx.k", "1:38 ctx.x.y", "2:16 items."]);
    let program = stepwell_expression::Program::parse(
        "x = input.a\ndef f(y):\n  return y + z.q\nf(x) if hasattr(ctx, 'maybe') else ctx.maybe.part - steps.check-pods",
    )
    .expect("a program");
    let found: Vec<_> = program
        .references()
        .iter()
        .map(|r| format!("{}.{}{}", r.name, r.keys.join("."), if r.optional { "?" } else { "" }))
        .collect();
    assert_eq!(found, ["input.a", "z.q", "ctx.", "ctx.maybe?", "ctx.maybe.part?", "steps.check", "pods."]);
    assert!(
        program
            .references()
            .last()
            .and_then(|r| r.hint.as_deref())
            .is_some_and(|hint| hint.contains("steps[\"check-pods\"]"))
    );
}

#[test]
fn a_result_too_large_is_refused_wherever_it_comes_from() {
    let mut world = World::new();
    if let Some(context) = world.context.object_mut() {
        context.insert("large", "x".repeat(1000));
    }
    // Many templates in one text cost no more than their number.
    let many = "{{ n }}\n".repeat(100_000);
    let template = Template::parse(&many, &TemplateOptions::default()).expect("a template");
    assert_eq!(template.references().last().map(|reference| reference.line), Some(100_000));
    for source in ["{{ large }}", "{{ large }}!", "{{ $.large }}", "${large}", "$.large"] {
        let tree =
            Tree::parse(&json(&format!("[\"{source}\"]")), &TreeOptions { paths: true, secrets: false })
                .expect("a tree");
        let small = Budget { result_bytes: 500, ..Budget::full() };
        let error = tree.render(&world.environment(), &mut small.clone()).expect_err("too large");
        assert_eq!(error.kind, EvalErrorKind::ResultTooLarge, "{source}");
    }
}
