//! Workflows and agents, all their versions, and which one is active.
//!
//! All of one definition stands in one partition. The active version is kept whole a second time, so that a start reads one
//! item; its revision is what a change is conditional on.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::KeysAndAttributes;
use aws_sdk_dynamodb::types::Put;
use aws_sdk_dynamodb::types::TransactWriteItem;
use aws_sdk_dynamodb::types::Update;
use futures::future::try_join_all;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::Registered;
use runtime::ports::StoreError;

use crate::append::unbuilt;
use crate::error::code;
use crate::error::unavailable;
use crate::item;
use crate::item::Item;
use crate::item::number;
use crate::item::number_of;
use crate::item::text;
use crate::item::text_of;
use crate::keys;
use crate::listing::Range;
use crate::listing::cursor_place;
use crate::listing::paged;
use crate::request::Again;
use crate::request::Failed;
use crate::store::Store;
use crate::store::place;
use crate::table::SK;

/// How often a registration begins anew because another one was first.
const TRIES: u32 = 10;
/// Items of one request; the service's limit.
const READ_AT_ONCE: usize = 100;

const LIST: char = 'd';

/// What stands of a definition, the bodies unread.
struct Standing {
    active: Option<Item>,
    /// In the order of their registration.
    versions: Vec<Item>,
}

impl Standing {
    fn version(&self, version: &str) -> Option<&Item> {
        self.versions.iter().find(|item| place(item, "ver") == version)
    }

    fn is_disabled(&self) -> bool {
        self.active.as_ref().is_some_and(is_disabled)
    }

    fn is_active(&self, version: &str) -> bool {
        self.active.as_ref().is_some_and(|active| place(active, "ver") == version && !is_disabled(active))
    }
}

fn is_disabled(active: &Item) -> bool {
    active.get("d") == Some(&AttributeValue::Bool(true))
}

impl Store {
    pub(super) async fn register_definition(
        &self,
        definition: &Definition,
        new_version: bool,
    ) -> Result<Registered, StoreError> {
        for _ in 0..TRIES {
            if let Some(registered) = self.try_to_register(definition, new_version).await? {
                return Ok(registered);
            }
        }
        let message = format!("{} is being registered by many at once: try again", definition.id);
        Err(unavailable(code::THROTTLED, message))
    }

    /// `None` when another was first.
    async fn try_to_register(
        &self,
        definition: &Definition,
        new_version: bool,
    ) -> Result<Option<Registered>, StoreError> {
        let standing = self.standing_definition(definition.kind, &definition.id).await?;
        let asked = definition.version.as_deref();
        // Known content keeps the version it was given, also one that was made beside the version asked for (`1.0+2`).
        let same = standing.versions.iter().rfind(|item| {
            place(item, "h") == &*definition.hash
                && asked.is_none_or(|asked| is_version(place(item, "ver"), asked))
        });
        if let Some(item) = same {
            let known = Definition { disabled: false, ..self.row(item).await? };
            let done =
                standing.is_active(place(item, "ver")) || self.activate(&standing, &known, None).await?;
            return Ok(done.then_some(Registered::Unchanged(known)));
        }
        let mut version = asked.unwrap_or("1").to_owned();
        let mut next = 2_u64;
        while let Some(taken) = standing.version(&version) {
            if asked.is_some() && !new_version {
                let taken = Definition { disabled: standing.is_disabled(), ..self.row(taken).await? };
                return Ok(Some(Registered::VersionTaken(taken)));
            }
            version = asked.map_or_else(|| next.to_string(), |asked| format!("{asked}+{next}"));
            next += 1;
        }
        let created = Definition { version: Some(version.into()), disabled: false, ..definition.clone() };
        let number = standing.versions.last().map_or(Ok(0), |last| number_of::<u64>(last, "n"))? + 1;
        let done = self.activate(&standing, &created, Some(number)).await?;
        Ok(done.then_some(Registered::Created(created)))
    }

    /// Makes a version the active one and enables it; with a number it is a new one and stored too. False when another change
    /// was first.
    async fn activate(
        &self,
        standing: &Standing,
        definition: &Definition,
        new: Option<u64>,
    ) -> Result<bool, StoreError> {
        let Definition { kind, id, hash, .. } = definition;
        let version = definition.version.as_deref().unwrap_or_default();
        let partition = || keys::definition(*kind, id);
        let body = self.json(definition, &keys::definition_folder(*kind, id)).await?;
        let whole = |sort: String| {
            let mut item = item::key(partition(), sort);
            item.extend(item::item([("v", body.clone()), ("h", text(&**hash)), ("ver", text(version))]));
            item
        };
        let put = |item: Item| Put::builder().table_name(self.table()).set_item(Some(item));
        let mut puts = Vec::new();
        if let Some(new) = new {
            let mut item = whole(keys::version(version));
            item.insert("n".to_owned(), number(new));
            puts.push(put(item).condition_expression("attribute_not_exists(sk)"));
            let mut newest = item::key(partition(), keys::hash(hash));
            newest.insert("ver".to_owned(), text(version));
            puts.push(put(newest));
        }
        let mut active = whole(keys::ACTIVE.to_owned());
        let revision = standing.active.as_ref().map(|active| number_of::<u64>(active, "rev")).transpose()?;
        active.insert("rev".to_owned(), number(revision.unwrap_or(0) + 1));
        puts.push(match revision {
            Some(revision) => put(active)
                .condition_expression("rev = :rev")
                .expression_attribute_values(":rev", number(revision)),
            None => put(active).condition_expression("attribute_not_exists(sk)"),
        });
        puts.push(put(item::key(keys::names(*kind), keys::name(id))));
        let mut request = self.client().transact_write_items();
        for put in puts {
            let put = put.build().map_err(|error| unbuilt(&error))?;
            request = request.transact_items(TransactWriteItem::builder().put(put).build());
        }
        let sent = self
            .requests()
            .send(self.named("TransactWriteItems"), Again::IfUntouched, || request.clone().send());
        done(sent.await)
    }

    pub(super) async fn active_definition(
        &self,
        kind: DefinitionKind,
        id: &str,
    ) -> Result<Option<Definition>, StoreError> {
        match self.get(keys::definition(kind, id), keys::ACTIVE, true).await? {
            Some(active) if !is_disabled(&active) => self.row(&active).await.map(Some),
            _ => Ok(None),
        }
    }

    /// A version, and whether the definition is disabled: two items in one request.
    pub(super) async fn definition_version(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: &str,
    ) -> Result<Option<Definition>, StoreError> {
        let partition = keys::definition(kind, id);
        let keys = [keys::version(version), keys::ACTIVE.to_owned()];
        let mut found = self.get_all(keys.map(|sort| item::key(partition.clone(), sort)).to_vec()).await?;
        let disabled = take(&mut found, keys::ACTIVE).is_some_and(|active| is_disabled(&active));
        match found.pop() {
            Some(item) => Ok(Some(Definition { disabled, ..self.row(&item).await? })),
            None => Ok(None),
        }
    }

    pub(super) async fn pinned_definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        let partition = keys::definition(kind, id);
        let keys = [keys::hash(hash), keys::ACTIVE.to_owned()];
        let mut found = self.get_all(keys.map(|sort| item::key(partition.clone(), sort)).to_vec()).await?;
        let active = take(&mut found, keys::ACTIVE);
        let Some(newest) = found.pop() else { return Ok(None) };
        let disabled = active.as_ref().is_some_and(is_disabled);
        let version = text_of(&newest, "ver")?;
        let item = match active.filter(|active| place(active, "ver") == version) {
            Some(active) => Some(active),
            None => self.get(partition, keys::version(version), true).await?,
        };
        match item {
            Some(item) => Ok(Some(Definition { disabled, ..self.row(&item).await? })),
            None => Ok(None),
        }
    }

    /// A cursor is the last id shown.
    pub(super) async fn list_definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        let behind = page.cursor.as_deref().map(|cursor| cursor_place(LIST, cursor)).transpose()?;
        let from = behind.clone().unwrap_or_else(|| Range::all().from);
        let query = self
            .query(None, &keys::names(kind), &Range { from, ..Range::all() })
            .filter_expression("attribute_not_exists(d)")
            .consistent_read(true);
        // One more, to know whether there are more; and the one that the page before ended with.
        let wanted = page.limit.saturating_add(1);
        let (mut names, _) = self.page(&query, wanted.saturating_add(1), None).await?;
        names.retain(|name| behind.as_deref() != Some(place(name, SK)));
        names.truncate(wanted);
        let key = |name: &Item| -> Result<Item, StoreError> {
            Ok(item::key(keys::definition(kind, text_of(name, SK)?), keys::ACTIVE))
        };
        let found = self.get_all(names.iter().map(key).collect::<Result<_, _>>()?).await?;
        let rows = try_join_all(found.iter().map(|item| self.row::<Definition>(item))).await?;
        let mut rows: Vec<_> = rows.into_iter().map(|row| (keys::name(&row.id).into_owned(), row)).collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(paged(LIST, rows, page.limit))
    }

    pub(super) async fn definition_versions(
        &self,
        kind: DefinitionKind,
        id: &str,
    ) -> Result<Vec<Definition>, StoreError> {
        let standing = self.standing_definition(kind, id).await?;
        let disabled = standing.is_disabled();
        let rows =
            try_join_all(standing.versions.iter().rev().map(|item| self.row::<Definition>(item))).await?;
        Ok(rows.into_iter().map(|row| Definition { disabled, ..row }).collect())
    }

    pub(super) async fn disable_definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        disabled: bool,
    ) -> Result<bool, StoreError> {
        let update = |key: Item, expression: &str| {
            Update::builder()
                .table_name(self.table())
                .set_key(Some(key))
                .update_expression(expression)
                .condition_expression("attribute_exists(sk)")
        };
        let active = item::key(keys::definition(kind, id), keys::ACTIVE);
        let name = item::key(keys::names(kind), keys::name(id));
        let (active, name) = if disabled {
            let yes = || AttributeValue::Bool(true);
            let active =
                update(active, "SET d = :yes ADD rev :one").expression_attribute_values(":yes", yes());
            (active, update(name, "SET d = :yes").expression_attribute_values(":yes", yes()))
        } else {
            (update(active, "REMOVE d ADD rev :one"), update(name, "REMOVE d"))
        };
        let mut request = self.client().transact_write_items();
        for update in [active.expression_attribute_values(":one", number(1)), name] {
            let update = update.build().map_err(|error| unbuilt(&error))?;
            request = request.transact_items(TransactWriteItem::builder().update(update).build());
        }
        let sent =
            self.requests().send(self.named("TransactWriteItems"), Again::Freely, || request.clone().send());
        done(sent.await)
    }

    async fn standing_definition(&self, kind: DefinitionKind, id: &str) -> Result<Standing, StoreError> {
        let query = self.query(None, &keys::definition(kind, id), &Range::all()).consistent_read(true);
        let (mut items, _) = self.page(&query, usize::MAX, None).await?;
        let active = take(&mut items, keys::ACTIVE);
        items.retain(|item| place(item, SK).starts_with("V#"));
        let mut versions = Vec::with_capacity(items.len());
        for item in items {
            versions.push((number_of::<u64>(&item, "n")?, item));
        }
        versions.sort_by_key(|(number, _)| *number);
        Ok(Standing { active, versions: versions.into_iter().map(|(_, item)| item).collect() })
    }

    /// The items with these keys that there are, in any order; consistent.
    async fn get_all(&self, keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        let mut found = Vec::new();
        for keys in keys.chunks(READ_AT_ONCE) {
            let mut rest = keys.to_vec();
            while !rest.is_empty() {
                let wanted = KeysAndAttributes::builder().set_keys(Some(rest)).consistent_read(true).build();
                let wanted =
                    HashMap::from([(self.table().to_owned(), wanted.map_err(|error| unbuilt(&error))?)]);
                let request = self.client().batch_get_item().set_request_items(Some(wanted));
                let mut answer = self
                    .requests()
                    .send(self.named("BatchGetItem"), Again::Freely, || request.clone().send())
                    .await?;
                found.extend(
                    answer
                        .responses
                        .as_mut()
                        .and_then(|found| found.remove(self.table()))
                        .unwrap_or_default(),
                );
                // What did not fit, or was too much at once.
                rest = answer
                    .unprocessed_keys
                    .and_then(|mut rest| rest.remove(self.table()))
                    .map(|rest| rest.keys)
                    .unwrap_or_default();
            }
        }
        Ok(found)
    }
}

/// Whether a transaction's conditions were met.
fn done<T, E>(sent: Result<T, Failed<E>>) -> Result<bool, StoreError> {
    match sent {
        Ok(_) => Ok(true),
        Err(failed) if failed.unmet => Ok(false),
        Err(failed) => Err(failed.into()),
    }
}

fn take(items: &mut Vec<Item>, sort: &str) -> Option<Item> {
    let at = items.iter().position(|item| place(item, SK) == sort)?;
    Some(items.swap_remove(at))
}

/// Whether `version` is what was registered as `asked`: that itself, or one made beside it.
fn is_version(version: &str, asked: &str) -> bool {
    let made = |rest: &str| rest.strip_prefix('+').is_some_and(|count| count.parse::<u64>().is_ok());
    version.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || made(rest))
}
