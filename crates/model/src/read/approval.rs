//! Questions to people.

use super::Reader;
use super::state::Reading;
use super::text::PLAIN;
use crate::Approval;
use crate::Code;
use crate::Issue;
use crate::Millis;
use crate::OnReject;
use crate::OnTimeout;
use crate::fields;
use crate::yaml::Data;
use crate::yaml::Node;

/// How long an approval waits unless its file says otherwise.
pub(crate) const DEFAULT_APPROVAL_DEADLINE: Millis = Millis(3_600_000);

impl Reader<'_> {
    pub(super) fn approval(&mut self, reading: &Reading<'_>, own: &Node) -> Option<Approval> {
        let before = self.errors();
        let message = self.required(own, "message", "an approval", "what is asked");
        let message = message.and_then(|message| self.template(message, "message", PLAIN));
        let title = own.get("title").and_then(|title| self.template(title, "title", PLAIN));
        let summary_path = self.path_read(own, "summaryPath");
        let (approvers, people) = self.approvers(own);
        let quorum = self.integer(own, "quorum", 1, 1_000, Code::BadQuorum).unwrap_or(1);
        if let (Some(people), Some(place)) = (people, own.get("quorum"))
            && usize::try_from(quorum).is_ok_and(|quorum| quorum > people)
        {
            let issue =
                Issue::error(Code::BadQuorum, format!("`quorum` is {quorum}, and only {people} may approve"))
                    .hint("name more approvers, or lower the quorum");
            self.report(place, issue);
        }
        let separation_of_duties = self.boolean(own, "separationOfDuties").unwrap_or(false);
        let deadline = self.timeout(own).unwrap_or(DEFAULT_APPROVAL_DEADLINE);
        let on_reject = self.outcome(
            reading,
            own,
            "onReject",
            &[("fail", OnReject::Fail), ("cancel", OnReject::Cancel)],
            OnReject::Goto,
        );
        let on_timeout = self.outcome(
            reading,
            own,
            "onTimeout",
            &[("fail", OnTimeout::Fail), ("approve", OnTimeout::Approve), ("reject", OnTimeout::Reject)],
            OnTimeout::Goto,
        );
        let form_schema = self.schema(own, "formSchema");
        (self.errors() == before).then_some(Approval {
            message: message?,
            title,
            summary_path,
            approvers,
            quorum: u32::try_from(quorum).unwrap_or(1),
            separation_of_duties,
            deadline,
            on_reject: on_reject.unwrap_or(OnReject::Fail),
            on_timeout: on_timeout.unwrap_or(OnTimeout::Fail),
            form_schema,
        })
    }

    /// The approvers, and how many people they are if that is known.
    fn approvers(&mut self, own: &Node) -> (Vec<expression::Template>, Option<usize>) {
        let Some(node) = own.get("approvers") else { return (Vec::new(), None) };
        let Data::List(items) = &node.data else {
            self.wrong_type(
                node,
                "approvers",
                "a list of texts: `[\"user:alice@example.com\", \"team:platform\"]`",
            );
            return (Vec::new(), None);
        };
        if items.is_empty() {
            self.bad_value(
                node,
                "nobody may decide".to_owned(),
                "name somebody, or leave `approvers` out: anyone may",
            );
        }
        let mut people = Some(std::collections::BTreeSet::new());
        let mut templates = Vec::new();
        for item in items {
            let Some(text) = self.as_text(item, "approvers") else { continue };
            let is_template = text.contains("{{") || text.contains("${");
            let is_person = text.strip_prefix("user:").is_some_and(|name| !name.is_empty());
            let is_team = text.strip_prefix("team:").is_some_and(|name| !name.is_empty());
            if !is_template && !is_person && !is_team {
                self.bad_value(item, format!("`{text}` is nobody"), "write `user:NAME` or `team:NAME`");
            }
            match &mut people {
                Some(set) if is_person && !is_template => {
                    set.insert(text.to_string());
                }
                _ => people = None,
            }
            templates.extend(self.template(item, "approvers", PLAIN));
        }
        (templates, people.map(|set| set.len()))
    }

    /// One of the words, or a state. The words win; a state so named makes it unclear.
    fn outcome<T: Copy>(
        &mut self,
        reading: &Reading<'_>,
        own: &Node,
        key: &str,
        words: &[(&str, T)],
        goto: impl Fn(crate::StateId) -> T,
    ) -> Option<T> {
        let node = own.get(key)?;
        let text = self.as_text(node, key)?;
        if let Some((word, value)) = words.iter().find(|(word, _)| *word == &*text) {
            if reading.around.names.contains_key(*word) {
                let issue = Issue::error(
                    Code::ReservedName,
                    format!("`{key}: {word}` could mean the state `{word}`"),
                )
                .hint("here it is a word of its own: give the state another name");
                self.report(node, issue);
                return None;
            }
            return Some(*value);
        }
        if !reading.around.names.contains_key(&text)
            && let Some(near) = fields::nearest(&text, words.iter().map(|(word, _)| *word))
        {
            let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            let issue = Issue::error(Code::UnknownTarget, format!("`{key}`: there is no state `{text}`"))
                .expected(format!("{list}, or a state of the same list"))
                .hint(format!("did you mean `{near}`?"));
            self.report(node, issue);
            return None;
        }
        self.target(node, key, reading.around.names, reading.around.prefix).map(goto)
    }
}
