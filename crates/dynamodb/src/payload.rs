//! How a body becomes an attribute: as it is, deflated, or as the name of an object in a store of its own (ADR 4).
//!
//! - A short one is text, as it is: below one write unit there is nothing to save.
//! - A longer one is deflated, where that saves a unit.
//! - What is still long goes to [`Blobs`], deflated, before the item that names it is written. The loser of a race leaves an
//!   object that nobody names; it goes with its run.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use parking_lot::Mutex;
use runtime::ports::StoreError;

use crate::error::code;
use crate::error::damaged;
use crate::error::permanent;
use crate::item;

/// Bytes that cost one write.
const UNIT: usize = 1 << 10;
/// Bytes that stand in an item. Far below an item's limit of 400 KiB: seven of them make one transaction, and a page of a
/// query (1 MiB) has sixteen at least.
const INLINE: usize = 64 << 10;

/// Where bodies stand that no item holds.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Keeps the bytes under the key, which nobody uses for others. Durable when it answers.
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), StoreError>;

    /// The bytes under the key.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Deletes some of what stands under keys with this beginning. False when nothing is left.
    async fn delete(&self, prefix: &str) -> Result<bool, StoreError>;
}

/// Makes attributes of bodies and bodies of attributes.
#[derive(Clone)]
pub(crate) struct Payloads(pub(crate) Arc<dyn Blobs>);

impl Payloads {
    /// The attribute for a body. An object, should it need one, stands under `folder` and is named after its content: written
    /// twice, it is the same.
    pub(crate) async fn write(&self, body: &[u8], folder: &str) -> Result<AttributeValue, StoreError> {
        let text = std::str::from_utf8(body).ok();
        if let Some(text) = text.filter(|text| text.len() <= UNIT) {
            return Ok(item::text(text));
        }
        let deflated = deflate(body)?;
        let plain = text.filter(|text| text.len() <= INLINE && units(text.len()) <= units(deflated.len()));
        if let Some(text) = plain {
            return Ok(item::text(text));
        }
        if deflated.len() <= INLINE {
            return Ok(item::bytes(deflated));
        }
        let name = format!("{folder}{}", engine::hash(body));
        self.0.put(&name, deflated).await?;
        Ok(AttributeValue::L(vec![item::text(name), item::number(body.len())]))
    }

    /// The body of an attribute.
    pub(crate) async fn read(&self, value: &AttributeValue) -> Result<Vec<u8>, StoreError> {
        match value {
            AttributeValue::S(text) => Ok(text.clone().into_bytes()),
            AttributeValue::B(deflated) => inflate(deflated.as_ref(), INLINE * RATIO),
            AttributeValue::L(parts) => {
                let [AttributeValue::S(name), AttributeValue::N(length)] = &parts[..] else {
                    return Err(damaged("the name of a large value cannot be read"));
                };
                let length: usize = length.parse().map_err(|_| damaged(format!("{name} has no length")))?;
                let Some(deflated) = self.0.get(name).await? else {
                    return Err(permanent(
                        code::BLOB_MISSING,
                        format!("the bucket has no {name}, which an item names: restore it from a backup"),
                    ));
                };
                match inflate(&deflated, length) {
                    // It is named after its content.
                    Ok(body) if body.len() == length && name.ends_with(&*engine::hash(&body)) => Ok(body),
                    _ => Err(damaged(format!("the object {name} of the bucket is not what was written"))),
                }
            }
            _ => Err(damaged("a body is neither text, bytes nor the name of a large value")),
        }
    }
}

/// Deflate makes nothing smaller than by this factor.
const RATIO: usize = 1032;

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

fn deflate(body: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut encoder = DeflateEncoder::new(Vec::with_capacity(body.len() / 4), Compression::default());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .map_err(|error| permanent(code::REFUSED, format!("a body cannot be deflated ({error})")))
}

/// Never more than `most` bytes, whatever the input says.
fn inflate(deflated: &[u8], most: usize) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    DeflateDecoder::new(deflated)
        .take(most)
        .read_to_end(&mut body)
        .map_err(|error| damaged(format!("a deflated body cannot be read ({error})")))?;
    Ok(body)
}

/// Bodies in memory, for tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl MemoryBlobs {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.0.lock().insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.lock().get(key).cloned())
    }

    async fn delete(&self, prefix: &str) -> Result<bool, StoreError> {
        self.0.lock().retain(|key, _| !key.starts_with(prefix));
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_of_any_size_comes_back_and_the_smallest_form_is_taken() {
        let blobs = MemoryBlobs::default();
        let payloads = Payloads(Arc::new(blobs.clone()));
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(100_000).collect();
        let bodies = [
            (Vec::new(), "S"),
            (b"{\"\\u0000\": \"\0\"}".to_vec(), "S"),
            (vec![0xff], "B"),
            ("x".repeat(1024).into_bytes(), "S"),
            ("x".repeat(5 << 20).into_bytes(), "B"),
            (noise, "L"),
        ];
        for (number, (body, form)) in bodies.into_iter().enumerate() {
            let value = payloads.write(&body, &format!("{number}/")).await.unwrap();
            let is = match &value {
                AttributeValue::S(_) => "S",
                AttributeValue::B(_) => "B",
                _ => "L",
            };
            assert_eq!(is, form, "{} bytes", body.len());
            assert!(payloads.read(&value).await.unwrap() == body, "{} bytes", body.len());
        }
        assert_eq!(blobs.len(), 1);
        let lost = AttributeValue::L(vec![item::text("elsewhere"), item::number(3)]);
        assert_eq!(payloads.read(&lost).await.unwrap_err().code, code::BLOB_MISSING);
        let bomb = inflate(&deflate(&vec![0; 1 << 20]).unwrap(), 1000).unwrap();
        assert_eq!(bomb.len(), 1000, "no more than was said");
    }
}
