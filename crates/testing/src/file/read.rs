//! From the tree of a test file to typed values. Unknown keys are errors.

mod history;

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::path::PathBuf;
use std::sync::Arc;

use expression::Object;
use expression::Path;
use expression::Value;
use model::Code;
use model::Issue;
use model::Located;
use model::Millis;
use model::Severity;

use super::Answer;
use super::Answers;
use super::CallExpectation;
use super::Case;
use super::Control;
use super::Decision;
use super::ErrorExpectation;
use super::Expect;
use super::File;
use super::Invalid;
use super::Refused;
use super::Reply;
use super::Signal;
use super::Stub;
use super::Verb;
use crate::trail::Trail;
use crate::trail::escape;

const STATUSES: [&str; 12] = [
    "PENDING",
    "RUNNING",
    "WAITING_APPROVAL",
    "WAITING_SIGNAL",
    "WAITING_TIMER",
    "PAUSING",
    "PAUSED",
    "CANCELLING",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMED_OUT",
];

pub(super) fn file(source: &str, path: &FilePath) -> Result<File, Vec<Issue>> {
    let located = Located::parse(source, &path.to_string_lossy())?;
    let mut reader = Reader { located: &located, issues: Vec::new() };
    let root = At { value: &located.value, pointer: String::new() };
    let file = reader.file(&root, path);
    match file {
        Some(file) if reader.issues.is_empty() => Ok(file),
        _ => Err(reader.issues),
    }
}

struct Reader<'d> {
    located: &'d Located,
    issues: Vec<Issue>,
}

/// A value and where it stands.
struct At<'d> {
    value: &'d Value,
    pointer: String,
}

impl<'d> At<'d> {
    fn key(&self, key: &str) -> Option<At<'d>> {
        let value = self.value.get(key)?;
        Some(At { value, pointer: format!("{}/{}", self.pointer, escape(key)) })
    }

    fn items(&self) -> Vec<At<'d>> {
        let items = self.value.as_array().unwrap_or_default();
        items
            .iter()
            .enumerate()
            .map(|(index, value)| At { value, pointer: format!("{}/{index}", self.pointer) })
            .collect()
    }

    fn entries(&self) -> Vec<(&'d Arc<str>, At<'d>)> {
        let Some(object) = self.value.as_object() else { return Vec::new() };
        object
            .iter()
            .map(|(key, value)| (key, At { value, pointer: format!("{}/{}", self.pointer, escape(key)) }))
            .collect()
    }
}

impl<'d> Reader<'d> {
    fn file(&mut self, at: &At<'d>, path: &FilePath) -> Option<File> {
        self.object(at, &["workflow", "tests"])?;
        let workflow = self.required_text(at, "workflow").map(PathBuf::from);
        let tests = self.required(at, "tests")?;
        let cases = self.list(&tests)?.iter().map(|case| self.case(case)).collect::<Vec<_>>();
        let mut names = std::collections::BTreeSet::new();
        for (case, at) in cases.iter().flatten().zip(tests.items()) {
            if !names.insert(case.name.clone()) {
                self.issue(&at, Code::DuplicateName, format!("a second test is named `{}`", case.name), None);
            }
        }
        Some(File {
            path: path.to_owned(),
            workflow: workflow?,
            cases: cases.into_iter().collect::<Option<_>>()?,
        })
    }

    fn case(&mut self, at: &At<'d>) -> Option<Case> {
        const KEYS: [&str; 10] = [
            "name",
            "input",
            "trigger",
            "starter",
            "now",
            "agents",
            "approvals",
            "signals",
            "control",
            "expect",
        ];
        self.object(at, &KEYS)?;
        let name = self.required_text(at, "name");
        let expect = self.required(at, "expect").map(|at| self.expect(&at));
        let now = at.key("now").and_then(|at| {
            let text = self.text(&at)?;
            let time = text.parse().ok();
            if time.is_none() {
                let hint = "write it like 2026-03-01T09:00:00Z";
                self.issue(&at, Code::BadValue, format!("`{text}` is no time"), Some(hint));
            }
            time
        });
        Some(Case {
            name: name?,
            line: self.located.place(&at.pointer).0,
            input: at.key("input").map_or_else(Value::object, |at| at.value.clone()),
            cron: at.key("trigger").and_then(|at| {
                self.object(&at, &["cron"])?;
                self.required_text(&at, "cron").map(Arc::from)
            }),
            starter: self.optional_text(at, "starter"),
            now,
            agents: self.map(at, "agents", Self::stub),
            approvals: self.map(at, "approvals", Self::answers),
            signals: self.optional_list(at, "signals", Self::signal),
            control: self.optional_list(at, "control", Self::control),
            expect: expect?,
        })
    }

    fn stub(&mut self, at: &At<'d>) -> Option<Stub> {
        self.object(at, &["output", "error", "calls", "after"])?;
        if let Some(calls) = at.key("calls") {
            if at.value.as_object().is_some_and(|object| object.len() > 1) {
                self.issue(
                    at,
                    Code::BadValue,
                    "`calls` stands beside another answer",
                    Some("give either one answer to every call, or a list of them"),
                );
            }
            let answers = self.list(&calls)?.iter().map(|call| self.answer(call)).collect::<Option<_>>()?;
            return Some(Stub { answers, always: false });
        }
        Some(Stub { answers: vec![self.answer(at)?], always: true })
    }

    fn answer(&mut self, at: &At<'d>) -> Option<Answer> {
        self.object(at, &["output", "error", "after"])?;
        let after = self.duration(at, "after");
        let what = match (at.key("output"), at.key("error")) {
            (Some(output), None) => Reply::Output(output.value.clone()),
            (None, Some(error)) => {
                self.object(&error, &["type", "message", "definite", "retryAfter"])?;
                Reply::Error {
                    kind: self
                        .optional_text(&error, "type")
                        .unwrap_or_else(|| Arc::from(engine::error_type::AGENT_ERROR)),
                    message: self
                        .optional_text(&error, "message")
                        .unwrap_or_else(|| Arc::from("the stub says so")),
                    definite: error.key("definite").is_none_or(|at| self.boolean(&at).unwrap_or(true)),
                    retry_after: error.key("retryAfter").map(|_| self.duration(&error, "retryAfter")),
                }
            }
            _ => {
                self.issue(at, Code::MissingField, "an answer is either an `output` or an `error`", None);
                return None;
            }
        };
        Some(Answer { after, what })
    }

    fn answers(&mut self, at: &At<'d>) -> Option<Answers> {
        if at.value.as_array().is_none() {
            return Some(Answers { decisions: vec![Some(self.decision(at)?)], always: true });
        }
        let mut decisions = Vec::new();
        for at in at.items() {
            decisions.push(if at.value.is_null() { None } else { Some(self.decision(&at)?) });
        }
        Some(Answers { decisions, always: false })
    }

    fn decision(&mut self, at: &At<'d>) -> Option<Decision> {
        const KEYS: [&str; 8] =
            ["decision", "approver", "teams", "comment", "reason", "form", "after", "refused"];
        self.object(at, &KEYS)?;
        let decision = self.required(at, "decision")?;
        let approve = match self.text(&decision)? {
            "approve" => true,
            "reject" => false,
            other => {
                self.issue(
                    &decision,
                    Code::BadValue,
                    format!("`{other}` is no decision"),
                    Some("write `approve` or `reject`"),
                );
                return None;
            }
        };
        Some(Decision {
            approve,
            approver: self.optional_text(at, "approver").unwrap_or_else(|| Arc::from("user:tester")),
            teams: self.texts(at, "teams").unwrap_or_default().into_iter().map(Arc::from).collect(),
            comment: self.optional_text(at, "comment").or_else(|| self.optional_text(at, "reason")),
            form: at.key("form").map(|at| at.value.clone()),
            after: self.duration(at, "after"),
            refused: self.optional_text(at, "refused").map(|code| code.to_string()),
        })
    }

    fn signal(&mut self, at: &At<'d>) -> Option<Signal> {
        self.object(at, &["after", "id", "name", "payload", "refused"])?;
        Some(Signal {
            after: self.duration(at, "after"),
            id: self.optional_text(at, "id"),
            name: self.required_text(at, "name").map(Arc::from)?,
            payload: at.key("payload").map_or(Value::Null, |at| at.value.clone()),
            refused: self.optional_text(at, "refused").map(|code| code.to_string()),
        })
    }

    fn control(&mut self, at: &At<'d>) -> Option<Control> {
        self.object(at, &["after", "do", "by", "reason", "refused"])?;
        let verb = self.required(at, "do")?;
        let word = self.text(&verb)?;
        let Some((_, read)) = Verb::ALL.iter().find(|(name, _)| *name == word) else {
            self.issue(
                &verb,
                Code::BadValue,
                format!("`{word}` is no control"),
                Some("write pause, resume, cancel, redrive or restart"),
            );
            return None;
        };
        Some(Control {
            after: self.duration(at, "after"),
            verb: *read,
            by: self.optional_text(at, "by"),
            reason: self.optional_text(at, "reason"),
            refused: self.optional_text(at, "refused").map(|code| code.to_string()),
        })
    }

    fn expect(&mut self, at: &At<'d>) -> Expect {
        const KEYS: [&str; 11] = [
            "status",
            "path",
            "history",
            "output",
            "context",
            "calls",
            "notCalled",
            "error",
            "approvals",
            "refused",
            "invalid",
        ];
        let Some(object) = self.object(at, &KEYS) else { return Expect::default() };
        if object.is_empty() {
            self.issue(at, Code::MissingField, "nothing is expected", Some("expect at least a `status`"));
        }
        Expect {
            status: at.key("status").and_then(|at| self.status(&at)),
            path: at.key("path").and_then(|at| {
                let read = Trail::read(at.value);
                read.map_err(|(pointer, message)| {
                    let at = At { value: at.value, pointer: at.pointer.clone() + &pointer };
                    self.issue(&at, Code::BadValue, message, None);
                })
                .ok()
            }),
            history: at.key("history").map(|at| self.history(&at)).unwrap_or_default(),
            output: at.key("output").map(|at| at.value.clone()),
            context: at.key("context").map(|at| self.context(&at)).unwrap_or_default(),
            calls: self.optional_list(at, "calls", Self::call),
            not_called: self.texts(at, "notCalled").unwrap_or_default().into_iter().map(Arc::from).collect(),
            error: at.key("error").and_then(|at| self.error(&at)),
            approvals: self.optional_list(at, "approvals", Self::approval),
            refused: at.key("refused").and_then(|at| {
                self.object(&at, &["code", "paths"])?;
                Some(Refused { code: self.required_text(&at, "code")?, paths: self.texts(&at, "paths") })
            }),
            invalid: self.optional_list(at, "invalid", Self::invalid),
        }
    }

    fn status(&mut self, at: &At<'d>) -> Option<String> {
        let text = self.text(at)?;
        if !STATUSES.contains(&text) {
            let hint = nearest(text, &STATUSES).map_or_else(
                || format!("one of {}", STATUSES.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.issue(at, Code::BadValue, format!("`{text}` is no status of a run"), Some(&hint));
        }
        Some(text.to_owned())
    }

    fn context(&mut self, at: &At<'d>) -> Vec<(Path, Value)> {
        if self.mapping(at).is_none() {
            return Vec::new();
        }
        let mut read = Vec::new();
        for (key, at) in at.entries() {
            match Path::parse(key) {
                Ok(path) => read.push((path, at.value.clone())),
                Err(error) => self.issue(&at, Code::PathSyntax, error.message.clone(), error.hint.as_deref()),
            }
        }
        read
    }

    fn call(&mut self, at: &At<'d>) -> Option<CallExpectation> {
        let object = self.mapping(at)?;
        let agent = self.required_text(at, "agent")?;
        let request = object
            .iter()
            .filter(|(key, _)| &***key != "agent")
            .map(|(key, value)| (key.clone(), value.clone()));
        Some(CallExpectation { agent: agent.into(), request: Value::from(request.collect::<Object>()) })
    }

    fn error(&mut self, at: &At<'d>) -> Option<ErrorExpectation> {
        self.object(at, &["type", "contains", "code", "state", "attempts", "cause"])?;
        let text = |reader: &mut Self, key: &str| reader.optional_text(at, key).map(|text| text.to_string());
        Some(ErrorExpectation {
            kind: text(self, "type"),
            contains: text(self, "contains"),
            code: text(self, "code"),
            state: text(self, "state"),
            attempts: at.key("attempts").and_then(|at| self.integer(&at)),
            cause: text(self, "cause"),
        })
    }

    fn approval(&mut self, at: &At<'d>) -> Option<(Arc<str>, Value)> {
        const KEYS: [&str; 6] = ["state", "message", "title", "summary", "approvers", "quorum"];
        let object = self.object(at, &KEYS)?;
        let state = self.required_text(at, "state")?;
        let rest = object
            .iter()
            .filter(|(key, _)| &***key != "state")
            .map(|(key, value)| (key.clone(), value.clone()));
        Some((state.into(), Value::from(rest.collect::<Object>())))
    }

    fn invalid(&mut self, at: &At<'d>) -> Option<Invalid> {
        self.object(at, &["code", "line", "path", "contains"])?;
        Some(Invalid {
            code: self.required_text(at, "code")?,
            line: at.key("line").and_then(|at| self.integer(&at)).and_then(|line| u32::try_from(line).ok()),
            path: self.optional_text(at, "path").map(|path| path.to_string()),
            contains: self.optional_text(at, "contains").map(|text| text.to_string()),
        })
    }

    // What all of these are made of.

    fn issue(&mut self, at: &At<'_>, code: Code, message: impl Into<String>, hint: Option<&str>) {
        let (line, column) = self.located.place(&at.pointer);
        self.issues.push(Issue {
            severity: Severity::Error,
            code,
            path: at.pointer.clone(),
            message: message.into(),
            expected: None,
            actual: None,
            hint: hint.map(str::to_owned),
            line,
            column,
        });
    }

    fn wrong_type(&mut self, at: &At<'_>, expected: &str) {
        self.issue(at, Code::WrongType, format!("this is {}, not {expected}", at.value.kind()), None);
    }

    fn mapping(&mut self, at: &At<'d>) -> Option<&'d Object> {
        let object = at.value.as_object();
        if object.is_none() {
            self.wrong_type(at, "a mapping");
        }
        object
    }

    /// A mapping with these keys only (and `x-…`).
    fn object(&mut self, at: &At<'d>, known: &[&str]) -> Option<&'d Object> {
        let object = self.mapping(at)?;
        for (key, entry) in at.entries() {
            if !known.contains(&&**key) && !key.starts_with("x-") {
                let hint = nearest(key, known).map_or_else(
                    || format!("known here: {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                self.issue(
                    &entry,
                    Code::UnknownField,
                    format!("there is no field `{key}` here"),
                    Some(&hint),
                );
            }
        }
        Some(object)
    }

    fn required(&mut self, at: &At<'d>, key: &str) -> Option<At<'d>> {
        let found = at.key(key);
        if found.is_none() {
            self.issue(at, Code::MissingField, format!("`{key}` is missing"), None);
        }
        found
    }

    fn text(&mut self, at: &At<'d>) -> Option<&'d str> {
        let text = at.value.as_str();
        if text.is_none() {
            self.wrong_type(at, "a text");
        }
        text
    }

    fn integer(&mut self, at: &At<'d>) -> Option<i64> {
        let number = at.value.as_i64();
        if number.is_none() {
            self.wrong_type(at, "an integer");
        }
        number
    }

    fn boolean(&mut self, at: &At<'d>) -> Option<bool> {
        let flag = at.value.as_bool();
        if flag.is_none() {
            self.wrong_type(at, "a boolean");
        }
        flag
    }

    fn required_text(&mut self, at: &At<'d>, key: &str) -> Option<String> {
        let at = self.required(at, key)?;
        self.text(&at).map(str::to_owned)
    }

    fn optional_text(&mut self, at: &At<'d>, key: &str) -> Option<Arc<str>> {
        let at = at.key(key)?;
        self.text(&at).map(Arc::from)
    }

    fn texts(&mut self, at: &At<'d>, key: &str) -> Option<Vec<String>> {
        let at = at.key(key)?;
        self.list(&at)?.iter().map(|at| self.text(at).map(str::to_owned)).collect()
    }

    fn duration(&mut self, at: &At<'d>, key: &str) -> Millis {
        let Some(at) = at.key(key) else { return Millis(0) };
        match model::duration(at.value) {
            Ok(millis) => millis,
            Err(error) => {
                self.issue(&at, Code::BadDuration, error.to_string(), Some(model::DURATION_HELP));
                Millis(0)
            }
        }
    }

    fn list(&mut self, at: &At<'d>) -> Option<Vec<At<'d>>> {
        if at.value.as_array().is_none() {
            self.wrong_type(at, "a list");
            return None;
        }
        Some(at.items())
    }

    fn optional_list<T>(
        &mut self,
        at: &At<'d>,
        key: &str,
        read: impl Fn(&mut Self, &At<'d>) -> Option<T>,
    ) -> Vec<T> {
        let Some(at) = at.key(key) else { return Vec::new() };
        let items = self.list(&at).unwrap_or_default();
        items.iter().filter_map(|item| read(self, item)).collect()
    }

    fn map<T>(
        &mut self,
        at: &At<'d>,
        key: &str,
        read: impl Fn(&mut Self, &At<'d>) -> Option<T>,
    ) -> BTreeMap<Arc<str>, T> {
        let Some(at) = at.key(key) else { return BTreeMap::new() };
        if self.mapping(&at).is_none() {
            return BTreeMap::new();
        }
        at.entries().into_iter().filter_map(|(name, at)| Some((name.clone(), read(self, &at)?))).collect()
    }
}

fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let scored = names.iter().map(|name| (strsim::jaro_winkler(word, name), *name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}
