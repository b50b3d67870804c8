use std::collections::BTreeSet;

use expression::Object;
use expression::Value;

use super::*;
use crate::Action;
use crate::Agent;
use crate::Kind;
use crate::Wait;
use crate::fields::ActionName;
use crate::fields::Field;
use crate::fields::Inside;
use crate::fields::Type;

fn workflow(source: &str) -> Workflow {
    let parsed = parse(source, &Options { file: "a.yaml", ..Options::default() });
    parsed.workflow.unwrap_or_else(|| panic!("{source}\n{:#?}", parsed.issues))
}

fn issues(source: &str, options: &Options<'_>) -> Vec<String> {
    let parsed = parse(source, options);
    parsed
        .issues
        .iter()
        .map(|issue| format!("{} {} {}:{}", issue.severity, issue.code, issue.line, issue.column))
        .collect()
}

fn request(state: &State) -> String {
    match &state.kind {
        Kind::Operation(operation) => operation.request.source().to_string(),
        other => panic!("{other:?}"),
    }
}

/// A workflow that uses every field of the table in its canonical spelling.
const EVERYTHING: &str = r#"
id: all
version: "1"
name: All
description: every field
inputSchema: {type: object}
outputSchema: true
start: operation
timeoutSeconds: 1d
labels: {team: x}
triggers:
  - {type: schedule, cron: "0 9 * * *", timezone: UTC, enabled: true, missed: catchUp, input: {}}
  - {type: webhook, name: hook, secret: "${env:SECRET}", signature: github, headers: [X-GitHub-Event]}
  - {type: event, filter: {kind: x}}
states:
  - {id: operation, name: An operation, type: operation, description: d, if: "True", action: agent.run, agent: a, task: t,
     variables: {v: 1}, input: {x: 1}, timeoutSeconds: 5, atMostOnce: false, resultPath: r, output: {k: $.a}, next: agent,
     retry: {maxAttempts: 2, backoffSeconds: 1, backoff: fixed, maxBackoffSeconds: 9, jitter: 0.1, retryOn: [timeout]}}
  - {id: agent, type: agent, action: agent.run, agent: a, task: t, variables: {}, input: {}, timeoutSeconds: 5, retry: {maxAttempts: 2},
     atMostOnce: true, next: approval}
  - {id: approval, type: human_approval, action: human.approval, input: {}, message: m, title: t, summaryPath: r, approvers: ["user:x"],
     quorum: 1, separationOfDuties: true, onReject: cancel, onTimeout: approve, formSchema: {type: object}, timeoutSeconds: 5,
     next: approval2}
  - {id: approval2, type: operation, action: human.approval, input: {}, message: m, title: t, summaryPath: r, approvers: ["user:x"],
     quorum: 1, separationOfDuties: true, onReject: cancel, onTimeout: approve, formSchema: {type: object}, timeoutSeconds: 5,
     next: http}
  - {id: http, type: operation, action: http.call, method: GET, url: "https://x", headers: {}, query: {}, body: {}, expect: 200,
     timeoutSeconds: 5, retry: {maxAttempts: 2}, atMostOnce: true, input: {}, next: lambda}
  - {id: lambda, type: operation, action: lambda.invoke, function: f, payload: {}, timeoutSeconds: 5, retry: {maxAttempts: 2},
     atMostOnce: true, input: {}, next: run}
  - {id: run, type: operation, action: workflow.run, workflow: w, version: "2", input: {x: 1}, timeoutSeconds: 5, next: log}
  - {id: log, type: operation, action: log, message: m, level: info, timeoutSeconds: 5, retry: {maxAttempts: 2}, atMostOnce: true,
     input: {}, next: parallel}
  - id: parallel
    type: parallel
    branches:
      - {id: one, name: One, description: d, start: x, states: [{id: x, type: succeed}], output: r}
      - {name: two, agent: a, task: t, variables: {}, input: {}, if: "True", resultPath: z, timeoutSeconds: 5, retry: {maxAttempts: 2},
         atMostOnce: true}
    join: {mode: all, onFailure: wait}
    outputAggregation: array
    timeoutSeconds: 5
    next: each
  - id: each
    type: foreach
    itemsPath: r
    itemName: thing
    maxConcurrency: 2
    iterator: {start: x, states: [{id: x, type: succeed, output: thing}], output: thing}
    onFailure: wait
    outputAggregation: array
    timeoutSeconds: 5
    next: each2
  - {id: each2, type: foreach, itemsPath: r, agent: a, task: t, variables: {}, input: {}, retry: {maxAttempts: 2}, atMostOnce: true, next: each3}
  - {id: each3, type: foreach, itemsPath: r, next: loop, iterator: {agent: a, task: t, variables: {}, input: {}, if: "True", resultPath: z,
     timeoutSeconds: 5, retry: [{maxAttempts: 2, retryOn: [x]}], atMostOnce: true}}
  - {id: loop, type: while, condition: "False", maxIterations: 3, iterator: {states: [{id: x, type: succeed}]}, timeoutSeconds: 5, next: inject}
  - {id: inject, type: inject, data: {r: [1]}, next: transform}
  - {id: transform, type: transform, expression: "1", inputPath: r, resultPath: q, output: {w: $}, next: wait}
  - {id: wait, type: wait, duration: 5, next: wait2}
  - {id: wait2, type: wait, until: "09:00", next: signal}
  - {id: signal, type: signal, signal: go, timeoutSeconds: 5, onTimeout: try, next: try}
  - id: try
    type: try
    try: {start: x, states: [{id: x, type: fail, error: e, message: m, end: true}]}
    catch: {errors: [e], as: oops, start: y, states: [{id: y, type: succeed}]}
    finally: {start: z, states: [{id: z, type: succeed}]}
    timeoutSeconds: 5
    next: sub
  - {id: sub, type: workflow, workflow: w, version: "2", input: {}, timeoutSeconds: 5, next: switch}
  - {id: switch, type: switch, dataPath: r, conditions: [{if: "True", next: end}], defaultNext: end, resultPath: s, output: {t: $}}
  - {id: end, type: succeed, output: {x: r}, end: true}
"#;

/// All documents that differ from this one in the spelling of one field.
fn respelled(
    value: &Value,
    groups: &[&'static [Field]],
    used: &mut BTreeSet<String>,
) -> Vec<(String, Value)> {
    let mut variants = Vec::new();
    let Some(object) = value.as_object() else { return variants };
    for (key, inner) in object {
        let Some(field) = fields::find(groups, key) else { continue };
        assert_eq!(field.name, &**key, "the example is canonical");
        used.insert(format!("{:p} {key}", field.name));
        let spellings = field.also.iter().copied().chain([field.name]);
        for spelling in spellings.flat_map(|name| [name.to_owned(), fields::to_snake(name)]) {
            let renamed: Object = object
                .iter()
                .map(|(other, value)| {
                    if other == key {
                        (spelling.clone().into(), value.clone())
                    } else {
                        (other.clone(), value.clone())
                    }
                })
                .collect();
            variants.push((format!("{key} as {spelling}"), Value::from(renamed)));
        }
        let with = |inside: Value| {
            let mut object = Object::clone(object);
            object.insert(key.clone(), inside);
            Value::from(object)
        };
        let items = |groups_of: &dyn Fn(&Value) -> Vec<&'static [Field]>, used: &mut BTreeSet<String>| {
            let list = inner.as_array().unwrap_or_default();
            let mut variants = Vec::new();
            for (index, item) in list.iter().enumerate() {
                for (what, variant) in respelled(item, &groups_of(item), used) {
                    let mut list = list.to_vec();
                    list[index] = variant;
                    variants.push((what, Value::from(list)));
                }
            }
            variants
        };
        let inner_variants = match field.inside {
            Inside::Data | Inside::Verbatim => Vec::new(),
            Inside::One(shape) => respelled(inner, shape.groups, used),
            Inside::OneOrEach(shape) if inner.as_object().is_some() => respelled(inner, shape.groups, used),
            Inside::Each(shape) | Inside::OneOrEach(shape) => items(&|_| shape.groups.to_vec(), used),
            Inside::States => items(&groups_of_state, used),
            Inside::Triggers => items(
                &|item| {
                    let word = item.get("type").and_then(Value::as_str);
                    let found = fields::TRIGGER_TYPES.iter().find(|(name, ..)| Some(*name) == word);
                    found.map(|(_, _, shape)| shape.groups.to_vec()).unwrap()
                },
                used,
            ),
        };
        variants.extend(inner_variants.into_iter().map(|(what, inner)| (what, with(inner))));
    }
    variants
}

fn groups_of_state(state: &Value) -> Vec<&'static [Field]> {
    let kind = Type::from_word(state.get("type").and_then(Value::as_str).unwrap()).unwrap();
    let action = state.get("action").and_then(Value::as_str).and_then(ActionName::from_word);
    fields::state_fields(kind, kind.action().or(action)).to_vec()
}

#[test]
fn every_spelling_of_every_field_means_the_same_definition() {
    let canonical = workflow(EVERYTHING);
    let mut used = BTreeSet::new();
    let variants = respelled(&canonical.definition, fields::WORKFLOW.groups, &mut used);
    assert!(variants.len() > 300, "{}", variants.len());
    for (what, variant) in variants {
        let parsed = parse(&variant.to_string(), &Options { file: "a.json", ..Options::default() });
        let found = parsed.workflow.unwrap_or_else(|| panic!("{what}: {:?}", parsed.issues));
        assert_eq!(found.hash, canonical.hash, "{what}");
    }
    // The example leaves no field of the table out.
    for (kind, word, also) in fields::TYPES {
        for action in std::iter::once(None).chain(fields::ACTIONS.iter().map(|(action, _)| Some(*action))) {
            let action = if *kind == Type::Operation { action } else { None };
            let in_example =
                canonical.definition.get("states").unwrap().as_array().unwrap().iter().any(|state| {
                    let same = state.get("type").and_then(Value::as_str) == Some(word);
                    same && (action.is_none()
                        || state.get("action").and_then(Value::as_str) == action.map(ActionName::word))
                });
            assert!(in_example || matches!(kind, Type::Fail | Type::Cron), "{word} {action:?}");
        }
        for spelling in also.iter().chain([word]) {
            assert_eq!(Type::from_word(spelling), Some(*kind));
        }
        for field in fields::state_fields(*kind, kind.action()).iter().flat_map(|group| group.iter()) {
            let is_used = used.iter().any(|entry| entry.ends_with(&format!(" {}", field.name)));
            assert!(is_used, "{word}: {} is not in the example", field.name);
        }
    }
}

#[test]
fn a_definition_reads_back_as_itself_whatever_the_order_of_its_fields() {
    let first = workflow(EVERYTHING);
    let again = parse(&first.definition.to_string(), &Options { file: "a.json", ..Options::default() });
    assert_eq!(again.workflow.unwrap().hash, first.hash);
    let turned = workflow("states: [{type: succeed, id: a}]\nversion: 1.10\nid: x\n");
    let straight = workflow("id: x\nversion: '1.10'\nstates: [{id: a, type: succeed}]\n");
    assert_eq!((turned.version.as_deref(), &turned.hash), (Some("1.10"), &straight.hash));
    let wrapped = workflow("workflowId: x\ndefinition: {version: 1.10, states: [{id: a, type: succeed}]}\n");
    assert_eq!(wrapped.hash, straight.hash);
}

#[test]
fn states_are_numbered_in_the_order_of_the_file_and_found_by_address() {
    let workflow = workflow(EVERYTHING);
    for (index, state) in workflow.states().enumerate() {
        assert_eq!(state.id.0 as usize, index, "{}", state.address);
        assert_eq!(
            workflow.state_at(&state.address).map(|found| found.id),
            Some(state.id),
            "{}",
            state.address
        );
    }
    for address in [
        "parallel/branches/one/x",
        "parallel/branches/two/two",
        "each/iterator/x",
        "each2/iterator/each2",
        "loop/iterator/x",
        "try/try/x",
        "try/catch/0/y",
        "try/finally/z",
    ] {
        assert!(workflow.state_at(address).is_some(), "{address}");
    }
    let odd = self::workflow(
        "id: x\nstates:\n  - {id: a/b 50%, type: try, try: {states: [{id: é, type: succeed}]}, finally: {states: [{id: z, type: succeed}]}}\n",
    );
    assert!(odd.state_at("a%2Fb 50%25/try/é").is_some());
}

#[test]
fn fields_of_an_action_come_out_of_its_input_and_the_rest_is_the_input() {
    let source = |state: &str| format!("id: x\nstates:\n  - {{id: a, {state}}}\n");
    let read = |state: &str| {
        let workflow = workflow(&source(state));
        let Kind::Operation(operation) = &workflow.state(StateId(0)).unwrap().kind else { panic!("{state}") };
        (
            request(workflow.state(StateId(0)).unwrap()),
            operation.receives_input,
            workflow.state(StateId(0)).unwrap().timeout,
        )
    };
    assert_eq!(
        read(
            "type: operation, action: agent.run, input: {agent: n, agentTask: go, timeout_seconds: 5, x: 1}"
        ),
        (r#"{"task":"go","input":{"x":1}}"#.to_owned(), false, Some(Millis(5000)))
    );
    assert_eq!(read("type: operation, action: agent.run, input: {agent: n}"), ("{}".to_owned(), false, None));
    assert_eq!(read("type: agent, agent: n, task: $.a"), (r#"{"task":"$$.a"}"#.to_owned(), true, None));
    assert_eq!(read("type: agent, agent: n, input: $.a.b"), (r#"{"input":"$.a.b"}"#.to_owned(), false, None));
    assert_eq!(
        read("type: operation, input: {task: log, message: hello}"),
        (r#"{"message":"hello"}"#.to_owned(), false, None)
    );
    assert_eq!(
        read("type: operation, action: lambda.invoke, input: {function: f, x: 1}").0,
        r#"{"function":"f","payload":{"x":1}}"#
    );
    assert!(read("type: operation, action: lambda.invoke, function: f").1);

    let approval = workflow(&source(
        "type: operation, action: human.approval, input: {message: ok?, timeoutSeconds: 60}",
    ));
    let Kind::Approval(approval) = &approval.state(StateId(0)).unwrap().kind else { panic!() };
    assert_eq!(approval.deadline, Millis(60_000));
    let child =
        workflow(&source("type: operation, action: workflow.run, input: {workflow: w, version: 1.10, x: 1}"));
    let Kind::Workflow(child) = &child.state(StateId(0)).unwrap().kind else { panic!() };
    assert_eq!(child.version.as_deref(), Some("1.10"));
    assert_eq!(child.input.as_ref().unwrap().source().to_string(), r#"{"x":1}"#);

    // The state's field wins, and it is said.
    let options = Options { file: "a.yaml", ..Options::default() };
    let both = source("type: agent, agent: n, task: state, input: {task: input}");
    assert_eq!(issues(&both, &options), ["warning OVERRIDDEN_FIELD 3:57"]);
    assert_eq!(request(workflow(&both).state(StateId(0)).unwrap()), r#"{"task":"state"}"#);
}

struct Agents(Vec<Agent>);

impl AgentCatalog for Agents {
    fn agent(&self, name: &str) -> Option<&Agent> {
        self.0.iter().find(|agent| &*agent.name == name)
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|agent| agent.name.to_string()).collect()
    }
}

fn agents() -> Agents {
    let one = |name: &str, input: &str, output: &str| {
        let source = format!("type: static\noutput: 1\ninput: {{schema: {input}}}\noutputSchema: {output}\n");
        let (agent, issues) = crate::agent::parse(&source, &format!("{name}.agent.yaml"));
        agent.unwrap_or_else(|| panic!("{issues:?}"))
    };
    Agents(vec![
        one(
            "counter",
            "{type: object, properties: {task: {type: string}}}",
            "{type: object, properties: {total: {type: integer}}, required: [total], additionalProperties: false}",
        ),
        one(
            "reporter",
            "{type: object, properties: {text: {type: string}}, required: [text]}",
            "{type: object, properties: {text: {type: string}}}",
        ),
        one("open", "true", "{type: object}"),
    ])
}

#[test]
fn agents_are_known_their_schemas_are_compared_and_what_they_name_stays_in_the_input() {
    let agents = agents();
    let options = Options { file: "a.yaml", agents: Some(&agents), ..Options::default() };
    let two = |first: &str, second: &str| {
        format!(
            "id: x\nstates:\n  - {{id: a, type: agent, {first}, next: b}}\n  - {{id: b, type: agent, {second}}}\n"
        )
    };
    let cases: &[(&str, &str, &[&str])] = &[
        ("agent: counter", "agent: open", &[]),
        ("agent: countr", "agent: open", &["error UNKNOWN_AGENT 3:33"]),
        ("agent: counter", "agent: reporter", &["error SCHEMA_MISMATCH 4:5"]),
        ("agent: open", "agent: reporter", &["warning SCHEMA_MISMATCH 4:5"]),
        ("agent: open", "agent: reporter, input: {text: 3}", &["error SCHEMA_MISMATCH 4:50"]),
        ("agent: open", "agent: reporter, input: {text: \"{{ steps.a }}\"}", &[]),
        ("agent: open", "agent: open, task: \"{{ steps.c.x }}\"", &["warning UNKNOWN_NAME 4:49"]),
    ];
    for (first, second, expected) in cases {
        assert_eq!(issues(&two(first, second), &options), *expected, "{first} | {second}");
    }
    let parsed = parse(&two("agent: open", "agent: counter, input: {task: count, x: 1}"), &options);
    let workflow = parsed.workflow.unwrap();
    assert_eq!(
        request(workflow.state(StateId(1)).unwrap()),
        r#"{"task":"count","input":{"task":"count","x":1}}"#
    );
}

#[test]
fn names_are_judged_by_what_is_written() {
    let closed = "inputSchema: {type: object, properties: {ns: {type: string}}}\n";
    let run =
        |head: &str, states: &str| issues(&format!("id: x\n{head}states:\n{states}"), &Options::default());
    let one = |task: &str| format!("  - {{id: a, type: agent, agent: x, task: \"{task}\"}}\n");
    for fine in [
        "{{ ns }} {{ ctx.ns }} {{ input.ns }} {{ workflow.input.ns }} {{ workflow.runId }} {{ now }}",
        "{{ ctx._timestamp }} {{ _runID }} {{ a }} {{ steps.a.output.x.y }} {{ steps.get('zz') }}",
        "{{ [n for n in range(3)] }} {{ sorted([1], key=str) }} {{ ctx.get('zz', 1) }} {{ $.ns }} ${ns}",
        "{{ zz if hasattr(ctx, 'zz') else 1 }}",
    ] {
        let expected: &[&str] = if fine.starts_with("{{ zz") { &["error UNKNOWN_NAME 4:46"] } else { &[] };
        assert_eq!(run(closed, &one(fine)), expected, "{fine}");
    }
    assert_eq!(run(closed, &one("{{ nss }}")), ["error UNKNOWN_NAME 4:46"]);
    assert_eq!(run("", &one("{{ nss }}")), ["warning UNKNOWN_NAME 3:46"]);
    assert_eq!(run(closed, &one("{{ $.nss.x }}")), ["error UNKNOWN_NAME 4:46"]);
    assert_eq!(run(closed, &one("${nss}")), ["error UNKNOWN_NAME 4:45"]);
    // Something of unknown shape is merged into the root.
    let merged = "  - {id: m, type: agent, agent: x, resultPath: ctx, next: a}\n";
    assert_eq!(run(closed, &format!("{merged}{}", one("{{ nss }}"))), ["warning UNKNOWN_NAME 5:46"]);
    // What iterations, catches and switches add.
    let each = "  - id: e\n    type: foreach\n    itemsPath: ns\n    itemName: it\n    iterator: {states: [{id: i, type: agent, agent: x, task: \"{{ it }} {{ _index }} {{ ctx.it }}\"}]}\n    next: s\n  - {id: s, type: agent, agent: x, task: \"{{ it }}\"}\n";
    assert_eq!(run(closed, each), ["error UNKNOWN_NAME 10:46"]);
    let switch = "  - {id: s, type: switch, dataPath: steps.s, conditions: [{if: anything > 1, next: t}], defaultNext: t}\n  - {id: t, type: succeed}\n";
    assert_eq!(run(closed, switch), Vec::<String>::new());
    let second = "  - {id: a, type: agent, agent: x, next: b}\n  - {id: b, type: agent, agent: x, task: \"{{ input.ns }}\"}\n";
    assert_eq!(run(closed, second), ["warning INPUT_ONLY_FIRST 5:46"]);
    let paths = "  - {id: a, type: transform, expression: input, inputPath: ctx.nope, next: b}\n  - {id: b, type: succeed, output: {x: nope, y: $.ns, z: steps.a, w: 3, v: \"{{ 'text' }}\"}}\n";
    assert_eq!(run(closed, paths), ["error UNKNOWN_NAME 4:60", "error UNKNOWN_NAME 5:40"]);
}

#[test]
fn small_things_mean_what_they_say() {
    let workflow = workflow(
        "id: x\nstates:\n  - {name: tick, type: schedule, cron: '0 9 * * *', timezone: Europe/Paris, input: {day: 1}, next: w}\n  \
         - {id: w, type: sleep, duration: '{{ day }}m', next: i}\n  - {id: i, type: set, data: {k: 1}, next: p}\n  \
         - {id: p, type: parallel, branches: [{name: l, agent: n}, {name: r, agent: n}], join: {mode: any}, next: s}\n  \
         - {id: s, type: switch, conditions: [{if: true, next: z}]}\n  - {id: z, type: succeed}\n",
    );
    assert!(
        matches!(&workflow.triggers[..], [crate::Trigger::Schedule(s)] if &*s.name == "tick" && s.timezone == "Europe/Paris")
    );
    let kind = |id: u32| &workflow.state(StateId(id)).unwrap().kind;
    assert!(matches!(kind(1), Kind::Wait(Wait::ForTemplate(_))));
    assert!(workflow.state(StateId(2)).unwrap().result_path.as_ref().unwrap().is_root());
    let Kind::Parallel(parallel) = kind(3) else { panic!() };
    assert_eq!(parallel.join.mode, crate::JoinMode::Count(1));
    let left = workflow.state(parallel.branches[0].block.start).unwrap();
    assert!(left.implicit && &*left.name == "l");
    assert!(
        matches!(&left.kind, Kind::Operation(o) if o.action == Action::Agent("n".into()) && o.receives_input)
    );
    assert!(workflow.names.is_state("l"));
}

#[test]
fn triggers_mean_what_they_say() {
    let run = |trigger: &str| {
        issues(
            &format!("id: x\ntriggers:\n{trigger}\nstates: [{{id: a, type: succeed}}]\n"),
            &Options::default(),
        )
    };
    let hook = "  - {type: webhook, name: h, secret: '${env:S}'";
    assert_eq!(run(&format!("{hook}}}")), Vec::<String>::new());
    assert_eq!(run(&format!("{hook}, signature: gitlab}}")), ["error BAD_VALUE 3:61"]);
    assert_eq!(run(&format!("{hook}, headers: X-Event}}")), ["error WRONG_TYPE 3:59"]);
    assert_eq!(run(&format!("{hook}}}\n{hook}}}")), ["error DUPLICATE_NAME 4:5"]);
    assert_eq!(run("  - {type: webhook, name: h}"), ["warning MISSING_FIELD 3:5"]);
    assert_eq!(run("  - {type: webhook, name: h, secret: s}"), ["error MISPLACED_SECRET 3:38"]);
    assert_eq!(run("  - {type: webhook, name: h, secret: '${env:A}-${env:B}'}"), ["error BAD_VALUE 3:38"]);
    assert_eq!(run("  - {type: event, filter: {source: [a, b], detail: {x: 1}}}"), Vec::<String>::new());
    assert_eq!(run("  - {type: event, filter: {source: [{prefix: a}]}}"), ["error NOT_YET 3:37"]);
    assert_eq!(run("  - {type: event, filter: source}"), ["error WRONG_TYPE 3:27"]);
}
