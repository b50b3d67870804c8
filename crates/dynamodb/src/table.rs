//! How the table must be made: its keys and indexes, as data that a template can be compared with, and as a function that
//! makes one.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::DisplayErrorContext;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::AttributeDefinition;
use aws_sdk_dynamodb::types::BillingMode;
use aws_sdk_dynamodb::types::GlobalSecondaryIndex;
use aws_sdk_dynamodb::types::KeySchemaElement;
use aws_sdk_dynamodb::types::KeyType;
use aws_sdk_dynamodb::types::Projection;
use aws_sdk_dynamodb::types::ProjectionType;
use aws_sdk_dynamodb::types::ScalarAttributeType;
use aws_sdk_dynamodb::types::TableStatus;
use runtime::ports::StoreError;

use crate::error::code;
use crate::error::permanent;
use crate::error::unavailable;

/// A table, as far as this crate needs it to be so. All key attributes are strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The attributes of the partition key and of the sort key.
    pub key: (&'static str, &'static str),
    /// Its global secondary indexes.
    pub indexes: &'static [Index],
    /// The attribute by which leases that nobody renews go away (seconds since 1970). Nothing breaks where it is not used.
    pub time_to_live: &'static str,
}

/// One global secondary index. It projects its keys and the attributes `includes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: &'static str,
    /// The attributes of its partition key and of its sort key.
    pub key: (&'static str, &'static str),
    /// What it carries beside the keys.
    pub includes: &'static [&'static str],
}

/// The table of this crate.
pub const DEFINITION: Definition = Definition {
    key: (PK, SK),
    indexes: &[
        Index { name: LISTED.0, key: (LISTED.1, LISTED.2), includes: &["v", "rev", "r", "p", "n", "k", "t"] },
        Index { name: BY_WORKFLOW.0, key: (BY_WORKFLOW.1, BY_WORKFLOW.2), includes: &["v", "rev"] },
        Index { name: BY_STATUS.0, key: (BY_STATUS.1, BY_STATUS.2), includes: &["v", "rev"] },
    ],
    time_to_live: TIME_TO_LIVE,
};

pub(crate) const PK: &str = "pk";
pub(crate) const SK: &str = "sk";
/// Due entries, pending approvals, all runs, and the scopes of each run.
pub(crate) const LISTED: IndexKey = IndexKey("listed", "x1", "y1");
/// Runs by workflow and status; all approvals.
pub(crate) const BY_WORKFLOW: IndexKey = IndexKey("by-workflow", "x2", "y2");
/// Runs by status.
pub(crate) const BY_STATUS: IndexKey = IndexKey("by-status", "x3", "y3");
pub(crate) const TIME_TO_LIVE: &str = "ttl";

/// An index: its name, and the attributes of its partition key and its sort key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexKey(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

/// How long [`create`] waits for a table to become active.
const PATIENCE: Duration = Duration::from_mins(1);

/// Makes the table and waits until it can be used: for tests, and for those who do without the template. Time to live,
/// backups and encryption are not its business. A table that is there is left as it is.
pub async fn create(client: &Client, name: &str) -> Result<(), StoreError> {
    let refused = |error: String| {
        permanent(
            code::REFUSED,
            format!("the table {name} cannot be made: check its name and the permissions ({error})"),
        )
    };
    let Definition { key, indexes, .. } = DEFINITION;
    let mut request = client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    request = request.set_key_schema(Some(schema(key).map_err(|error| refused(error.to_string()))?));
    for attribute in
        [key].into_iter().chain(indexes.iter().map(|index| index.key)).flat_map(<[&str; 2]>::from)
    {
        let definition = AttributeDefinition::builder()
            .attribute_name(attribute)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        request = request.attribute_definitions(definition);
    }
    for index in indexes {
        let projection = Projection::builder()
            .projection_type(ProjectionType::Include)
            .set_non_key_attributes(Some(index.includes.iter().map(ToString::to_string).collect()));
        let index = GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .set_key_schema(Some(schema(index.key).map_err(|error| refused(error.to_string()))?))
            .projection(projection.build())
            .build()
            .map_err(|error| refused(error.to_string()))?;
        request = request.global_secondary_indexes(index);
    }
    match request.send().await {
        Err(error)
            if !matches!(error.as_service_error(), Some(CreateTableError::ResourceInUseException(_))) =>
        {
            Err(refused(DisplayErrorContext(error).to_string()))
        }
        _ => active(client, name).await,
    }
}

async fn active(client: &Client, name: &str) -> Result<(), StoreError> {
    let begun = tokio::time::Instant::now();
    loop {
        let described = client.describe_table().table_name(name).send().await;
        let status = described.as_ref().ok().and_then(|described| described.table()?.table_status()).cloned();
        if status == Some(TableStatus::Active) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let what = described
                .err()
                .map_or_else(|| format!("{status:?}"), |error| DisplayErrorContext(error).to_string());
            return Err(unavailable(
                code::UNREACHABLE,
                format!("the table {name} is not active yet ({what})"),
            ));
        }
        // A network's pace, not the runtime's time.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn schema(
    (partition, sort): (&str, &str),
) -> Result<Vec<KeySchemaElement>, aws_sdk_dynamodb::error::BuildError> {
    [(partition, KeyType::Hash), (sort, KeyType::Range)]
        .into_iter()
        .map(|(name, kind)| KeySchemaElement::builder().attribute_name(name).key_type(kind).build())
        .collect()
}
