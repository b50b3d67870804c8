use super::*;

fn issues(source: &str, file: &str) -> Vec<(Code, u32)> {
    let (agent, issues) = parse(source, file);
    assert_eq!(agent.is_none(), issues.iter().any(Issue::is_error), "{issues:?}");
    issues.into_iter().map(|issue| (issue.code, issue.line)).collect()
}

fn good(source: &str, file: &str) -> Agent {
    let (agent, issues) = parse(source, file);
    assert_eq!(issues, []);
    agent.unwrap()
}

#[test]
fn each_kind_is_read_with_all_its_fields() {
    let agent = good(
        "type: command\ndescription: looks\nargv: [python3, look.py, 5]\nenv: {TOKEN: \"${env:TOKEN}\", LANG: C}\n\
         inherit: [PATH]\ncwd: bin\ntimeout: 30s\nmax_output_bytes: 1000\ngrace: 1s\n\
         input: {schema: {type: object}}\noutput: {schema: {type: object, required: [ok]}}\n",
        "agents/look.agent.yaml",
    );
    assert_eq!((&*agent.name, agent.timeout), ("look", Some(Millis(30_000))));
    assert!(agent.input_schema.is_some() && agent.output_schema.is_some());
    let Kind::Command(command) = &agent.kind else { panic!("{:?}", agent.kind) };
    assert_eq!(command.argv, ["python3", "look.py", "5"]);
    assert_eq!(command.environment.keys().collect::<Vec<_>>(), ["LANG", "TOKEN"]);
    assert_eq!((command.output_limit, command.grace), (1000, Millis(1000)));

    let agent = good(
        "type: http\nurl: https://example.com/{{ input.id }}\nheaders: {Authorization: \"Bearer ${env:T}\"}\n\
         body: {q: \"{{ task }}\"}\nexpect: [200, 202]\n",
        "a.agent.yml",
    );
    let Kind::Http(http) = &agent.kind else { panic!("{:?}", agent.kind) };
    assert_eq!((http.method.as_str(), http.expect.as_slice()), ("POST", [200, 202].as_slice()));

    let agent = good(
        "{\"type\": \"static\", \"output\": {\"schema\": 1, \"x\": 2}, \"cases\": [{\"match\": {\"input\": {\"a\": 1}}, \
         \"error\": {\"type\": \"boom\", \"message\": \"no\"}}]}",
        "a.agent.json",
    );
    let Kind::Static(fixed) = &agent.kind else { panic!("{:?}", agent.kind) };
    assert_eq!(fixed.otherwise, Some(Answer::Output(Value::parse_json(r#"{"schema":1,"x":2}"#).unwrap())));
    assert_eq!(fixed.cases[0].answer, Answer::Error { kind: "boom".into(), message: "no".to_owned() });

    let agent = good("type: lambda\nfunction: f\nqualifier: live\n", "a.agent.yaml");
    assert!(matches!(agent.kind, Kind::Lambda(_)));
}

#[test]
fn a_prompt_has_front_matter_and_a_body() {
    let source = "---\nmodel: openai/gpt-4o\nconfig: {temperature: 0}\ninput:\n  schema:\n    namespace: string\n\
                  output:\n  schema: {type: object}\nvendor.field: 1\n---\nLook at {{namespace}}.\n";
    let agent = good(source, "look.prompt");
    let Kind::Prompt(prompt) = &agent.kind else { panic!("{:?}", agent.kind) };
    assert_eq!(
        (prompt.model.as_deref(), prompt.body.as_str()),
        (Some("openai/gpt-4o"), "Look at {{namespace}}.\n")
    );
    let schema = agent.input_schema.unwrap();
    assert_eq!(schema.validate(&Value::object())[0].path, "/namespace");

    let bare = good("Just say hello.\n", "hello.prompt");
    assert!(matches!(&bare.kind, Kind::Prompt(prompt) if prompt.body == "Just say hello.\n"));
    assert_eq!(issues("---\nmodel: x\nmodle: y\n---\n", "a.prompt"), [(Code::UnknownField, 3)]);
    assert_eq!(issues("---\nmodel: x\n", "a.prompt"), [(Code::YamlSyntax, 1)]);
    assert_eq!(issues("---\ninput: {schema: {a: strnig}}\n---\n", "a.prompt"), [(Code::BadSchema, 2)]);
}

#[test]
fn what_is_wrong_is_told_at_its_line() {
    let cases: &[(&str, &[(Code, u32)])] = &[
        ("type: comand\n", &[(Code::UnknownType, 1)]),
        ("argv: [x]\n", &[(Code::MissingField, 1)]),
        ("type: command\ncommand: ls -l\n", &[(Code::WrongType, 2)]),
        ("type: command\ncommand: []\n", &[(Code::BadValue, 2)]),
        ("type: command\ncommand: [x]\nshell: true\n", &[(Code::UnknownField, 3)]),
        ("type: command\ncommand: [x]\noutputLimit: 0\n", &[(Code::BadValue, 3)]),
        ("type: command\ncommand: [x]\nenvironment: {A B: x}\n", &[(Code::BadValue, 3)]),
        ("type: http\nurl: example.com\nmethod: FETCH\n", &[(Code::BadValue, 2), (Code::BadValue, 3)]),
        ("type: static\n", &[(Code::MissingField, 1)]),
        ("type: static\noutput: 1\nname: other\n", &[(Code::AgentName, 3)]),
        ("type: static\ncases:\n  - match: {namespace: x}\n    output: 1\n", &[(Code::UnknownField, 3)]),
        ("type: lambda\nfunction: f\ntimeoutSeconds: 0\n", &[(Code::BadTimeout, 3)]),
    ];
    for (source, expected) in cases {
        assert_eq!(issues(source, "a.agent.yaml"), *expected, "{source}");
    }
    assert_eq!(issues("type: static\n", "agent.yaml"), [(Code::AgentName, 1)]);
}
