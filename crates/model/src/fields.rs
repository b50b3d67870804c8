//! The one table of all spellings: which fields stand where, what else they are called, and what stands in them.
//!
//! Besides the spellings here every field may be written in `snake_case`, and `x-…` is free everywhere.

/// One field and its other spellings.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) also: &'static [&'static str],
    pub(crate) inside: Inside,
}

/// What stands in a field, as far as more fields stand in it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inside {
    /// Anything; kept as it is.
    Data,
    /// A text, also where YAML sees a number: `version: 1.10` stays `1.10`.
    Verbatim,
    /// A mapping of this shape.
    One(&'static Shape),
    /// A list of mappings of this shape.
    Each(&'static Shape),
    /// One mapping of this shape or a list of them.
    OneOrEach(&'static Shape),
    /// A list of states.
    States,
    /// A list of mappings whose `type` says their shape.
    Triggers,
}

/// The fields of one kind of mapping.
#[derive(Debug)]
pub(crate) struct Shape {
    /// For messages: `a branch`.
    pub(crate) what: &'static str,
    /// Groups of fields.
    pub(crate) groups: &'static [&'static [Field]],
}

const fn data(name: &'static str) -> Field {
    Field { name, also: &[], inside: Inside::Data }
}

const fn also(name: &'static str, also: &'static [&'static str]) -> Field {
    Field { name, also, inside: Inside::Data }
}

const fn inside(name: &'static str, inside: Inside) -> Field {
    Field { name, also: &[], inside }
}

/// The document.
pub(crate) static WORKFLOW: Shape = Shape {
    what: "a workflow",
    groups: &[&[
        data("id"),
        inside("version", Inside::Verbatim),
        data("name"),
        data("description"),
        data("inputSchema"),
        data("outputSchema"),
        data("start"),
        also("timeoutSeconds", &["timeout"]),
        data("labels"),
        inside("triggers", Inside::Triggers),
        inside("states", Inside::States),
    ]],
};

/// An API request that holds a workflow.
pub(crate) static REQUEST: Shape = Shape {
    what: "a request with a `definition`",
    groups: &[&[data("workflowId"), data("name"), data("description"), data("definition")]],
};

const TRIGGER: &[Field] = &[data("type")];
pub(crate) static SCHEDULE_TRIGGER: Shape = Shape {
    what: "a `schedule` trigger",
    groups: &[TRIGGER, &[data("cron"), data("timezone"), data("enabled"), data("missed"), data("input")]],
};
pub(crate) static WEBHOOK_TRIGGER: Shape = Shape {
    what: "a `webhook` trigger",
    groups: &[TRIGGER, &[data("name"), data("secret"), data("signature"), data("headers")]],
};
pub(crate) static EVENT_TRIGGER: Shape =
    Shape { what: "an `event` trigger", groups: &[TRIGGER, &[data("filter")]] };

/// Trigger types and their other spellings.
pub(crate) static TRIGGER_TYPES: &[(&str, &[&str], &Shape)] = &[
    ("schedule", &["cron"], &SCHEDULE_TRIGGER),
    ("webhook", &[], &WEBHOOK_TRIGGER),
    ("event", &[], &EVENT_TRIGGER),
];

const NAMED: &[Field] = &[data("id"), data("name"), data("type"), data("description"), data("if")];
const ONWARD: &[Field] = &[also("next", &["transition"]), data("end")];
const WRITES: &[Field] = &[data("resultPath"), data("output")];
const TIMEOUT: &[Field] = &[also("timeoutSeconds", &["timeout"])];
const ACTION: &[Field] = &[also("action", &["operation"]), data("input")];
const ATTEMPTS: &[Field] = &[inside("retry", Inside::OneOrEach(&RETRY)), data("atMostOnce")];

const AGENT_RUN: &[Field] =
    &[also("agent", &["agentId"]), also("task", &["prompt", "agentTask", "userInput"]), data("variables")];
const HUMAN_APPROVAL: &[Field] = &[
    also("message", &["prompt"]),
    also("title", &["approvalTitle"]),
    data("summaryPath"),
    data("approvers"),
    data("quorum"),
    data("separationOfDuties"),
    data("onReject"),
    data("onTimeout"),
    data("formSchema"),
];
const HTTP_CALL: &[Field] =
    &[data("method"), data("url"), data("headers"), data("query"), data("body"), data("expect")];
const LAMBDA_INVOKE: &[Field] = &[data("function"), data("payload")];
const WORKFLOW_RUN: &[Field] = &[data("workflow"), inside("version", Inside::Verbatim)];
const LOG: &[Field] = &[data("message"), data("level")];
const INPUT: &[Field] = &[data("input")];

pub(crate) static RETRY: Shape = Shape {
    what: "a retry rule",
    groups: &[&[
        data("maxAttempts"),
        data("backoffSeconds"),
        data("backoff"),
        data("maxBackoffSeconds"),
        data("jitter"),
        data("retryOn"),
    ]],
};
static JOIN: Shape = Shape { what: "a join", groups: &[&[data("mode"), data("onFailure")]] };
static CASE: Shape =
    Shape { what: "a condition of a switch", groups: &[&[data("if"), also("next", &["transition"])]] };
const BLOCK_FIELDS: &[Field] = &[data("start"), inside("states", Inside::States)];
/// The states of `try` and `finally`.
static BLOCK: Shape = Shape { what: "a block of states", groups: &[BLOCK_FIELDS] };
static CATCH: Shape =
    Shape { what: "a catch clause", groups: &[&[data("errors"), data("as")], BLOCK_FIELDS] };
/// What `agent:` in the place of `states:` may stand beside.
const INSTEAD_OF_STATES: &[Field] = &[data("if"), data("resultPath")];
static BRANCH: Shape = Shape {
    what: "a branch",
    groups: &[
        &[data("id"), data("name"), data("description"), data("output")],
        BLOCK_FIELDS,
        AGENT_RUN,
        INPUT,
        INSTEAD_OF_STATES,
        TIMEOUT,
        ATTEMPTS,
    ],
};
static ITERATOR: Shape = Shape {
    what: "an iterator",
    groups: &[&[data("output")], BLOCK_FIELDS, AGENT_RUN, INPUT, INSTEAD_OF_STATES, TIMEOUT, ATTEMPTS],
};

/// What every agent's file may hold.
const AGENT: &[Field] = &[
    data("type"),
    data("name"),
    data("description"),
    inside("input", Inside::One(&AGENT_INPUT)),
    also("timeoutSeconds", &["timeout"]),
];
const AGENT_OUTPUT: &[Field] = &[inside("output", Inside::One(&AGENT_OUTPUT_SHAPE))];
static AGENT_INPUT: Shape = Shape { what: "an agent's `input`", groups: &[&[data("schema")]] };
static AGENT_OUTPUT_SHAPE: Shape = Shape { what: "an agent's `output`", groups: &[&[data("schema")]] };
const OUTPUT_LIMIT: &[Field] = &[also("outputLimit", &["maxOutputBytes"])];

/// The kinds of agents and their files' fields.
pub(crate) static AGENT_TYPES: &[(&str, &Shape)] = &[
    (
        "static",
        &Shape {
            what: "a `static` agent",
            // Its `output` may be anything, so the schema may also stand in `outputSchema`.
            groups: &[
                AGENT,
                &[
                    data("output"),
                    data("outputSchema"),
                    data("error"),
                    inside("cases", Inside::Each(&AGENT_CASE)),
                    also("delaySeconds", &["delay"]),
                ],
            ],
        },
    ),
    (
        "command",
        &Shape {
            what: "a `command` agent",
            groups: &[
                AGENT,
                AGENT_OUTPUT,
                &[
                    also("command", &["argv"]),
                    also("environment", &["env"]),
                    data("inherit"),
                    also("cwd", &["workingDirectory"]),
                    also("graceSeconds", &["grace"]),
                ],
                OUTPUT_LIMIT,
            ],
        },
    ),
    (
        "http",
        &Shape {
            what: "an `http` agent",
            groups: &[
                AGENT,
                AGENT_OUTPUT,
                &[
                    data("method"),
                    data("url"),
                    data("headers"),
                    data("body"),
                    data("expect"),
                    also("connectTimeoutSeconds", &["connectTimeout"]),
                    data("followRedirects"),
                    data("caFile"),
                ],
                OUTPUT_LIMIT,
            ],
        },
    ),
    (
        "lambda",
        &Shape {
            what: "a `lambda` agent",
            groups: &[AGENT, AGENT_OUTPUT, &[data("function"), data("qualifier"), data("region")]],
        },
    ),
];
static AGENT_CASE: Shape =
    Shape { what: "a case of a `static` agent", groups: &[&[data("match"), data("output"), data("error")]] };

/// The front matter of a `.prompt` file (dotprompt), with what this product adds.
pub(crate) static PROMPT: Shape = Shape {
    what: "a prompt's front matter",
    groups: &[&[
        data("name"),
        data("variant"),
        data("version"),
        data("description"),
        data("model"),
        data("config"),
        inside("input", Inside::One(&PROMPT_INPUT)),
        inside("output", Inside::One(&PROMPT_OUTPUT)),
        data("tools"),
        also("mcp", &["mcpServers"]),
        data("maxSteps"),
        data("metadata"),
        also("timeoutSeconds", &["timeout"]),
    ]],
};
static PROMPT_INPUT: Shape =
    Shape { what: "a prompt's `input`", groups: &[&[data("schema"), data("default")]] };
static PROMPT_OUTPUT: Shape =
    Shape { what: "a prompt's `output`", groups: &[&[data("schema"), data("format")]] };

/// What kind of state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Operation,
    Agent,
    HumanApproval,
    Switch,
    Parallel,
    Foreach,
    While,
    Inject,
    Transform,
    Wait,
    Signal,
    Try,
    Workflow,
    Cron,
    Fail,
    Succeed,
}

/// The words of `type`.
pub(crate) static TYPES: &[(Type, &str, &[&str])] = &[
    (Type::Operation, "operation", &["action", "function"]),
    (Type::Agent, "agent", &[]),
    (Type::HumanApproval, "human_approval", &["approval"]),
    (Type::Switch, "switch", &[]),
    (Type::Parallel, "parallel", &[]),
    (Type::Foreach, "foreach", &[]),
    (Type::While, "while", &[]),
    (Type::Inject, "inject", &["set", "context"]),
    (Type::Transform, "transform", &[]),
    (Type::Wait, "wait", &["timer", "sleep", "delay"]),
    (Type::Signal, "signal", &["await"]),
    (Type::Try, "try", &["try_catch"]),
    (Type::Workflow, "workflow", &[]),
    (Type::Cron, "cron", &["schedule"]),
    (Type::Fail, "fail", &[]),
    (Type::Succeed, "succeed", &[]),
];

/// The actions of an `operation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActionName {
    AgentRun,
    HumanApproval,
    HttpCall,
    LambdaInvoke,
    WorkflowRun,
    Log,
}

/// The words of `action`.
pub(crate) static ACTIONS: &[(ActionName, &str)] = &[
    (ActionName::AgentRun, "agent.run"),
    (ActionName::HumanApproval, "human.approval"),
    (ActionName::HttpCall, "http.call"),
    (ActionName::LambdaInvoke, "lambda.invoke"),
    (ActionName::WorkflowRun, "workflow.run"),
    (ActionName::Log, "log"),
];

/// Words that are planned: `(word, what it is)`.
pub(crate) static NOT_YET: &[(&str, &str)] = &[
    ("emit", "emitting events"),
    ("compensate", "compensation"),
    ("compensation", "compensation"),
    ("compensateWith", "compensation"),
    ("mutex", "mutexes"),
    ("mutexes", "mutexes"),
    ("memoise", "memoisation"),
    ("memoize", "memoisation"),
    ("memoisation", "memoisation"),
    ("memoization", "memoisation"),
];

impl Type {
    pub(crate) fn word(self) -> &'static str {
        TYPES.iter().find(|(t, ..)| *t == self).map_or("", |(_, word, _)| word)
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        TYPES.iter().find(|(_, name, also)| *name == word || also.contains(&word)).map(|(t, ..)| *t)
    }

    /// Whether it may lead to states by other fields than `next`.
    pub(crate) fn has_targets(self) -> bool {
        !matches!(
            self,
            Self::Inject | Self::Transform | Self::Wait | Self::Cron | Self::Agent | Self::Workflow
        ) && !matches!(self, Self::Parallel | Self::Foreach | Self::While | Self::Try)
    }

    /// The action it is short for.
    pub(crate) fn action(self) -> Option<ActionName> {
        match self {
            Self::Agent => Some(ActionName::AgentRun),
            Self::HumanApproval => Some(ActionName::HumanApproval),
            _ => None,
        }
    }
}

impl ActionName {
    pub(crate) fn word(self) -> &'static str {
        ACTIONS.iter().find(|(a, _)| *a == self).map_or("", |(_, word)| word)
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        ACTIONS.iter().find(|(_, name)| *name == word).map(|(a, _)| *a)
    }

    /// The fields that may stand in the state or under `input`.
    pub(crate) fn own_fields(self) -> &'static [&'static [Field]] {
        match self {
            Self::AgentRun => const { &[AGENT_RUN, TIMEOUT] },
            Self::HumanApproval => const { &[HUMAN_APPROVAL, TIMEOUT] },
            Self::HttpCall => const { &[HTTP_CALL, TIMEOUT] },
            Self::LambdaInvoke => const { &[LAMBDA_INVOKE, TIMEOUT] },
            Self::WorkflowRun => const { &[WORKFLOW_RUN, INPUT, TIMEOUT] },
            Self::Log => const { &[LOG, TIMEOUT] },
        }
    }
}

/// The fields of a state, by its type and (of an operation) its action.
pub(crate) fn state_fields(kind: Type, action: Option<ActionName>) -> &'static [&'static [Field]] {
    match kind {
        Type::Operation => match action {
            Some(ActionName::AgentRun) | None => {
                const { &[NAMED, ACTION, AGENT_RUN, TIMEOUT, ATTEMPTS, WRITES, ONWARD] }
            }
            Some(ActionName::HumanApproval) => {
                const { &[NAMED, ACTION, HUMAN_APPROVAL, TIMEOUT, WRITES, ONWARD] }
            }
            Some(ActionName::HttpCall) => {
                const { &[NAMED, ACTION, HTTP_CALL, TIMEOUT, ATTEMPTS, WRITES, ONWARD] }
            }
            Some(ActionName::LambdaInvoke) => {
                const { &[NAMED, ACTION, LAMBDA_INVOKE, TIMEOUT, ATTEMPTS, WRITES, ONWARD] }
            }
            Some(ActionName::WorkflowRun) => {
                const { &[NAMED, ACTION, WORKFLOW_RUN, TIMEOUT, WRITES, ONWARD] }
            }
            Some(ActionName::Log) => const { &[NAMED, ACTION, LOG, TIMEOUT, ATTEMPTS, WRITES, ONWARD] },
        },
        Type::Agent => const { &[NAMED, ACTION, AGENT_RUN, TIMEOUT, ATTEMPTS, WRITES, ONWARD] },
        Type::HumanApproval => const { &[NAMED, ACTION, HUMAN_APPROVAL, TIMEOUT, WRITES, ONWARD] },
        Type::Switch => {
            const {
                &[
                    NAMED,
                    &[data("dataPath"), inside("conditions", Inside::Each(&CASE)), data("defaultNext")],
                    WRITES,
                ]
            }
        }
        Type::Parallel => {
            const {
                &[
                    NAMED,
                    &[
                        inside("branches", Inside::Each(&BRANCH)),
                        inside("join", Inside::One(&JOIN)),
                        data("outputAggregation"),
                    ],
                    TIMEOUT,
                    WRITES,
                    ONWARD,
                ]
            }
        }
        Type::Foreach => {
            const {
                &[
                    NAMED,
                    &[
                        data("itemsPath"),
                        also("itemName", &["itemVariable"]),
                        data("maxConcurrency"),
                        inside("iterator", Inside::One(&ITERATOR)),
                        data("onFailure"),
                        data("outputAggregation"),
                    ],
                    AGENT_RUN,
                    INPUT,
                    ATTEMPTS,
                    TIMEOUT,
                    WRITES,
                    ONWARD,
                ]
            }
        }
        Type::While => {
            const {
                &[
                    NAMED,
                    &[data("condition"), data("maxIterations"), inside("iterator", Inside::One(&ITERATOR))],
                    TIMEOUT,
                    WRITES,
                    ONWARD,
                ]
            }
        }
        Type::Inject => const { &[NAMED, &[data("data")], WRITES, ONWARD] },
        Type::Transform => {
            const {
                &[
                    NAMED,
                    &[
                        data("expression"),
                        data("inputPath"),
                        also("resultPath", &["outputPath"]),
                        data("output"),
                    ],
                    ONWARD,
                ]
            }
        }
        Type::Wait => const { &[NAMED, &[data("duration"), data("until")], WRITES, ONWARD] },
        Type::Signal => const { &[NAMED, &[data("signal"), data("onTimeout")], TIMEOUT, WRITES, ONWARD] },
        Type::Try => {
            const {
                &[
                    NAMED,
                    &[
                        inside("try", Inside::One(&BLOCK)),
                        inside("catch", Inside::OneOrEach(&CATCH)),
                        inside("finally", Inside::One(&BLOCK)),
                    ],
                    TIMEOUT,
                    WRITES,
                    ONWARD,
                ]
            }
        }
        Type::Workflow => const { &[NAMED, WORKFLOW_RUN, INPUT, TIMEOUT, WRITES, ONWARD] },
        Type::Cron => {
            const {
                &[
                    NAMED,
                    &[data("cron"), data("timezone"), data("enabled"), data("missed"), data("input")],
                    WRITES,
                    ONWARD,
                ]
            }
        }
        // Followed when their `if` is false.
        Type::Fail => const { &[NAMED, &[data("error"), data("message")], ONWARD] },
        Type::Succeed => const { &[NAMED, &[data("output")], ONWARD] },
    }
}

/// The field that a key means.
pub(crate) fn find(groups: &[&'static [Field]], key: &str) -> Option<&'static Field> {
    let camel = to_camel(key);
    let is = |name: &str| name == key || camel.as_deref() == Some(name);
    groups
        .iter()
        .flat_map(|group| group.iter())
        .find(|field| is(field.name) || field.also.iter().any(|name| is(name)))
}

/// All spellings that the groups know, for hints.
pub(crate) fn spellings(groups: &[&'static [Field]]) -> Vec<&'static str> {
    groups
        .iter()
        .flat_map(|group| group.iter())
        .flat_map(|field| std::iter::once(field.name).chain(field.also.iter().copied()))
        .collect()
}

/// The state types (and actions) that do have a field, for hints.
pub(crate) fn owners(key: &str) -> Vec<String> {
    let mut owners = Vec::new();
    for (kind, word, _) in TYPES {
        if *kind == Type::Operation {
            continue;
        }
        if find(state_fields(*kind, None), key).is_some() {
            owners.push(format!("`{word}`"));
        }
    }
    for (action, word) in ACTIONS {
        if find(state_fields(Type::Operation, Some(*action)), key).is_some() {
            owners.push(format!("`{word}`"));
        }
    }
    owners
}

/// `time_zone` as `timeZone`; `None` when it is no snake case.
fn to_camel(key: &str) -> Option<String> {
    if !key.contains('_') || key.starts_with('_') || key.ends_with('_') || key.chars().any(char::is_uppercase)
    {
        return None;
    }
    let mut camel = String::with_capacity(key.len());
    for (index, part) in key.split('_').enumerate() {
        let mut chars = part.chars();
        match chars.next() {
            Some(first) if index > 0 => camel.extend(first.to_uppercase()),
            Some(first) => camel.push(first),
            None => return None,
        }
        camel.push_str(chars.as_str());
    }
    Some(camel)
}

/// `timeZone` as `time_zone`.
pub(crate) fn to_snake(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, c| {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
        snake
    })
}

/// The nearest of some names, if one is near enough to have been meant.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // What is long is no slip of the pen, and comparing takes the product of the lengths.
    const LONG: usize = 80;
    const MANY: usize = 2_000;
    let plain = |s: &str| s.to_lowercase().replace(['_', '-', ' ', '.'], "");
    let wanted = plain(name);
    let length = wanted.chars().count();
    if name.len() > LONG || length < 2 {
        return None;
    }
    known
        .into_iter()
        .take(MANY)
        .filter(|candidate| candidate.len() <= LONG && *candidate != name)
        .filter_map(|candidate| {
            let there = plain(candidate);
            let edits = strsim::damerau_levenshtein(&wanted, &there);
            let is_near = edits <= length.max(there.chars().count()) / 3;
            let begins_alike = length >= 4
                && there.chars().count() >= 4
                && (there.starts_with(&wanted) || wanted.starts_with(&there));
            (is_near || begins_alike).then_some((edits, candidate))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}
