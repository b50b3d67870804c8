//! Attributes of items: made and read.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use runtime::ports::StoreError;

use crate::error::damaged;
use crate::table::PK;
use crate::table::SK;

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn number(number: impl Display) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// Nanoseconds since 1970.
pub(crate) fn time(at: Timestamp) -> AttributeValue {
    number(at.as_nanosecond())
}

pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// The key of an item.
pub(crate) fn key(partition: String, sort: impl Into<String>) -> Item {
    item([(PK, text(partition)), (SK, text(sort))])
}

pub(crate) fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(crate) fn value<'a>(item: &'a Item, name: &str) -> Result<&'a AttributeValue, StoreError> {
    item.get(name).ok_or_else(|| unreadable(item, name))
}

pub(crate) fn text_of<'a>(item: &'a Item, name: &str) -> Result<&'a str, StoreError> {
    value(item, name)?.as_s().map(String::as_str).map_err(|_| unreadable(item, name))
}

pub(crate) fn bytes_of<'a>(item: &'a Item, name: &str) -> Result<&'a [u8], StoreError> {
    value(item, name)?.as_b().map(AsRef::as_ref).map_err(|_| unreadable(item, name))
}

pub(crate) fn number_of<T: FromStr>(item: &Item, name: &str) -> Result<T, StoreError> {
    let digits = value(item, name)?.as_n().map_err(|_| unreadable(item, name))?;
    digits.parse().map_err(|_| unreadable(item, name))
}

pub(crate) fn time_of(item: &Item, name: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_nanosecond(number_of(item, name)?).map_err(|_| unreadable(item, name))
}

fn unreadable(item: &Item, name: &str) -> StoreError {
    let part = |name| item.get(name).and_then(|value| value.as_s().ok()).map_or("?", String::as_str);
    damaged(format!("the attribute `{name}` of the item ({}, {}) cannot be read", part(PK), part(SK)))
}
