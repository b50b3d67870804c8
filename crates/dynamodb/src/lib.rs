//! The journal and the catalog in one DynamoDB table.
