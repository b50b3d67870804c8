//! Sources that try to run away: each ends at once, with the right error, on a small stack.

mod common;

use std::fmt::Write as _;

use common::World;
use stepwell_expression::{
    Budget, EvalErrorKind, Expression, Path, Program, Template, TemplateOptions, Tree, TreeOptions, Value,
};

/// What a server's worker may have, and much less than a test's own thread.
const STACK: usize = 1 << 20;

/// Blocks in blocks.
fn nested(n: usize, head: &str) -> String {
    let mut out = String::new();
    for indent in 0..n {
        let _ = writeln!(out, "{}{head}", " ".repeat(indent));
    }
    out
}

fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(test);
    assert!(thread.is_ok_and(|thread| thread.join().is_ok()), "the test failed on the small stack");
}

#[test]
fn programs_end_with_the_right_error() {
    use EvalErrorKind::{CallDepth, Expression, FuelExhausted, MemoryExhausted, ResultTooLarge, TooDeep};
    let cases: &[(&str, EvalErrorKind)] = &[
        (r#""a" * 2000000000"#, MemoryExhausted),
        (r#"2000000000 * "a""#, MemoryExhausted),
        ("[0] * 2000000000", MemoryExhausted),
        ("(0,) * 9223372036854775807", MemoryExhausted),
        ("list(range(300000000))", MemoryExhausted),
        ("tuple(range(9223372036854775807))", MemoryExhausted),
        ("[x for x in range(300000000)]", MemoryExhausted),
        ("{x: x for x in range(300000000)}", MemoryExhausted),
        ("max(range(1000000000))", FuelExhausted),
        ("sum(range(1000000000))", FuelExhausted),
        ("any([]) or all(range(1, 1000000000))", FuelExhausted),
        ("sorted(range(1000000000))", MemoryExhausted),
        ("range(1000000000)", MemoryExhausted),
        ("[range(1000), range(100000000)]", MemoryExhausted),
        ("zip(range(100000000), range(100000000))", MemoryExhausted),
        ("enumerate(range(100000000))", MemoryExhausted),
        ("reversed(range(100000000))", MemoryExhausted),
        ("range(0, 1000000000)[::-1]", MemoryExhausted),
        ("range(1000000000) == range(1, 1000000000) or [0] == list(range(1000000000))", MemoryExhausted),
        ("for i in range(1000000000):\n  pass\n1", FuelExhausted),
        ("for i in range(100000):\n  for j in range(100000):\n    pass\n1", FuelExhausted),
        ("s = 'ab'\nfor i in range(60):\n  s = s + s\ns", MemoryExhausted),
        ("s = 'ab'\nfor i in range(60):\n  s = s.replace('a', 'aa').replace('b', 'bb')\ns", MemoryExhausted),
        ("s = 'a' * 10000\ns.replace('', 'x' * 10000)", MemoryExhausted),
        ("s = 'x' * 1000000\ns.join(['a'] * 1000000)", MemoryExhausted),
        ("s = 'x' * 1000000\n'%s' * 1000 % tuple([s] * 1000)", MemoryExhausted),
        ("s = 'x' * 1000000\n('{0}' * 1000).format(s)", MemoryExhausted),
        ("s = 'x' * 1000000\n[f'{s}{s}' for i in range(1000)]", MemoryExhausted),
        ("s = 'x' * 1000000\n[s.upper() for i in range(1000)]", MemoryExhausted),
        ("s = 'x' * 1000000\nfor i in range(100000):\n  s.find('y')\n1", FuelExhausted),
        ("s = 'x' * 1000000\nfor i in range(100000):\n  s[999999]\n1", FuelExhausted),
        ("s = 'x' * 1000000\nfor i in range(100000):\n  len(s)\n1", FuelExhausted),
        ("s = 'x' * 1000000\nd = {}\nfor i in range(100000):\n  d[s]=1\n1", FuelExhausted),
        ("s = 'x' * 1000000\nfor i in range(100000):\n  s == s + ''\n1", MemoryExhausted),
        ("s = 'x' * 500000\nt = 'x' * 500000\nfor i in range(1000000):\n  s == t\n1", FuelExhausted),
        ("('x' * 1000000).strip('y' * 1000000 + 'x')", FuelExhausted),
        ("('xy' * 1000000).split('x')", MemoryExhausted),
        ("('x' * 10000000).elems()", MemoryExhausted),
        ("x = 1 << 100000\nfor i in range(100000):\n  x = x * x\nx", FuelExhausted),
        ("x = 3\nfor i in range(100000):\n  x = x * x\nx", FuelExhausted),
        ("x = 1 << 100000\n[str(x) for i in range(1000)]", FuelExhausted),
        ("int('9' * 100000)", FuelExhausted),
        ("x = 1 << 99999\ny = 1 << 50000\nfor i in range(1000000):\n  x // y\n1", FuelExhausted),
        ("x = []\nfor i in range(10000):\n  x = [x]\nx", TooDeep),
        ("x = ()\nfor i in range(10000):\n  x = (x,)\nx", TooDeep),
        ("x = {}\nfor i in range(1000):\n  x = {'a': x}\nx", TooDeep),
        ("x = ()\nfor i in range(1000):\n  x = (x,)\n{x: 1}", TooDeep),
        ("x = []\ny = []\nfor i in range(1000):\n  x = [x]\n  y = [y]\nx == y", TooDeep),
        ("x = []\ny = []\nfor i in range(1000):\n  x = [x]\n  y = [y]\nx < y", TooDeep),
        ("x = []\nfor i in range(1000):\n  x = [x]\nstr(x)", TooDeep),
        ("x = []\nfor i in range(1000):\n  x = [x]\njson.encode(x)", TooDeep),
        ("x = []\nfor i in range(1000):\n  x = [x]\nfail(x)", TooDeep),
        ("x = [1]\nfor i in range(60):\n  x = [x, x]\nx", MemoryExhausted),
        ("x = [1]\nfor i in range(60):\n  x = [x, x]\nlen(str(x))", FuelExhausted),
        ("x = [1]\ny = [1]\nfor i in range(60):\n  x = [x, x]\n  y = [y, y]\nx == y", FuelExhausted),
        ("x = (1,)\nfor i in range(60):\n  x = (x, x)\n{x: 1}", MemoryExhausted),
        ("def f():\n  return f()\nf()", CallDepth),
        ("def f(x):\n  return max([x], key=f)\nf(1)", CallDepth),
        ("def f(x):\n  return sorted([x], key=lambda y: f(y))\nf(1)", CallDepth),
        ("f = lambda g: g(g)\nf(f)", CallDepth),
        ("def f(n):\n  return [f(x) for x in [n]]\nf(1)", CallDepth),
        ("def f(n):\n  return ((((((((((((f(n)))))))))))))\nf(1)", CallDepth),
        ("def f(n):\n  return [[[[[[[[[[[[f(n)]]]]]]]]]]]]\nf(1)", TooDeep),
        ("'x' * 2000000", ResultTooLarge),
        ("['x' * 100000] * 1000", ResultTooLarge),
        ("json.decode('[' * 10000)", Expression),
        ("json.decode('[' * 129 + ']' * 129)", Expression),
        ("json.decode('9' * 100000)", Expression),
        ("[[[json.decode('[' * 63 + ']' * 63)]]]", TooDeep),
        ("max([1] * 100000, key=lambda x: [0] * 100000)", MemoryExhausted),
        ("def f(**k):\n  return k\nf(**{str(i): i for i in range(5000)})", FuelExhausted),
        ("x = list(range(10000))\nfor i in range(100000):\n  x.insert(0, i)\n1", FuelExhausted),
        ("x = list(range(10000))\nfor i in range(100000):\n  x.pop(0)\n1", FuelExhausted),
        ("x = list(range(10000))\nfor i in range(100000):\n  -1 in x\n1", FuelExhausted),
        ("'{}'.format('x' * 40000000) + '%r' % ('y' * 40000000)", MemoryExhausted),
        ("float('1' * 50000000)", MemoryExhausted),
    ];
    // Small, so that a debug build needs no patience; what matters is that each limit holds.
    let budget = Budget { fuel: 400_000, bytes: 4 << 20, result_bytes: 1 << 20 };
    let cases: Vec<_> = cases.to_vec();
    on_a_small_stack(move || {
        let world = World::new();
        let mut wrong = Vec::new();
        for (source, expected) in cases {
            match world.run_within(source, budget.clone()) {
                Err(error) if error.kind == expected => {}
                Err(error) => {
                    wrong.push(format!("{source}\n  expected {expected:?}, got {:?}: {error}", error.kind));
                }
                Ok(value) => wrong.push(format!("{source}\n  gave {} bytes", value.to_string().len())),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn deep_sources_are_refused_before_they_are_parsed() {
    let n = 3000;
    let many = |part: &str| part.repeat(n);
    let sources = [
        many("(") + "1" + &many(")"),
        many("[") + &many("]"),
        many("{'a':") + "1" + &many("}"),
        many("-") + "1",
        many("~") + "1",
        many("+") + "1",
        many("not ") + "1",
        many("lambda: ") + "1",
        many("lambda x=lambda: 1, y=2: ") + "1",
        many("1 if 1 else ") + "1",
        many("[x for x in ") + "[1]" + &many("]"),
        "[1 ".to_owned() + &many("for x in [1] ") + "]",
        "[1 for x in [1] ".to_owned() + &many("if 1 ") + "]",
        "1".to_owned() + &many("+1"),
        "1".to_owned() + &many(" and 1"),
        "1".to_owned() + &many(" or 1"),
        "1".to_owned() + &many(" in 1"),
        "1".to_owned() + &many("*-1"),
        "x".to_owned() + &many(".y"),
        "x".to_owned() + &many("()"),
        "x".to_owned() + &many("[0]"),
        "x".to_owned() + &many("[0:1]"),
        "x".to_owned() + &many(".y()"),
        many("f(") + &many(")"),
        many("x.f(a=") + &many(")"),
        many("f'{") + "1" + &many("}'"),
        many("[1,(2,") + &many(")]"),
        many("(") + "",
        many("{") + "",
        many("x[") + "",
        nested(n, "if 1:"),
        nested(n / 10, "for x in y:") + &" ".repeat(n / 10) + "1\n",
        nested(n / 10, "def f():") + &" ".repeat(n / 10) + "1\n",
        "if 1:\n  1\n".to_owned() + &many("elif 1:\n  1\n") + "else:\n  1\n1",
        "x = ".to_owned() + &many("1 or (") + "1" + &many(")") + "\nx",
        many("(") + "x" + &many(")") + " = 1\nx",
        many("x, (") + "x" + &many(")") + " = 1\nx",
    ];
    for source in sources {
        on_a_small_stack(move || {
            let shown: String = source.chars().take(40).collect();
            let mut refused = 0;
            for error in
                [Expression::parse(&source).err(), Program::parse(&source).err()].into_iter().flatten()
            {
                assert!(
                    matches!(
                        error.code,
                        "EXPRESSION_TOO_NESTED" | "EXPRESSION_SYNTAX" | "EXPRESSION_TOO_LONG"
                    ),
                    "{shown}: {error}"
                );
                refused += 1;
            }
            assert_eq!(refused, 2, "{shown} was not refused");
            assert!(Template::parse(&format!("{{{{ {source} }}}}"), &TemplateOptions::default()).is_err());
        });
    }
}

/// The largest number that is accepted, where all smaller ones are.
fn deepest(accepted: impl Fn(usize) -> bool) -> usize {
    let (mut yes, mut no) = (0, 1000);
    while no - yes > 1 {
        let middle = usize::midpoint(yes, no);
        if accepted(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    yes
}

/// The deepest that is accepted is parsed, lowered, evaluated and dropped on the small stack.
#[test]
fn sources_at_the_limit_are_safe() {
    let shapes: &[(&str, &str, &str)] = &[
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{'a':", "1", "}"),
        ("-", "1", ""),
        ("not ", "1", ""),
        ("(lambda: ", "1", ")()"),
        ("lambda: ", "1", ""),
        ("1 if 0 else ", "1", ""),
        ("[x for x in ", "[1]", "]"),
        ("", "1", "+1"),
        ("", "1", " and 1"),
        ("", "ctx", ".get('x', {})"),
        ("", "[]", "[0:1]"),
        ("len(str(", "1", "))"),
        ("max([", "1", "])"),
        ("f'{", "1", "}'"),
        ("1 or 1 and 1 == 1 | 1 ^ 1 & 1 << 1 + 1 * -(", "1", ")"),
        ("0 or 1 and 2 != 0 | 1 ^ 1 & 3 << 1 + 1 * (", "1", ")"),
        ("(lambda x: x)(", "1", ")"),
        ("sorted([[1]], key=lambda x: ", "1", ")"),
        ("[0][", "0", "]"),
        ("{'a': 1}.get(", "1", ")"),
        ("dict(a=", "1", ")"),
    ];
    for (open, middle, close) in shapes {
        let make = |n: usize| open.repeat(n) + middle + &close.repeat(n);
        let most = deepest(|n| Expression::parse(&make(n)).is_ok());
        assert!(most >= 10, "{open}: only {most}");
        let source = make(most);
        on_a_small_stack(move || {
            let world = World::new();
            let expression = Expression::parse(&source).expect("parsed before");
            let _ = expression.eval(&world.environment(), &mut Budget::full());
            drop(expression);
            // The same inside a call at the deepest.
            let program = format!(
                "def f(n):\n  return f(n + 1) if n < 60 else 1\ndef g(n):\n  x = {source}\n  return g(n)\ng(0)"
            );
            if let Ok(program) = Program::parse(&program) {
                assert!(program.eval(&world.environment(), &mut Budget::full()).is_err());
            }
        });
    }
    let blocks: &[fn(usize) -> String] = &[
        |n| "if 1:\n  1\n".to_owned() + &"elif 1:\n  1\n".repeat(n) + "1",
        |n| nested(n, "if 1:") + &" ".repeat(n) + "1\n1",
        |n| nested(n, "for x in [1]:") + &" ".repeat(n) + "1\n1",
        |n| nested(n, "def f():") + &" ".repeat(n) + "1\nf()",
        |n| "(".repeat(n) + "x" + &",)".repeat(n) + " = 1\n1",
    ];
    for make in blocks {
        let most = deepest(|n| Program::parse(&make(n)).is_ok());
        assert!(most >= 10, "{}: only {most}", make(2));
        let source = make(most);
        on_a_small_stack(move || {
            let world = World::new();
            let _ = Program::parse(&source)
                .expect("parsed before")
                .eval(&world.environment(), &mut Budget::full());
        });
    }
    // Recursion through the most expensive arms there are.
    let recursions = [
        "def f(x):\n  return max([x], key=lambda y: f(y))\nf(1)",
        "def f(x):\n  for y in [x]:\n    if y:\n      for z in [y]:\n        if z:\n          return [f(z) for w in [1] if f(z)][0]\nf(1)",
        "def f(x):\n  return {'a': [f'{(f(x) if x else 1)}']}\nf(1)",
        "def f(x):\n  return sorted([x], key=lambda y: [(lambda z: f(z))(w) for w in [y] if w or f(w)])\nf(1)",
        "def f(x):\n  a, (b, c) = f(x), (1, 2)\n  return a\nf(1)",
        "def f(x):\n  d = {}\n  d[f(x)] += 1\n  return d\nf(1)",
        "def f(x):\n  return not (-(1 + (2 * (f(x) and 3 or 4))))\nf(1)",
    ];
    for source in recursions {
        on_a_small_stack(move || {
            let world = World::new();
            let error = world.run_within(source, Budget::full()).expect_err("endless recursion");
            assert!(
                matches!(error.kind, EvalErrorKind::CallDepth | EvalErrorKind::TooDeep),
                "{source}: {error}"
            );
        });
    }
}

#[test]
fn long_sources_are_refused() {
    let long = "x".repeat(70_000);
    assert_eq!(Expression::parse(&long).map(|_| ()).expect_err("too long").code, "EXPRESSION_TOO_LONG");
    assert_eq!(Program::parse(&long).map(|_| ()).expect_err("too long").code, "EXPRESSION_TOO_LONG");
    let text = "a".repeat(2_000_000);
    assert!(Template::parse(&text, &TemplateOptions::default()).is_ok());
    let error = Template::parse(&(text + "{{ 1 }}"), &TemplateOptions::default()).expect_err("too long");
    assert_eq!(error.code, "EXPRESSION_TOO_LONG");
    // As long as allowed, and nothing but names.
    let names = format!("[{}]", "a,".repeat(32_000));
    assert!(Expression::parse(&names).is_ok());
}

#[test]
fn deep_values_are_refused() {
    on_a_small_stack(|| {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        let most = Value::parse_json(&deep(64)).expect("as deep as allowed");
        assert_eq!(most, most.clone());
        assert_eq!(most.to_string(), deep(64));
        assert!(most.deep_size() > 64);
        assert!(Value::parse_json(&deep(65)).is_err());
        assert!(Value::parse_json(&"[".repeat(1_000_000)).is_err());
        // What is read back may be deeper: a context holds values.
        assert!(serde_json::from_str::<Value>(&deep(100)).is_ok());
        assert!(serde_json::from_str::<Value>(&deep(101)).is_err());
        let tree = Value::parse_json(&format!("[{}]", deep(62))).expect("deep");
        assert!(Tree::parse(&tree, &TreeOptions::default()).is_ok());
        let mut context = Value::object();
        assert_eq!(
            Path::parse("a").expect("a path").write(&mut context, most).expect_err("too deep").code,
            "PATH_TOO_DEEP"
        );
        let long = "a".to_owned() + &".b".repeat(1000);
        assert_eq!(Path::parse(&long).expect_err("too long").code, "PATH_TOO_DEEP");
    });
}

#[test]
fn limits_are_exact() {
    let world = World::new();
    let cases = ["[x * 2 for x in range(100)]", "'abc' * 1000", "sorted([3, 1, 2] * 10)", "{'a': ctx}"];
    for source in cases {
        let program = Program::parse(source).expect("a program");
        let mut budget = Budget::full();
        let value = program.eval(&world.environment(), &mut budget).expect("within the limits");
        let full = Budget::full();
        let used = Budget {
            fuel: full.fuel - budget.fuel,
            bytes: full.bytes - budget.bytes,
            result_bytes: full.result_bytes - budget.result_bytes,
        };
        assert_eq!(used.result_bytes, value.to_string().len() as u64, "{source}");
        assert_eq!(world.run_within(source, used.clone()).as_ref(), Ok(&value), "{source}");
        for (less, kind) in [
            (Budget { fuel: used.fuel - 1, ..used.clone() }, EvalErrorKind::FuelExhausted),
            (Budget { bytes: used.bytes.saturating_sub(1), ..used.clone() }, EvalErrorKind::MemoryExhausted),
            (Budget { result_bytes: used.result_bytes - 1, ..used.clone() }, EvalErrorKind::ResultTooLarge),
        ] {
            if less != used {
                assert_eq!(world.run_within(source, less).expect_err("one less").kind, kind, "{source}");
            }
        }
    }
}
