//! Doorbells in two SQS queues.
