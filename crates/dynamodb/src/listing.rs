//! Lists: a query page by page, several of them merged, and the cursors that continue them.

use std::collections::VecDeque;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use futures::future::try_join_all;
use runtime::ports::Page;
use runtime::ports::StoreError;

use crate::error::no_such_cursor;
use crate::item::Item;
use crate::item::text;
use crate::request::Again;
use crate::store::Store;
use crate::store::place;
use crate::table::IndexKey;

/// Items asked for at once. More of the usual size do not fit in an answer.
const AT_ONCE: usize = 1000;
/// Items asked for at once of each of several partitions, at least.
const AT_LEAST: usize = 8;

/// A part of a sorted partition.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    /// The first sort key.
    pub(crate) from: String,
    /// The last.
    pub(crate) to: String,
    /// The last first.
    pub(crate) backwards: bool,
}

impl Range {
    /// Everything.
    pub(crate) fn all() -> Self {
        Self { from: "\u{1}".to_owned(), to: "\u{10ffff}".to_owned(), backwards: false }
    }
}

impl Store {
    /// A query of the table itself or of an index, for a range.
    pub(crate) fn query(
        &self,
        index: Option<IndexKey>,
        partition: &str,
        range: &Range,
    ) -> QueryFluentBuilder {
        let (partition_name, sort_name) = index
            .map_or((crate::table::PK, crate::table::SK), |IndexKey(_, partition, sort)| (partition, sort));
        self.client()
            .query()
            .table_name(self.table())
            .set_index_name(index.map(|IndexKey(name, ..)| name.to_owned()))
            .key_condition_expression(format!(
                "{partition_name} = :partition AND {sort_name} BETWEEN :from AND :to"
            ))
            .expression_attribute_values(":partition", text(partition))
            .expression_attribute_values(":from", text(&range.from))
            .expression_attribute_values(":to", text(&range.to))
            .scan_index_forward(!range.backwards)
    }

    /// Up to `limit` items, page by page, and where the next one begins. One request per mebibyte.
    pub(crate) async fn page(
        &self,
        query: &QueryFluentBuilder,
        limit: usize,
        from: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let (mut items, mut next) = (Vec::new(), from);
        while items.len() < limit {
            let wanted = i32::try_from((limit - items.len()).min(AT_ONCE)).unwrap_or(i32::MAX);
            let request = query.clone().limit(wanted).set_exclusive_start_key(next.take());
            let answer =
                self.requests().send(self.named("Query"), Again::Freely, || request.clone().send()).await?;
            items.extend(answer.items.unwrap_or_default());
            next = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok((items, next))
    }

    /// Up to `limit` items of several partitions of an index, in the order of their sort keys. What stands at `behind`, where
    /// the page before ended, is left out; of two with one sort key, which a change may leave for a moment, the newer stays.
    pub(crate) async fn merge(
        &self,
        index: IndexKey,
        partitions: Vec<String>,
        range: &Range,
        behind: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let share = limit.checked_div(partitions.len()).unwrap_or(0).saturating_mul(2);
        let share = share.max(AT_LEAST).min(limit.saturating_add(1)).min(AT_ONCE);
        let mut lanes: Vec<Lane> = partitions
            .iter()
            .map(|partition| Lane::new(self.query(Some(index), partition, range), share))
            .collect();
        let mut merged: Vec<Item> = Vec::new();
        while merged.len() < limit {
            try_join_all(lanes.iter_mut().map(|lane| lane.fill(self))).await?;
            let first = lanes.iter().filter_map(|lane| Some(place(lane.items.front()?, index.2)));
            let first = if range.backwards { first.max() } else { first.min() };
            let Some(first) = first.map(ToOwned::to_owned) else { break };
            let here = lanes.iter_mut().filter_map(|lane| lane.take(&first, index));
            let newest = here.max_by_key(revision);
            if behind != Some(&*first) {
                merged.extend(newest);
            }
        }
        Ok(merged)
    }
}

/// One partition of several that are merged.
struct Lane {
    query: QueryFluentBuilder,
    share: usize,
    items: VecDeque<Item>,
    /// Where its next page begins.
    next: Option<Item>,
    begun: bool,
}

impl Lane {
    fn new(query: QueryFluentBuilder, share: usize) -> Self {
        Self { query, share, items: VecDeque::new(), next: None, begun: false }
    }

    /// Reads on, if nothing is left of what was read.
    async fn fill(&mut self, store: &Store) -> Result<(), StoreError> {
        if !self.items.is_empty() || (self.begun && self.next.is_none()) {
            return Ok(());
        }
        let (items, next) = store.page(&self.query, self.share, self.next.take()).await?;
        (self.items, self.next, self.begun) = (items.into(), next, true);
        Ok(())
    }

    fn take(&mut self, at: &str, index: IndexKey) -> Option<Item> {
        if place(self.items.front()?, index.2) == at { self.items.pop_front() } else { None }
    }
}

fn revision(item: &Item) -> u64 {
    item.get("rev").and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or(0)
}

/// A page of rows, of which one more than `limit` were looked for. `place` is where a row stands in the list.
pub(crate) fn paged<T>(list: char, mut rows: Vec<(String, T)>, limit: usize) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(place, _)| cursor(list, place));
    Page { items: rows.into_iter().map(|(_, row)| row).collect(), next }
}

/// A place in the list `list`, opaque to whoever holds it.
fn cursor(list: char, place: &str) -> String {
    let mut text = String::with_capacity(1 + 2 * place.len());
    text.push(list);
    for byte in place.bytes() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

/// The place that a cursor of the list `list` names.
pub(crate) fn cursor_place(list: char, cursor: &str) -> Result<String, StoreError> {
    let bytes = cursor.strip_prefix(list).and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        };
        pairs.map(byte).collect::<Option<Vec<u8>>>()
    });
    let place = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    place.filter(|place| !place.is_empty()).ok_or_else(|| no_such_cursor(cursor))
}
