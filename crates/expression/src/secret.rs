//! Secrets, named but never known here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a secret is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// `${env:NAME}`: an environment variable.
    Env,
    /// `${file:PATH}`: a file.
    File,
    /// `${vault:PATH#FIELD}`: a vault.
    Vault,
    /// `${aws-sm:NAME#FIELD}`: AWS Secrets Manager.
    AwsSm,
}

/// A secret by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretRef {
    /// Where it is kept.
    pub source: SecretSource,
    /// Its name or path there.
    pub name: String,
    /// The field of it, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// As written in a file: `${vault:path#field}`.
impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            SecretSource::Env => "env",
            SecretSource::File => "file",
            SecretSource::Vault => "vault",
            SecretSource::AwsSm => "aws-sm",
        };
        write!(f, "${{{source}:{}", self.name)?;
        self.field.iter().try_for_each(|field| write!(f, "#{field}"))?;
        f.write_str("}")
    }
}

/// A piece of a text with secrets in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text as it is, also where it came from data and looks like a secret.
    Text(String),
    /// To be filled in where the action is called.
    Secret(SecretRef),
}

/// A string of a rendered tree that an action fills with secrets when it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSlot {
    /// Where the string stands: a JSON pointer (RFC 6901) into the rendered value.
    pub pointer: String,
    /// The text in pieces.
    pub parts: Vec<Part>,
}
