//! Whatever is written, nothing panics and nothing hangs.

mod common;

use common::World;
use proptest::prelude::*;
use stepwell_expression::{
    Budget, EvalErrorKind, Expression, Path, Program, Template, TemplateOptions, Tree, TreeOptions, Value,
};

const WORDS: &[&str] = &[
    "a",
    "x",
    "ctx",
    "steps",
    "input",
    "services",
    "health",
    "check",
    "result",
    "output",
    "None",
    "True",
    "null",
    "0",
    "1",
    "-1",
    "2.5",
    "1e9",
    "0x1f",
    "99999999999999999999",
    "'s'",
    "\"t\"",
    "\"\"\"q\"\"\"",
    "r'\\d'",
    "f'{n}'",
    "f\"{x!r}\"",
    "b'x'",
    "'",
    "\"",
    "\\",
    "\n",
    "\n  ",
    "\n    ",
    "\t",
    " ",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    ";",
    ".",
    "=",
    "==",
    "!=",
    "<",
    ">",
    "<=",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "&",
    "|",
    "^",
    "~",
    "<<",
    ">>",
    "+=",
    "->",
    "...",
    "if",
    "else",
    "elif",
    "for",
    "in",
    "not",
    "and",
    "or",
    "lambda",
    "def",
    "return",
    "break",
    "continue",
    "pass",
    "load",
    "while",
    "is",
    "len",
    "sorted",
    "max",
    "sum",
    "range",
    "str",
    "int",
    "list",
    "dict",
    "zip",
    "getattr",
    "hasattr",
    "json",
    "encode",
    "decode",
    "fail",
    "round",
    "get",
    "keys",
    "items",
    "append",
    "pop",
    "join",
    "split",
    "format",
    "replace",
    "find",
    "upper",
    "strip",
    "elems",
    "{{",
    "}}",
    "${",
    "$${",
    "$.",
    "$",
    "$$.",
    "env:",
    "#",
    "é",
    "\u{0}",
    "\u{feff}",
    "😀",
    "\r\n",
    "\r",
    "ß",
    "\u{2028}",
];

fn soup() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::collection::vec(prop::sample::select(WORDS), 0..24).prop_map(|words| words.join(" ")),
        3 => prop::collection::vec(prop::sample::select(WORDS), 0..24).prop_map(|words| words.concat()),
        1 => any::<String>(),
    ]
}

fn endure(source: &str) {
    let world = World::new();
    let environment = world.environment();
    let budget = || Budget { fuel: 5_000, bytes: 1 << 16, result_bytes: 1 << 12 };
    if let Ok(expression) = Expression::parse(source) {
        let _ = expression.eval(&environment, &mut budget());
        let _ = expression.eval_condition(&environment, &mut budget());
    }
    match Program::parse(source) {
        Ok(program) => {
            let first = program.eval(&environment, &mut budget());
            assert_eq!(first, program.eval(&environment, &mut budget()), "not the same twice: {source}");
            if let Err(error) = first {
                assert!(error.line as usize <= source.lines().count().max(1), "{source}: {error}");
                assert!(source.contains('\u{1}') || !error.message.contains('\u{1}'), "{source}: {error}");
            }
        }
        Err(error) => assert!(error.line > 0 && error.column > 0),
    }
    for secrets in [false, true] {
        if let Ok(template) = Template::parse(source, &TemplateOptions { secrets }) {
            let _ = template.render(&environment, &mut budget());
        }
    }
    let tree: Value = vec![Value::from(source), Value::from(vec![source])].into();
    if let Ok(tree) = Tree::parse(&tree, &TreeOptions { paths: true, secrets: true }) {
        let _ = tree.render(&environment, &mut budget());
    }
    if let Ok(path) = Path::parse(source) {
        let _ = path.read_in(&environment);
        let _ = path.write(&mut world.context.clone(), Value::Null);
        assert_eq!(Path::parse(&path.to_string()), Ok(path));
    }
    if let Ok(value) = Value::parse_json(source) {
        assert_eq!(Value::parse_json(&value.to_string()), Ok(value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(source in soup()) {
        endure(&source);
    }

    /// Sources that are nearly right go further.
    #[test]
    fn nearly_right_sources_do_not_panic(index in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), word in prop::sample::select(WORDS), cut in 0_usize..4) {
        let lines: Vec<&str> = include_str!("expressions.txt").lines().chain(include_str!("programs.txt").lines()).filter(|line| line.contains("  =>  ")).collect();
        let line = index.get(&lines).split("  =>  ").next().unwrap_or_default().replace('⏎', "\n");
        let characters: Vec<char> = line.chars().collect();
        let at = at.index(characters.len() + 1);
        let mut source: String = characters.iter().take(at).collect();
        source.push_str(word);
        source.extend(characters.iter().skip(at + cut));
        endure(&source);
    }
}

/// What noise once found.
#[test]
fn these_are_endured() {
    for source in ["  a\n\u{2028}\n  b", "   x\n\t\n   y", "d = {}\nd.a += 1", "  1\r\n\r\n  2\r\n"] {
        endure(source);
    }
}

#[test]
fn a_quick_try_gives_up_early_and_says_so() {
    let world = World::new();
    let program = Program::parse("for i in range(1000000):\n  pass\n1").expect("a program");
    let error = program.eval(&world.environment(), &mut Budget::quick()).expect_err("too much");
    assert_eq!(error.kind, EvalErrorKind::FuelExhausted);
    assert_eq!(program.eval(&world.environment(), &mut Budget::full()), Ok(Value::from(1)));
}
