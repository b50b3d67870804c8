//! The top level of a workflow: what stands beside its states.

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::SecretRef;
use expression::Value;

use super::Reader;
use super::hash;
use super::survey;
use super::text::CALL_TEXT;
use super::to_value;
use crate::Code;
use crate::EventFilter;
use crate::Issue;
use crate::Missed;
use crate::Schedule;
use crate::Signature;
use crate::State;
use crate::StateId;
use crate::Trigger;
use crate::Webhook;
use crate::Workflow;
use crate::check;
use crate::fields;
use crate::yaml::Data;
use crate::yaml::MAX_BYTES;
use crate::yaml::Node;

/// Names of workflows, states and branches have no more characters than this.
const MAX_NAME: usize = 200;

impl Reader<'_> {
    pub(super) fn workflow(&mut self, root: &Node) -> Option<Workflow> {
        if !matches!(root.data, Data::Map(_)) {
            let issue = Issue::error(Code::WrongType, format!("the document is {}", root.type_name()))
                .expected("a mapping with `id` and `states`");
            self.report(root, issue);
            return None;
        }
        let id = if root.get("id").is_some() {
            self.name(root, "id")
        } else {
            self.missing(root, "id", "a workflow", "a text that identifies the workflow for good");
            None
        };
        let version = self.text(root, "version");
        if let (Some(text), Some(node)) = (&version, root.get("version"))
            && (text.is_empty() || text.len() > MAX_NAME)
        {
            self.bad_value(
                node,
                "the version is empty or too long".to_owned(),
                "leave it out to let the catalog count",
            );
        }
        let name = self.text(root, "name");
        let description = self.text(root, "description");
        let input_schema = self.schema(root, "inputSchema");
        let output_schema = self.schema(root, "outputSchema");
        let timeout = self.timeout(root);
        let labels = self.labels(root);
        let mut triggers = self.triggers(root);
        let block = self.root_block(root, &mut triggers);
        let block = block?;
        let slots = std::mem::take(&mut self.states);
        // A slot is empty where the block around it could not be read.
        self.lost.kinds |= slots.iter().any(Option::is_none);
        self.lost.writes |= self.lost.kinds && slots.iter().any(Option::is_none);
        let slots = slots.into_iter().zip(0..);
        let states: Vec<State> = slots
            .map(|(slot, id)| slot.unwrap_or_else(|| State::unreadable(StateId(id), "", (1, 1))))
            .collect();
        let addresses = states.iter().map(|state| (state.address.clone(), state.id)).collect();
        let definition = to_value(root);
        // What is stored is read again, by the same bounds.
        let size = definition.to_string().len();
        if size > MAX_BYTES {
            let issue = Issue::error(Code::YamlLimit, format!("the definition has {size} bytes as JSON"))
                .expected(format!("at most {MAX_BYTES} bytes"));
            self.report(root, issue);
        }
        let hash = hash(&definition);
        let mut workflow = Workflow {
            id: id.unwrap_or_default(),
            version,
            name: name.map(|name| name.to_string()),
            description: description.map(|text| text.to_string()),
            input_schema,
            output_schema,
            timeout,
            labels,
            triggers,
            root: block,
            states,
            addresses,
            names: expression::Names::default(),
            definition,
            hash,
        };
        check::workflow(self, &mut workflow);
        Some(workflow)
    }

    fn root_block(&mut self, root: &Node, triggers: &mut Vec<Trigger>) -> Option<crate::Block> {
        let Some(states) = root.get("states") else {
            self.missing(root, "states", "a workflow", "a list of states");
            return None;
        };
        self.states.resize_with(survey::count_list(states) as usize, || None);
        self.survey(states, "");
        let block = self.block(root, "", 0, "the workflow")?;
        for (id, schedule) in std::mem::take(&mut self.schedules) {
            if id == block.start {
                triggers.insert(0, Trigger::Schedule(schedule));
            }
        }
        Some(block)
    }

    /// A name or id: not empty, not endless, on one line.
    pub(super) fn name(&mut self, map: &Node, key: &str) -> Option<Arc<str>> {
        let node = map.get(key)?;
        let text = self.as_text(node, key)?;
        let problem = if text.trim().is_empty() {
            "is empty"
        } else if text.chars().count() > MAX_NAME {
            "is longer than 200 characters"
        } else if text.chars().any(char::is_control) {
            "holds a line break or another control character"
        } else if text.trim() != &*text {
            "begins or ends with white space"
        } else {
            return Some(text);
        };
        self.bad_value(node, format!("`{key}` {problem}"), "give it a short name on one line");
        None
    }

    fn labels(&mut self, root: &Node) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let Some(node) = root.get("labels") else { return labels };
        let Data::Map(entries) = &node.data else {
            self.wrong_type(node, "labels", "a mapping of texts");
            return labels;
        };
        for entry in entries {
            let text = match &entry.value.data {
                Data::Text(text, _) | Data::Number(text, _) => text.to_string(),
                Data::Bool(value) => value.to_string(),
                _ => {
                    self.wrong_type(&entry.value, &entry.key, "a text");
                    continue;
                }
            };
            labels.insert(entry.key.to_string(), text);
        }
        labels
    }

    fn triggers(&mut self, root: &Node) -> Vec<Trigger> {
        let mut triggers = Vec::new();
        let Some(node) = root.get("triggers") else { return triggers };
        let Data::List(items) = &node.data else {
            self.wrong_type(node, "triggers", "a list of triggers, each with a `type`");
            return triggers;
        };
        for (index, item) in items.iter().enumerate() {
            let Some(trigger) = self.trigger(item, index + 1) else { continue };
            if let Trigger::Webhook(webhook) = &trigger
                && triggers
                    .iter()
                    .any(|other| matches!(other, Trigger::Webhook(other) if other.name == webhook.name))
            {
                let message = format!("two webhooks are named `{}`", webhook.name);
                self.report(item, Issue::error(Code::DuplicateName, message));
            }
            triggers.push(trigger);
        }
        triggers
    }

    fn trigger(&mut self, node: &Node, number: usize) -> Option<Trigger> {
        let kinds = "`schedule`, `webhook` or `event`";
        if !matches!(node.data, Data::Map(_)) {
            self.wrong_type(node, "a trigger", "a mapping with a `type`");
            return None;
        }
        let Some(kind) = node.get("type") else {
            self.missing(node, "type", "a trigger", kinds);
            return None;
        };
        let word = self.as_text(kind, "type")?;
        match &*word {
            "schedule" => self.schedule(node, format!("schedule-{number}").into()).map(Trigger::Schedule),
            "webhook" => self.webhook(node).map(Trigger::Webhook),
            "event" => self.event(node).map(Trigger::Event),
            other => {
                let near = fields::nearest(other, ["schedule", "webhook", "event"]);
                let issue = Issue::error(Code::UnknownType, format!("there is no trigger type `{other}`"))
                    .expected(kinds)
                    .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
                self.report(kind, issue);
                None
            }
        }
    }

    fn webhook(&mut self, node: &Node) -> Option<Webhook> {
        if node.get("name").is_none() {
            self.missing(node, "name", "a `webhook` trigger", "the last segment of its path");
            return None;
        }
        let name = self.name(node, "name")?;
        let secret = if let Some(secret) = node.get("secret") {
            Some(self.webhook_secret(secret)?)
        } else {
            let message = format!("the webhook `{name}` has no `secret`, so it receives nothing");
            self.report(node, Issue::warning(Code::MissingField, message).expected(SECRET_REFERENCE));
            None
        };
        let signature = match node.get("signature") {
            None => Signature::default(),
            Some(field) => match &*self.as_text(field, "signature")? {
                "stepwell" => Signature::Stepwell,
                "github" => Signature::GitHub,
                other => {
                    let issue = Issue::error(Code::BadValue, format!("there is no signature `{other}`"));
                    self.report(field, issue.expected("`stepwell` or `github`"));
                    return None;
                }
            },
        };
        let mut headers = Vec::new();
        if let Some(field) = node.get("headers") {
            let Data::List(items) = &field.data else {
                self.wrong_type(field, "headers", "a list of names of headers");
                return None;
            };
            for item in items {
                let header = self.as_text(item, "headers")?;
                headers.push(header.to_ascii_lowercase().into());
            }
        }
        Some(Webhook { name, secret, signature, headers })
    }

    fn webhook_secret(&mut self, node: &Node) -> Option<SecretRef> {
        let text = self.as_text(node, "secret")?;
        if !text.starts_with("${") {
            let issue = Issue::error(Code::MisplacedSecret, "a secret stands in the file itself")
                .expected(SECRET_REFERENCE)
                .hint("whoever reads the file could sign requests");
            self.report(node, issue);
            return None;
        }
        let template = self.template(node, "secret", CALL_TEXT)?;
        if template.secret().is_none() {
            let issue = Issue::error(Code::BadValue, "the secret of a webhook is not one reference");
            self.report(node, issue.expected(SECRET_REFERENCE));
        }
        template.secret().cloned()
    }

    fn event(&mut self, node: &Node) -> Option<EventFilter> {
        let what = "a mapping of fields that must be equal";
        let Some(filter) = node.get("filter") else {
            self.missing(node, "filter", "an `event` trigger", what);
            return None;
        };
        if !matches!(filter.data, Data::Map(_)) {
            self.wrong_type(filter, "filter", what);
            return None;
        }
        if let Some(place) = not_plain(filter) {
            let issue = Issue::error(Code::NotYet, "a filter compares for equality alone");
            self.report(place, issue.expected("one value, or a list of values of which one must be equal"));
            return None;
        }
        Some(EventFilter::new(to_value(filter)))
    }

    /// The fields of a `cron` state or a schedule trigger.
    pub(super) fn schedule(&mut self, node: &Node, name: Arc<str>) -> Option<Schedule> {
        let Some(cron_node) = node.get("cron") else {
            self.missing(node, "cron", "a schedule", "five fields: `0 9 * * *`");
            return None;
        };
        let cron = self.as_text(cron_node, "cron");
        let cron = cron.filter(|text| self.check_cron(cron_node, text));
        let timezone = match node.get("timezone") {
            Some(zone_node) => {
                let zone = self.as_text(zone_node, "timezone");
                zone.filter(|zone| self.check_timezone(zone_node, zone))
            }
            None => Some("UTC".into()),
        };
        let enabled = self.boolean(node, "enabled").unwrap_or(true);
        let missed = match node.get("missed") {
            Some(missed_node) => match &*self.as_text(missed_node, "missed")? {
                "skip" => Missed::Skip,
                "catchUp" | "catch_up" => Missed::CatchUp,
                _ => {
                    self.wrong_type(missed_node, "missed", "`skip` or `catchUp`");
                    return None;
                }
            },
            None => Missed::default(),
        };
        let input = match node.get("input") {
            Some(input) if matches!(input.data, Data::Map(_)) => to_value(input),
            Some(input) => {
                self.wrong_type(input, "input", "a mapping: the input of a run that a tick starts");
                return None;
            }
            None => Value::object(),
        };
        let (cron, timezone) = (cron?.to_string(), timezone?.to_string());
        Some(Schedule { name, cron, timezone, enabled, missed, input })
    }

    fn check_cron(&mut self, node: &Node, text: &str) -> bool {
        const FIELDS: &str = "five fields: minute, hour, day of month, month, day of week";
        let count = text.split_whitespace().count();
        let issue = if count == 5 && text.len() <= 256 {
            let parser =
                croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Disallowed).build();
            match parser.parse(text) {
                Ok(_) => return true,
                Err(error) => {
                    Issue::error(Code::BadCron, format!("`{text}` is no schedule: {error}")).expected(FIELDS)
                }
            }
        } else {
            let issue = Issue::error(Code::BadCron, format!("a schedule of {count} fields"))
                .expected(FIELDS)
                .actual(text.chars().take(80).collect::<String>());
            match text.trim() {
                "@hourly" => issue.hint("write `0 * * * *`"),
                "@daily" | "@midnight" => issue.hint("write `0 0 * * *`"),
                "@weekly" => issue.hint("write `0 0 * * 0`"),
                "@monthly" => issue.hint("write `0 0 1 * *`"),
                "@yearly" | "@annually" => issue.hint("write `0 0 1 1 *`"),
                _ if count == 6 => issue.hint("there is no field for seconds"),
                _ => issue,
            }
        };
        self.report(node, issue);
        false
    }

    fn check_timezone(&mut self, node: &Node, zone: &str) -> bool {
        if zone == "UTC" || jiff::tz::db().is_definitively_empty() || jiff::tz::TimeZone::get(zone).is_ok() {
            return true;
        }
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
        let near = fields::nearest(zone, names.iter().map(String::as_str));
        let issue = Issue::error(Code::BadCron, format!("there is no time zone `{zone}`"))
            .expected("an IANA name like `Europe/Paris`")
            .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
        self.report(node, issue);
        false
    }
}

const SECRET_REFERENCE: &str = "a reference: `${env:NAME}`, `${file:…}`, `${vault:path#field}`";

/// The first thing in a filter's lists that is no plain value: it would be an operator elsewhere (`[{prefix: x}]`).
fn not_plain(filter: &Node) -> Option<&Node> {
    match &filter.data {
        Data::Map(entries) => entries.iter().find_map(|entry| not_plain(&entry.value)),
        Data::List(items) => items.iter().find(|item| matches!(item.data, Data::Map(_) | Data::List(_))),
        _ => None,
    }
}
