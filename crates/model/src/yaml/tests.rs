use super::*;

fn tree(source: &str) -> Document<'_> {
    parse(source, "a.yaml").unwrap_or_else(|issues| panic!("{source:?}: {issues:?}"))
}

fn json(source: &str) -> String {
    crate::read::to_value(&tree(source).root).to_string()
}

fn codes(source: &str, file: &str) -> Vec<(Code, u32, u32)> {
    parse(source, file).unwrap_err().iter().map(|issue| (issue.code, issue.line, issue.column)).collect()
}

#[test]
fn scalars_are_those_of_yaml_1_2() {
    let cases = [
        ("[~, null, Null, NULL, ]", "[null,null,null,null]"),
        ("[true, True, FALSE, yes, no, on, off]", r#"[true,true,false,"yes","no","on","off"]"#),
        ("[1, -2, +3, 007, 0o17, 0xff, 1_000]", r#"[1,-2,3,7,15,255,"1_000"]"#),
        ("[1.5, .5, 1., 1e3, 1.10.2, 1:30]", r#"[1.5,0.5,1.0,1000.0,"1.10.2","1:30"]"#),
        ("['1', \"true\", !!str 1, ! 2]", r#"["1","true","1","2"]"#),
        (
            "[123456789012345678901234567890, -9223372036854775808]",
            "[123456789012345678901234567890,-9223372036854775808]",
        ),
        ("2030-01-31: 09:00", r#"{"2030-01-31":"09:00"}"#),
        ("1: a\ntrue: b", r#"{"1":"a","true":"b"}"#),
        ("a:\nb: [", ""),
    ];
    for (source, expected) in cases.iter().take(8) {
        assert_eq!(json(source), *expected, "{source}");
    }
    for text in [".inf", "-.Inf", ".NaN", "1e999"] {
        assert_eq!(codes(&format!("a: {text}"), "a.yaml"), [(Code::NotJson, 1, 4)], "{text}");
    }
}

#[test]
fn merge_keys_and_anchors_expand_and_own_keys_win() {
    let source = "base: &base {a: 1, b: {x: 1}}\nmore: &more {b: 2, c: 3}\n\
                  one: {<<: *base, a: 9}\ntwo: {b: 0, <<: [*more, *base]}\nquoted: {'<<': kept}\nlist: [*base, *base]\n";
    assert_eq!(
        json(source),
        r#"{"base":{"a":1,"b":{"x":1}},"more":{"b":2,"c":3},"one":{"b":{"x":1},"a":9},"two":{"b":0,"c":3,"a":1},"quoted":{"<<":"kept"},"list":[{"a":1,"b":{"x":1}},{"a":1,"b":{"x":1}}]}"#
    );
    let document = tree(source);
    let Data::List(items) = &document.root.get("list").unwrap().data else { panic!() };
    assert_eq!(document.pointer(items[1].get("b").unwrap().get("x").unwrap()), "/list/1/b/x");
    assert_eq!(codes("a: &a [*a]", "a.yaml"), [(Code::YamlSyntax, 1, 8)]);
    assert_eq!(codes("a: *b", "a.yaml"), [(Code::YamlSyntax, 1, 4)]);
    // What is missing at the end is missing behind the last character.
    assert_eq!(codes("[", "a.yaml"), [(Code::YamlSyntax, 1, 2)]);
    assert_eq!(codes("id: \na", "a.yaml"), [(Code::YamlSyntax, 2, 2)]);
    assert_eq!(codes("id: x\n? ", "a.yaml"), [(Code::YamlKey, 2, 3)]);
}

#[test]
fn json_files_are_json_and_json_in_yaml_files_may_be_yaml() {
    assert_eq!(
        json("\u{feff}{\n\t\"a\": \"\\ud83d\\ude00\\/\", \"b\": [1, -0.5e1, {}]\n}\n"),
        r#"{"a":"😀/","b":[1,-5.0,{}]}"#
    );
    assert_eq!(json("{a: 1, b: [x,]}"), r#"{"a":1,"b":["x"]}"#);
    let cases: &[(&str, Code, u32, u32)] = &[
        ("{a: 1}", Code::YamlSyntax, 1, 2),
        ("{\"a\": 1,}", Code::YamlSyntax, 1, 8),
        ("{\"a\": yes}", Code::YamlSyntax, 1, 7),
        ("{\"a\": 1, \"a\": 2}", Code::DuplicateKey, 1, 10),
        ("{\"a\": \"x\n\"}", Code::YamlSyntax, 1, 9),
        ("{\"a\": \"x", Code::YamlSyntax, 1, 7),
        ("{\"a\": 1} 2", Code::YamlSyntax, 1, 10),
        ("{\"a\": \"\\ud83d\"}", Code::YamlSyntax, 1, 14),
        (" ", Code::YamlEmpty, 1, 1),
        ("{\"a\": 0x10}", Code::YamlSyntax, 1, 7),
    ];
    for (source, code, line, column) in cases {
        assert_eq!(codes(source, "a.json"), [(*code, *line, *column)], "{source}");
    }
}

#[test]
fn a_character_of_a_text_is_found_in_every_style() {
    // In each, the place of the `@`.
    let cases = [
        ("a: x @", (1, 6)),
        ("a: x\n  y @", (2, 5)),
        ("a: 'it''s @'", (1, 11)),
        ("a: \"q\\\"\\u0041\\n@\"", (1, 16)),
        ("a: \"one\\\n   two @\"", (2, 8)),
        ("a: |\n  one\n\n    two @\n  three\n", (4, 9)),
        ("a: >-\n  one\n  two @ x\n", (3, 7)),
        ("a: &x |2 # note @\n    one @\n", (2, 9)),
        ("a: !!str >\n  one\n\n  @\n", (4, 3)),
        ("- é: [\"ö @\"]", (1, 10)),
        ("a: |\r\n  one\r\n  @\r\n", (3, 3)),
        ("{\"a\": \"\\ud83d\\ude00 @\"}", (1, 21)),
    ];
    for (source, expected) in cases {
        let document = tree(source);
        let mut at = &document.root;
        loop {
            at = match &at.data {
                Data::Map(entries) => &entries[0].value,
                Data::List(items) => &items[0],
                _ => break,
            };
        }
        let offset = at.text().unwrap().chars().position(|c| c == '@').unwrap();
        assert_eq!(document.position(at, offset), expected, "{source:?}");
    }
}

#[test]
fn everything_is_bounded() {
    assert_eq!(codes(&"a".repeat(MAX_BYTES + 1), "a.yaml"), [(Code::YamlLimit, 1, 1)]);
    assert_eq!(codes("a: 1\rb: 2", "a.yaml"), [(Code::YamlSyntax, 1, 5)]);
    assert_eq!(codes(&format!("a: {}", "9".repeat(40)), "a.yaml"), [(Code::NotJson, 1, 4)]);
    for source in [
        "[".repeat(50_000),
        "- ".repeat(50_000),
        "a: ".repeat(200),
        "{a: ".repeat(50_000),
        "{\"a\":".repeat(50_000),
    ] {
        for file in ["a.yaml", "a.json"] {
            let issues = parse(&source, file).unwrap_err();
            assert!(matches!(issues[0].code, Code::YamlLimit | Code::YamlSyntax), "{issues:?}");
        }
    }
    let merges: Vec<String> =
        (0..500).map(|i| format!("a{i}: &a{i} {{<<: [{}], k{i}: 1}}", aliases(i))).collect();
    let merges = merges.join("\n");
    assert_eq!(codes(&merges, "a.yaml")[0].0, Code::YamlLimit);
}

fn aliases(before: usize) -> String {
    (before.saturating_sub(3)..before).map(|j| format!("*a{j}")).collect::<Vec<_>>().join(", ")
}
