//! From an agent's file to its definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::Object;
use expression::Template;
use expression::Value;

use super::Agent;
use super::Answer;
use super::Case;
use super::Command;
use super::DEFAULT_OUTPUT_LIMIT;
use super::Http;
use super::Kind;
use super::Lambda;
use super::MAX_OUTPUT_LIMIT;
use super::Prompt;
use super::Static;
use super::picoschema;
use crate::Code;
use crate::Issue;
use crate::Millis;
use crate::Options;
use crate::Schema;
use crate::fields;
use crate::read;
use crate::read::Reader;
use crate::read::hash;
use crate::read::to_value;
use crate::yaml;
use crate::yaml::Data;
use crate::yaml::Node;
use crate::yaml::Number;

/// How long a program has to end by itself, unless its file says otherwise.
const DEFAULT_GRACE: Millis = Millis(5_000);
/// What an agent's own templates may read.
const REQUEST: [&str; 3] = ["task", "input", "variables"];

pub(super) fn parse(source: &str, file_name: &str) -> (Option<Agent>, Vec<Issue>) {
    let base = file_name.rsplit(['/', '\\']).next().unwrap_or(file_name);
    let endings = [".agent.yaml", ".agent.yml", ".agent.json", ".prompt"];
    let Some((name, ending)) = endings.iter().find_map(|ending| Some((base.strip_suffix(ending)?, *ending)))
    else {
        let issue = Issue::error(Code::AgentName, format!("`{base}` is no name of an agent's file"))
            .expected("`NAME.agent.yaml` or `NAME.prompt`");
        return (None, vec![issue]);
    };
    if name.trim().is_empty() || name.len() > 256 {
        let issue = Issue::error(
            Code::AgentName,
            format!("the agent of the file `{base}` has no name, or too long a one"),
        );
        return (None, vec![issue]);
    }
    if ending == ".prompt" { prompt(source, name) } else { definition(source, name, base) }
}

fn definition(source: &str, name: &str, file: &str) -> (Option<Agent>, Vec<Issue>) {
    let document = match yaml::parse(source, file) {
        Ok(document) => document,
        Err(issues) => return (None, issues),
    };
    let options = Options::default();
    let root = &document.root;
    let shape = root.get("type").and_then(Node::text).and_then(|word| {
        fields::AGENT_TYPES.iter().find(|(name, _)| *name == &**word).map(|(_, shape)| *shape)
    });
    let Some(shape) = shape else {
        let mut reader = Reader::new(&document, &options, Vec::new());
        unknown_type(&mut reader, root);
        return (None, reader.issues);
    };
    let (node, issues) = read::shape(&document, shape);
    let mut reader = Reader::new(&document, &options, issues);
    let agent = agent(&mut reader, &node, name);
    finish(reader, agent)
}

fn finish(mut reader: Reader<'_>, agent: Option<Agent>) -> (Option<Agent>, Vec<Issue>) {
    for used in std::mem::take(&mut reader.uses) {
        if !REQUEST.contains(&&*used.name) && !reader.is_full() {
            let near = fields::nearest(&used.name, REQUEST);
            let issue =
                Issue::error(Code::UnknownName, format!("an agent's template cannot read `{}`", used.name))
                    .expected("`task`, `input` or `variables`: the request")
                    .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
            reader.report_use(&used, issue);
        }
    }
    let mut issues = reader.issues;
    issues.sort_by_key(|issue| (issue.line, issue.column));
    let is_valid = !issues.iter().any(Issue::is_error);
    (agent.filter(|_| is_valid), issues)
}

fn unknown_type(reader: &mut Reader<'_>, root: &Node) {
    let names = fields::AGENT_TYPES.iter().map(|(name, _)| *name);
    let list = names.clone().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if !matches!(root.data, Data::Map(_)) {
        reader.wrong_type(root, "the document", &format!("a mapping whose `type` is one of {list}"));
        return;
    }
    let Some(node) = root.get("type") else {
        reader.missing(root, "type", "an agent", &list);
        return;
    };
    let Some(word) = reader.as_text(node, "type") else { return };
    let hint = match &*word {
        "prompt" | "llm" => Some("a prompt stands in a file `NAME.prompt`".to_owned()),
        _ => fields::nearest(&word, names).map(|near| format!("did you mean `{near}`?")),
    };
    let issue = Issue::error(Code::UnknownType, format!("there is no agent type `{word}`"))
        .expected(list)
        .maybe_hint(hint);
    reader.report(node, issue);
}

fn agent(reader: &mut Reader<'_>, node: &Node, name: &str) -> Option<Agent> {
    same_name(reader, node, name);
    let description = reader.text(node, "description");
    let input_schema = node.get("input").and_then(|input| reader.schema(input, "schema"));
    let timeout = reader.timeout(node);
    let kind = node.get("type").and_then(Node::text).cloned().unwrap_or_default();
    let (kind, output_schema) = match &*kind {
        "static" => fixed(reader, node)?,
        other => {
            let output = node.get("output").and_then(|output| reader.schema(output, "schema"));
            let kind = match other {
                "command" => Kind::Command(command(reader, node)?),
                "http" => Kind::Http(http(reader, node)?),
                _ => Kind::Lambda(lambda(reader, node)?),
            };
            (kind, output)
        }
    };
    let definition = to_value(node);
    let hash = hash(&definition);
    Some(Agent {
        name: name.into(),
        description: description.map(|text| text.to_string()),
        kind,
        input_schema,
        output_schema,
        timeout,
        definition,
        hash,
    })
}

/// A name in the file must be the file's own: two names for one agent would find it by one of them only.
fn same_name(reader: &mut Reader<'_>, node: &Node, name: &str) {
    if let Some(written) = reader.text(node, "name")
        && *written != *name
        && let Some(place) = node.get("name")
    {
        let issue = Issue::error(
            Code::AgentName,
            format!("the file's name says `{name}`, the file says `{written}`"),
        )
        .hint("leave `name` out, or rename the file");
        reader.report(place, issue);
    }
}

fn fixed(reader: &mut Reader<'_>, node: &Node) -> Option<(Kind, Option<Schema>)> {
    // `output: {schema: …}` is the schema, as with the other kinds; anything else is what the agent returns.
    let output = node.get("output");
    let only_schema = output.filter(|output| match &output.data {
        Data::Map(entries) => entries.len() == 1 && entries.iter().all(|entry| &*entry.key == "schema"),
        _ => false,
    });
    let schema = match only_schema {
        Some(holder) => reader.schema(holder, "schema"),
        None => reader.schema(node, "outputSchema"),
    };
    let otherwise = match (output.filter(|_| only_schema.is_none()), node.get("error")) {
        (Some(_), Some(error)) => {
            reader.bad_value(
                error,
                "the agent has both an `output` and an `error`".to_owned(),
                "keep one of them",
            );
            return None;
        }
        (Some(output), None) => Some(Answer::Output(to_value(output))),
        (None, Some(error)) => Some(failure(reader, error)?),
        (None, None) => None,
    };
    let mut cases = Vec::new();
    if let Some(list) = node.get("cases") {
        if !matches!(list.data, Data::List(_)) {
            reader.wrong_type(list, "cases", "a list of `{match, output}`");
            return None;
        }
        for item in read::items(Some(list)) {
            cases.push(case(reader, item)?);
        }
    }
    if cases.is_empty() && otherwise.is_none() {
        reader.missing(node, "output", "a `static` agent", "what it returns, or `cases`, or `error`");
        return None;
    }
    let delay = reader.duration(node, "delaySeconds");
    Some((Kind::Static(Static { cases, otherwise, delay }), schema))
}

fn case(reader: &mut Reader<'_>, item: &Node) -> Option<Case> {
    if !matches!(item.data, Data::Map(_)) {
        reader.wrong_type(item, "a case", "a mapping `{match, output}`");
        return None;
    }
    let matches = reader.required(item, "match", "a case", "what a request must hold: `{input: {…}}`")?;
    if !matches!(matches.data, Data::Map(_)) {
        reader.wrong_type(matches, "match", "a mapping of what a request must hold");
        return None;
    }
    if let Data::Map(entries) = &matches.data {
        for entry in entries.iter().filter(|entry| !REQUEST.contains(&&*entry.key)) {
            let issue = Issue::error(Code::UnknownField, format!("a request has no `{}`", entry.key))
                .expected("`task`, `input` or `variables`")
                .hint(format!("to match a key of the input write `input: {{{}: …}}`", entry.key));
            reader.report_key(entry, issue);
        }
    }
    let answer = match (item.get("output"), item.get("error")) {
        (Some(output), None) => Answer::Output(to_value(output)),
        (None, Some(error)) => failure(reader, error)?,
        _ => {
            reader.missing(item, "output", "a case", "either `output` or `error`");
            return None;
        }
    };
    Some(Case { matches: to_value(matches), answer })
}

fn failure(reader: &mut Reader<'_>, node: &Node) -> Option<Answer> {
    if let Some(text) = node.text() {
        return Some(Answer::Error { kind: "agent_error".into(), message: text.to_string() });
    }
    let Data::Map(entries) = &node.data else {
        reader.wrong_type(node, "error", "a text, or a mapping `{type, message}`");
        return None;
    };
    for entry in entries.iter().filter(|entry| !matches!(&*entry.key, "type" | "message")) {
        let issue = Issue::error(Code::UnknownField, format!("an error has no field `{}`", entry.key))
            .expected("`type` and `message`");
        reader.report_key(entry, issue);
    }
    let kind = reader.text(node, "type").unwrap_or_else(|| "agent_error".into());
    let message = reader.text(node, "message").unwrap_or_default();
    Some(Answer::Error { kind, message: message.to_string() })
}

fn command(reader: &mut Reader<'_>, node: &Node) -> Option<Command> {
    let list =
        reader.required(node, "command", "a `command` agent", "a list: the program and its arguments")?;
    if let Some(text) = list.text() {
        let words = text.split_whitespace().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let issue =
            Issue::error(Code::WrongType, "`command` is one text, and there is no shell to take it apart")
                .expected("a list: the program and its arguments")
                .hint(format!("write `command: [{words}]`"));
        reader.report(list, issue);
        return None;
    }
    let argv = texts(reader, list, "command")?;
    if argv.first().is_none_or(String::is_empty) {
        reader.bad_value(list, "`command` names no program".to_owned(), "its first item is the program");
        return None;
    }
    let environment = templates(reader, node, "environment")?.into_iter().collect::<BTreeMap<_, _>>();
    if let Some(Data::Map(entries)) = node.get("environment").map(|node| &node.data) {
        for entry in entries.iter().filter(|entry| !is_variable(&entry.key)) {
            let issue = Issue::error(Code::BadValue, format!("`{}` is no name of a variable", entry.key));
            reader.report_key(entry, issue);
        }
    }
    let inherit = match node.get("inherit") {
        Some(list) => texts(reader, list, "inherit")?,
        None => Vec::new(),
    };
    if let Some(wrong) = inherit.iter().find(|name| !is_variable(name))
        && let Some(place) = node.get("inherit")
    {
        reader.bad_value(
            place,
            format!("`{wrong}` is no name of a variable"),
            "list the names, without `$` or values",
        );
    }
    let cwd = reader.text(node, "cwd").map(|text| text.to_string());
    let output_limit = output_limit(reader, node);
    let grace = reader.duration(node, "graceSeconds").unwrap_or(DEFAULT_GRACE);
    Some(Command { argv, environment, inherit, cwd, output_limit, grace })
}

fn http(reader: &mut Reader<'_>, node: &Node) -> Option<Http> {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map(|method| (method, method));
    let method = reader.word(node, "method", &methods).unwrap_or("POST");
    let address = "an address that begins with `https://` or `http://`";
    let place = reader.required(node, "url", "an `http` agent", address)?;
    let text = reader.as_text(place, "url")?;
    if !["https://", "http://", "${", "{{"].iter().any(|start| text.starts_with(start)) {
        reader.bad_value(place, format!("`{text}` is no address"), "begin with `https://` or `http://`");
    }
    let url = reader.template(place, "url", read::CALL_TEXT);
    let headers = templates(reader, node, "headers")?;
    if let Some(Data::Map(entries)) = node.get("headers").map(|node| &node.data) {
        for entry in entries.iter().filter(|entry| !is_header(&entry.key)) {
            let issue = Issue::error(Code::BadValue, format!("`{}` is no name of a header", entry.key));
            reader.report_key(entry, issue);
        }
    }
    let body = match node.get("body") {
        Some(body) => Some(reader.tree(body, read::CALL)?),
        None => None,
    };
    let mut expect = Vec::new();
    for item in node.get("expect").map(|node| read::one_or_each(Some(node))).unwrap_or_default() {
        match &item.data {
            Data::Number(_, Number::Int(code)) if (100..600).contains(code) => {
                expect.extend(u16::try_from(*code));
            }
            _ => reader.bad_value(
                item,
                format!("`expect` takes status codes, this is {}", item.type_name()),
                "write `expect: 200` or `expect: [200, 202]`",
            ),
        }
    }
    let connect_timeout = reader.duration(node, "connectTimeoutSeconds");
    let follow_redirects = reader.boolean(node, "followRedirects").unwrap_or(false);
    let ca_file = reader.text(node, "caFile").map(|text| text.to_string());
    let output_limit = output_limit(reader, node);
    Some(Http {
        method: method.to_owned(),
        url: url?,
        headers,
        body,
        expect,
        connect_timeout,
        output_limit,
        follow_redirects,
        ca_file,
    })
}

fn lambda(reader: &mut Reader<'_>, node: &Node) -> Option<Lambda> {
    reader.required(node, "function", "a `lambda` agent", "the name or ARN of a function")?;
    let function = reader.text(node, "function")?;
    let qualifier = reader.text(node, "qualifier").map(|text| text.to_string());
    let region = reader.text(node, "region").map(|text| text.to_string());
    Some(Lambda { function: function.to_string(), qualifier, region })
}

fn output_limit(reader: &mut Reader<'_>, node: &Node) -> u64 {
    let max = i64::try_from(MAX_OUTPUT_LIMIT).unwrap_or(i64::MAX);
    let limit = reader.integer(node, "outputLimit", 1, max, Code::BadValue);
    limit.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(DEFAULT_OUTPUT_LIMIT)
}

fn texts(reader: &mut Reader<'_>, list: &Node, what: &str) -> Option<Vec<String>> {
    if !matches!(list.data, Data::List(_)) {
        reader.wrong_type(list, what, "a list of texts");
        return None;
    }
    let mut texts = Vec::new();
    for item in read::items(Some(list)) {
        match &item.data {
            // An argument is a text anyway: `[sleep, 5]` is what it looks like.
            Data::Text(text, _) | Data::Number(text, _) => texts.push(text.to_string()),
            _ => {
                reader.wrong_type(item, what, "a text");
                return None;
            }
        }
    }
    Some(texts)
}

/// A mapping of texts that may hold templates and secrets.
fn templates(reader: &mut Reader<'_>, node: &Node, key: &str) -> Option<Vec<(String, Template)>> {
    let Some(map) = node.get(key) else { return Some(Vec::new()) };
    let Data::Map(entries) = &map.data else {
        reader.wrong_type(map, key, "a mapping of texts");
        return None;
    };
    let mut templates = Vec::new();
    for entry in entries {
        let source = match &entry.value.data {
            Data::Text(text, _) | Data::Number(text, _) => text.clone(),
            Data::Bool(value) => value.to_string().into(),
            _ => {
                reader.wrong_type(&entry.value, &entry.key, "a text");
                continue;
            }
        };
        if let Some(template) = reader.template_of(&entry.value, &source, read::CALL_TEXT) {
            templates.push((entry.key.to_string(), template));
        }
    }
    Some(templates)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.contains(['=', '\0', '$', ' '])
}

fn is_header(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn prompt(source: &str, name: &str) -> (Option<Agent>, Vec<Issue>) {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    if source.len() > yaml::MAX_BYTES {
        return (None, vec![Issue::error(Code::YamlLimit, format!("the file has {} bytes", source.len()))]);
    }
    let Some((front, body)) = split(source) else {
        let issue = Issue::error(Code::YamlSyntax, "the front matter is never closed")
            .expected("a line `---` behind it");
        return (None, vec![issue]);
    };
    let options = Options::default();
    let document = match yaml::parse(&front, "front matter") {
        Ok(document) => document,
        // A prompt may be its body alone.
        Err(issues) if issues.iter().all(|issue| issue.code == Code::YamlEmpty) => {
            let empty = Value::object();
            return (Some(prompt_agent(name, None, (None, None), None, &empty, body)), Vec::new());
        }
        Err(issues) => return (None, issues),
    };
    let (node, issues) = read::shape(&document, &fields::PROMPT);
    let mut reader = Reader::new(&document, &options, issues);
    if !matches!(node.data, Data::Map(_)) {
        reader.wrong_type(&node, "the front matter", "a mapping");
        return finish(reader, None);
    }
    same_name(&mut reader, &node, name);
    let description = reader.text(&node, "description").map(|text| text.to_string());
    let schemas =
        ["input", "output"].map(|key| node.get(key).and_then(|holder| compact_schema(&mut reader, holder)));
    let [input_schema, output_schema] = schemas;
    let timeout = reader.timeout(&node);
    reader.text(&node, "model");
    for key in ["tools"] {
        if let Some(list) = node.get(key)
            && !matches!(list.data, Data::List(_))
        {
            reader.wrong_type(list, key, "a list");
        }
    }
    reader.integer(&node, "maxSteps", 1, 10_000, Code::BadValue);
    let front_matter = to_value(&node);
    let agent = prompt_agent(name, description, (input_schema, output_schema), timeout, &front_matter, body);
    finish(reader, Some(agent))
}

fn prompt_agent(
    name: &str,
    description: Option<String>,
    (input_schema, output_schema): (Option<Schema>, Option<Schema>),
    timeout: Option<Millis>,
    front_matter: &Value,
    body: &str,
) -> Agent {
    let definition = Value::from(Object::from_iter([
        ("type", Value::from("prompt")),
        ("frontMatter", front_matter.clone()),
        ("body", Value::from(body)),
    ]));
    let hash = hash(&definition);
    let model = front_matter.get("model").and_then(Value::as_str).map(str::to_owned);
    Agent {
        name: Arc::from(name),
        description,
        kind: Kind::Prompt(Prompt { model, front_matter: front_matter.clone(), body: body.to_owned() }),
        input_schema,
        output_schema,
        timeout,
        definition,
        hash,
    }
}

/// The front matter, on the lines where it stands in the file, and the body. `None`: it begins and never ends.
fn split(source: &str) -> Option<(String, &str)> {
    let is_fence = |line: &str| line.trim_end() == "---";
    let mut lines = source.split_inclusive('\n');
    // Comments may stand in front (a licence).
    let mut offset = 0;
    for line in lines.by_ref() {
        offset += line.len();
        if is_fence(line) {
            break;
        }
        if !line.trim().is_empty() && !line.starts_with('#') {
            return Some((String::new(), source));
        }
    }
    let blank: String = source.get(..offset)?.chars().filter(|c| *c == '\n').collect();
    let start = offset;
    for line in lines {
        if is_fence(line) {
            let front = source.get(start..offset)?;
            return Some((blank + front, source.get(offset + line.len()..)?));
        }
        offset += line.len();
    }
    if start == source.len() && !source.trim_end().ends_with("---") {
        Some((String::new(), source))
    } else {
        None
    }
}

/// A schema in JSON Schema or Picoschema.
fn compact_schema(reader: &mut Reader<'_>, holder: &Node) -> Option<Schema> {
    let node = holder.get("schema")?;
    let schema = match picoschema::to_json_schema(&to_value(node)) {
        Ok(schema) => schema,
        Err(why) => {
            reader.report(node, Issue::error(Code::BadSchema, format!("the schema cannot be read: {why}")));
            return None;
        }
    };
    match Schema::compile(&schema) {
        Ok(schema) => Some(schema),
        Err(error) => {
            let place = read::descend(node, &error.path);
            reader.report(
                place,
                Issue::error(Code::BadSchema, format!("`schema` is no JSON Schema: {}", error.message)),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests;
