//! What is wrong with a file: a code, a place, what was expected, what to do.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with a document, or looks wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// Errors refuse the document, warnings do not.
    pub severity: Severity,
    /// The stable code; its page is `docs/errors/CODE.md`.
    pub code: Code,
    /// JSON pointer to the place, in the document as it was written. Of a missing field: where it would stand.
    pub path: String,
    /// One sentence that quotes what was found.
    pub message: String,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Line in the source, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Issue {
    pub(crate) fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            path: String::new(),
            message: message.into(),
            expected: None,
            actual: None,
            hint: None,
            line: 1,
            column: 1,
        }
    }

    pub(crate) fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    pub(crate) fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    pub(crate) fn actual(mut self, text: impl Into<String>) -> Self {
        self.actual = Some(text.into());
        self
    }

    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, text: Option<String>) -> Self {
        if text.is_some() {
            self.hint = text;
        }
        self
    }

    pub(crate) fn at(mut self, line: u32, column: u32) -> Self {
        self.line = line;
        self.column = column;
        self
    }

    pub(crate) fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// True when the document is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}[{}]: {}", self.line, self.column, self.severity, self.code, self.message)
    }
}

/// How much an issue matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is accepted; somebody should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Makes `Code`, an enum of error codes, from one table: what the enum is, then a line for each code with its variant, its stable
/// text and one line of what it means.
#[macro_export]
macro_rules! codes {
    ($(#[$about:meta])* $($variant:ident $text:literal $meaning:literal,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// All codes, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as users see it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// One line of what it means.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

codes! {
    /// Every code an issue of a workflow or agent file can have. Each has a page in `docs/errors/`.
    YamlSyntax "YAML_SYNTAX" "The file is neither YAML nor JSON.",
    YamlLimit "YAML_LIMIT" "The file is too large, too deep, or its aliases expand too far.",
    YamlEmpty "YAML_EMPTY" "The file holds nothing.",
    YamlDocuments "YAML_DOCUMENTS" "The file holds more than one document.",
    YamlKey "YAML_KEY" "A key is not a text.",
    YamlMerge "YAML_MERGE" "What stands after `<<` is neither a mapping nor a list of mappings.",
    YamlTag "YAML_TAG" "A YAML tag that means nothing here.",
    NotJson "NOT_JSON" "A number that JSON cannot hold.",
    DuplicateKey "DUPLICATE_KEY" "One mapping has the same key twice.",
    UnknownField "UNKNOWN_FIELD" "A field that does not exist here.",
    DuplicateField "DUPLICATE_FIELD" "One field stands twice, in two spellings.",
    MissingField "MISSING_FIELD" "A required field is not there.",
    WrongType "WRONG_TYPE" "A value of the wrong type.",
    BadValue "BAD_VALUE" "A value of the right type that is not allowed.",
    OverriddenField "OVERRIDDEN_FIELD" "A field stands in the state and under `input`; the state's wins.",
    NotYet "NOT_YET" "A feature that is planned and does not exist yet.",
    UnknownType "UNKNOWN_TYPE" "A state type that does not exist.",
    UnknownAction "UNKNOWN_ACTION" "An action that does not exist.",
    DuplicateName "DUPLICATE_NAME" "Two states of one list, or two branches, have the same name.",
    ReservedName "RESERVED_NAME" "A name that means something else already.",
    UnknownTarget "UNKNOWN_TARGET" "A transition to a state that is not in the same list.",
    TransitionConflict "TRANSITION_CONFLICT" "Transitions of one state that contradict each other.",
    MissingTransition "MISSING_TRANSITION" "A state that is not the last of its list has no transition.",
    UnreachableState "UNREACHABLE_STATE" "No transition leads to a state.",
    NoEnd "NO_END" "From a state no end of its list can be reached.",
    MisplacedCron "MISPLACED_CRON" "A `cron` state that is not the workflow's start.",
    BadCron "BAD_CRON" "A schedule or time zone that cannot be read.",
    BadDuration "BAD_DURATION" "A length of time that cannot be read.",
    BadTimeout "BAD_TIMEOUT" "A time limit that makes no sense where it stands.",
    BadRetry "BAD_RETRY" "A retry rule that makes no sense.",
    BadJoin "BAD_JOIN" "A join that its branches can never satisfy.",
    BadQuorum "BAD_QUORUM" "A quorum that its approvers can never reach.",
    BadSchema "BAD_SCHEMA" "A JSON Schema that is none.",
    ExpressionSyntax "EXPRESSION_SYNTAX" "An expression, program or template that cannot be read.",
    ExpressionTooLong "EXPRESSION_TOO_LONG" "An expression, program or template has more text than allowed.",
    ExpressionTooNested "EXPRESSION_TOO_NESTED" "An expression, program or template nests too deeply.",
    PathSyntax "PATH_SYNTAX" "A path that cannot be read.",
    UnknownName "UNKNOWN_NAME" "A name that nobody writes.",
    InputOnlyFirst "INPUT_ONLY_FIRST" "`input` is what the state before returned; the field is one of the workflow's input.",
    MisplacedSecret "MISPLACED_SECRET" "A secret where it would be recorded.",
    UnknownAgent "UNKNOWN_AGENT" "An agent that does not exist.",
    UnknownWorkflow "UNKNOWN_WORKFLOW" "A sub-workflow that does not exist.",
    SchemaMismatch "SCHEMA_MISMATCH" "What flows into an agent does not fit its input schema.",
    AgentName "AGENT_NAME" "An agent file whose name is not that of an agent.",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
