//! Secrets: filled in for one call, and taken out of whatever comes back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use expression::Object;
use expression::Part;
use expression::SecretRef;
use expression::SecretSlot;
use expression::SecretSource;
use expression::Value;
use runtime::ports::CallError;

use crate::error::Code;
use crate::error::validation;

/// A file with a secret holds no more than this.
const FILE_LIMIT: u64 = 64 << 10;
/// What is shorter is no secret, and taking it out would make texts unreadable.
const SHORTEST: usize = 4;
/// What stands where a secret was.
const MASK: &str = "[secret]";

/// Where secrets are looked up. Cheap to clone.
#[derive(Clone)]
pub struct Secrets(Arc<Places>);

struct Places {
    /// The engine's own environment.
    environment: BTreeMap<OsString, OsString>,
    /// Where relative paths begin.
    directory: PathBuf,
}

#[async_trait]
impl runtime::ports::Secrets for Secrets {
    async fn secret(&self, reference: &SecretRef) -> Result<String, String> {
        self.resolve(reference).await.map_err(|error| error.error.message.to_string())
    }
}

impl Secrets {
    /// Those of this process's environment; the relative paths of `${file:…}` begin in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self::of(std::env::vars_os().collect(), directory)
    }

    pub(crate) fn of(environment: BTreeMap<OsString, OsString>, directory: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Places { environment, directory: directory.into() }))
    }

    pub(crate) fn environment(&self) -> &BTreeMap<OsString, OsString> {
        &self.0.environment
    }

    /// The request with its secrets in place.
    pub(crate) async fn fill(
        &self,
        request: &Value,
        slots: &[SecretSlot],
        redactor: &mut Redactor,
    ) -> Result<Value, CallError> {
        let mut request = request.clone();
        for slot in slots {
            let text = self.text(&slot.parts, redactor).await?;
            let place = place(&mut request, &slot.pointer).ok_or_else(|| {
                validation(
                    Code::SecretMissing,
                    format!("the request has no place {} for a secret", slot.pointer),
                )
            })?;
            *place = Value::from(text);
        }
        Ok(request)
    }

    /// A text put together from its parts.
    pub(crate) async fn text(&self, parts: &[Part], redactor: &mut Redactor) -> Result<String, CallError> {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Secret(reference) => {
                    let secret = self.resolve(reference).await?;
                    redactor.add(&secret);
                    text.push_str(&secret);
                }
            }
        }
        Ok(text)
    }

    pub(crate) async fn resolve(&self, reference: &SecretRef) -> Result<String, CallError> {
        let missing = |why: String| validation(Code::SecretMissing, format!("the secret {reference} {why}"));
        match reference.source {
            SecretSource::Env => {
                let value = self.0.environment.get(std::ffi::OsStr::new(&reference.name));
                let value = value.ok_or_else(|| missing("is not in the engine's environment".to_owned()))?;
                value.to_str().map(str::to_owned).ok_or_else(|| missing("is not UTF-8 text".to_owned()))
            }
            SecretSource::File => {
                let path = self.0.directory.join(&reference.name);
                let read = tokio::task::spawn_blocking(move || read_secret(&path)).await;
                read.map_err(|error| missing(error.to_string()))?.map_err(missing)
            }
            SecretSource::Vault | SecretSource::AwsSm => Err(validation(
                Code::SecretSourceNotAvailable,
                format!(
                    "the secret {reference} cannot be read yet: this version knows ${{env:…}} and ${{file:…}}"
                ),
            )),
        }
    }
}

/// A file's text without the line ends behind it.
fn read_secret(path: &std::path::Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // A pipe or a device could block for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(format!("is larger than {FILE_LIMIT} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// The value at a JSON pointer (RFC 6901).
fn place<'v>(root: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    let mut at = root;
    for step in pointer.split('/').skip(1) {
        let key = step.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::Object(_) => at.object_mut()?.get_mut(&key)?,
            Value::Array(_) => at.array_mut()?.get_mut(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(at)
}

/// Knows the secrets of one call and takes them out of texts and values.
#[derive(Default)]
pub(crate) struct Redactor {
    /// Each way a secret may be written; the longest first, so that no part of one is left over.
    needles: Vec<String>,
}

impl Redactor {
    pub(crate) fn add(&mut self, secret: &str) {
        let lines: Vec<_> = secret.lines().map(str::trim).collect();
        for text in std::iter::once(secret).chain(lines.into_iter().filter(|line| line.len() >= 2 * SHORTEST))
        {
            if text.len() < SHORTEST {
                continue;
            }
            let json = Value::from(text).to_string();
            let json = json.get(1..json.len() - 1).unwrap_or_default().to_owned();
            self.needles.extend([text.to_owned(), json, percent_encoded(text)]);
        }
        self.needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        self.needles.dedup();
    }

    fn finds(&self, text: &str) -> bool {
        self.needles.iter().any(|needle| text.contains(needle))
    }

    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.finds(text) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(self.needles.iter().fold(text.to_owned(), |text, needle| text.replace(needle, MASK)))
    }

    /// The value without secrets; unchanged (and not even looked at) where there are none.
    pub(crate) fn value(&self, value: Value) -> Value {
        if self.needles.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => match self.text(&text) {
                Cow::Borrowed(_) => Value::String(text.clone()),
                Cow::Owned(text) => Value::from(text),
            },
            Value::Array(items) => items.iter().map(|item| self.value(item.clone())).collect(),
            Value::Object(object) => {
                let entries = object.iter();
                let clean =
                    entries.map(|(key, value)| (self.text(key).into_owned(), self.value(value.clone())));
                Value::from(clean.collect::<Object>())
            }
            plain => plain,
        }
    }

    pub(crate) fn error(&self, mut error: CallError) -> CallError {
        if self.finds(&error.error.message) {
            error.error.message = self.text(&error.error.message).into();
        }
        if self.finds(&error.error.kind) {
            error.error.kind = self.text(&error.error.kind).into();
        }
        error
    }
}

/// As in a URL: everything but letters, digits and `-._~` as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
