//! Following a run: its events as they come, in words.

use std::collections::HashSet;
use std::time::Duration;

use engine::Event;
use engine::ScopePath;
use expression::Value;
use testing::Line;
use testing::Narrator;
use testing::Tone;

use crate::client::Client;
use crate::output::Failure;
use crate::output::Paint;
use crate::output::plain;
use crate::runs::items;
use crate::runs::text;

/// Events read at once.
const PAGE: usize = 500;
/// Between two looks, at first and at last.
const QUICK: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_millis(500);

/// Reads a run's timeline from where it stopped last.
pub(crate) struct Follower {
    run: String,
    cursor: Option<String>,
    /// What was told already: (scope, record, event).
    told: HashSet<(String, i64, i64)>,
    narrator: Narrator,
    ended: Option<String>,
    pause: Duration,
}

/// One event of a timeline.
pub(crate) struct Told {
    /// As the API gives it.
    pub(crate) document: Value,
    pub(crate) scope: ScopePath,
    pub(crate) event: Option<Event>,
    line: Line,
}

impl Follower {
    pub(crate) fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            cursor: None,
            told: HashSet::new(),
            narrator: Narrator::default(),
            ended: None,
            pause: QUICK,
        }
    }

    /// How the run ended, if it has: its status.
    pub(crate) fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    /// What happened since the last look.
    pub(crate) async fn next(&mut self, client: &Client) -> Result<Vec<Told>, Failure> {
        let mut news = Vec::new();
        loop {
            let cursor = self
                .cursor
                .as_ref()
                .map_or_else(String::new, |cursor| format!("&cursor={}", Client::segment(cursor)));
            let path = format!("/workflow-runs/{}/events?limit={PAGE}{cursor}", Client::segment(&self.run));
            let page = client.get(&path).await?;
            for document in items(&page) {
                let place = |key: &str| document.get(key).and_then(Value::as_i64).unwrap_or_default();
                if self.told.insert((text(document, "scope").to_owned(), place("seq"), place("index"))) {
                    news.push(self.tell(document.clone()));
                }
            }
            // A page that is not full is read again: a record of another scope may still come before its last one.
            let Some(next) = page.get("next").and_then(Value::as_str) else { break };
            if items(&page).len() < PAGE {
                break;
            }
            self.cursor = Some(next.to_owned());
        }
        self.pause = if news.is_empty() { (self.pause * 2).min(SLOW) } else { QUICK };
        Ok(news)
    }

    fn tell(&mut self, document: Value) -> Told {
        let scope = ScopePath::from_stored(text(&document, "scope"));
        let told = document.get("event").cloned().unwrap_or_default();
        let event: Option<Event> = serde_json::from_value(serde_json::Value::from(&told)).ok();
        let line = match &event {
            Some(event) => self.narrator.line(&scope, event),
            // Of a newer server.
            None => Line { state: "".into(), text: text(&told, "type").to_owned(), tone: Tone::Detail },
        };
        match &event {
            Some(Event::Ended { outcome }) if scope.is_root() => {
                self.ended = Some(
                    match outcome {
                        engine::Outcome::Completed { .. } => "COMPLETED",
                        engine::Outcome::Failed { .. } => "FAILED",
                        engine::Outcome::Cancelled { .. } => "CANCELLED",
                        engine::Outcome::TimedOut { .. } => "TIMED_OUT",
                    }
                    .to_owned(),
                );
            }
            Some(Event::Redriven { .. }) if scope.is_root() => self.ended = None,
            _ => {}
        }
        Told { document, scope, event, line }
    }

    /// Waits a moment before the next look; longer where nothing happens.
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(self.pause).await;
    }
}

impl Told {
    /// Of interest only to those who look closely.
    pub(crate) fn is_detail(&self) -> bool {
        self.line.tone == Tone::Detail
    }

    /// `10:00:01  check_pods  succeeded {…}`, with the scope in front where it is not the root.
    pub(crate) fn text(&self, paint: Paint) -> String {
        let at = text(&self.document, "at");
        let clock: String =
            at.split('T').nth(1).unwrap_or(at).chars().take(12).filter(|c| *c != 'Z').collect();
        let place = match (self.scope.is_root(), self.line.state.rsplit('/').next().unwrap_or_default()) {
            (true, state) => state.to_owned(),
            (false, "") => self.scope.as_str().to_owned(),
            (false, state) => format!("{} {state}", self.scope),
        };
        let said = plain(&self.line.text);
        let said = match self.line.tone {
            Tone::Plain => said,
            Tone::Detail => paint.dim(&said),
            Tone::Good => paint.green(&said),
            Tone::Bad => paint.red(&said),
            Tone::Attention => paint.yellow(&said),
        };
        format!(
            "{}  {}  {said}",
            paint.dim(&format!("{clock:<12}")),
            paint.bold(&format!("{:<24}", plain(&place)))
        )
    }
}
