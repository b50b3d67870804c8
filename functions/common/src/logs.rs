//! Logs as JSON lines on stdout, where Lambda takes them from: one flat object a line.
//!
//! Beside `timestamp`, `level`, `target` and `message`, a line has the fields of its event and those of all spans around it: of an
//! invocation its `requestId`, of a doorbell its `run` and `scope`, of an attempt its `state` and `attempt`. So each line can be
//! found by each of them, however deep in a client it was written.

use std::fmt;

use serde_json::Map;
use serde_json::Value;
use tracing::Event;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::level_filters::LevelFilter;
use tracing::span::Attributes;
use tracing::span::Id;
use tracing::span::Record;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::registry::Scope;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) fn init(level: LevelFilter) {
    let lines = Lines { out: std::io::stdout, time: true };
    if let Err(error) = tracing_subscriber::registry().with(lines.with_filter(level)).try_init() {
        tracing::warn!(%error, "logging is set up already");
    }
}

/// Writes the lines.
struct Lines<W> {
    out: W,
    time: bool,
}

/// A span's fields, kept with it.
struct Fields(Map<String, Value>);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Map::new();
        attributes.record(&mut Into(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(Fields(fields)) = span.extensions_mut().get_mut()
        {
            values.record(&mut Into(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        if self.time {
            line.insert("timestamp".to_owned(), now().into());
        }
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(Fields(fields)) = span.extensions().get() {
                line.extend(fields.clone());
            }
        }
        event.record(&mut Into(&mut line));
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // There is nowhere to say that a line could not be written.
        drop(std::io::Write::write_all(&mut self.out.make_writer(), text.as_bytes()));
    }
}

/// A log's time is the machine's, whatever the runtime's clock says.
#[allow(clippy::disallowed_methods)]
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Takes fields into an object; the same name again replaces what an outer span said.
struct Into<'a>(&'a mut Map<String, Value>);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_what_all_spans_around_it_say() {
        let kept = Kept::default();
        let out = kept.clone();
        let lines = Lines { out: move || out.clone(), time: false };
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(LevelFilter::WARN));
        tracing::subscriber::with_default(subscriber, || {
            let _invocation = tracing::error_span!("invocation", requestId = "q1").entered();
            let _doorbell = tracing::error_span!("step", run = %"r1", scope = %"/").entered();
            tracing::info!("too quiet");
            {
                let _attempt = tracing::error_span!("attempt", state = "s", attempt = 2_u32).entered();
                tracing::warn!(left = 1.5, ok = true, "deep {}", "down");
            }
            tracing::error!(scope = %"/a", "of another");
        });
        let text = String::from_utf8(kept.0.lock().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let target = module_path!();
        let wanted = [
            serde_json::json!({"level": "WARN", "target": target, "requestId": "q1", "run": "r1", "scope": "/",
                "state": "s", "attempt": 2, "left": 1.5, "ok": true, "message": "deep down"}),
            serde_json::json!({"level": "ERROR", "target": target, "requestId": "q1", "run": "r1", "scope": "/a",
                "message": "of another"}),
        ];
        assert_eq!(lines, wanted);
    }
}
