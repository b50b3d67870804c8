//! Secrets, for whoever needs one outside an action.

use async_trait::async_trait;
use expression::SecretRef;

/// Knows secrets by their references.
#[async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// The secret's text, or why it cannot be had: for the log, never for whoever asked.
    async fn secret(&self, reference: &SecretRef) -> Result<String, String>;
}
