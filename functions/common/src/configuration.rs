//! The environment variables of a function.

use std::time::Duration;

use tracing::level_filters::LevelFilter;

/// What the template sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// `AWS_REGION`.
    pub region: String,
    /// `AWS_USE_FIPS_ENDPOINT`: whether endpoints with validated cryptography are asked for.
    pub fips: bool,
    /// Where AWS is, if it is not AWS.
    pub endpoints: Endpoints,
    /// `STEPWELL_TABLE`: the DynamoDB table.
    pub table: String,
    /// `STEPWELL_BUCKET`: the S3 bucket for what is too large for the table.
    pub bucket: String,
    /// `STEPWELL_STEPS_QUEUE_URL`.
    pub steps: String,
    /// `STEPWELL_RESUME_QUEUE_URL`.
    pub resume: String,
    /// `STEPWELL_BUS`: the event bus that is told what happens to runs; nobody is, if it is not set.
    pub bus: Option<String>,
    /// `STEPWELL_RETENTION_DAYS`: how long a run is kept after its end; for ever, if it is not set.
    pub retention: Option<Duration>,
    /// `STEPWELL_LOG`: what is logged; `info` unless said.
    pub log: LevelFilter,
    /// How long one attempt may take: what an invocation of `step` has, less what is kept for storing and ringing.
    pub longest_step: Duration,
}

/// The endpoints of the services, from the variables that clients of AWS read: `AWS_ENDPOINT_URL_DYNAMODB` and so on, or else
/// `AWS_ENDPOINT_URL`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoints {
    /// Of DynamoDB.
    pub dynamodb: Option<String>,
    /// Of SQS.
    pub sqs: Option<String>,
    /// Of S3.
    pub s3: Option<String>,
    /// Of `EventBridge`.
    pub eventbridge: Option<String>,
}

impl Endpoints {
    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|url| !url.is_empty());
        let of = |service: &str| {
            given(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| given("AWS_ENDPOINT_URL"))
        };
        Self { dynamodb: of("DYNAMODB"), sqs: of("SQS"), s3: of("S3"), eventbridge: of("EVENTBRIDGE") }
    }
}

/// A variable that is missing or makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {what}; template.yaml or Lambda sets it")]
pub struct Misconfigured {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong with it, and what is expected.
    pub what: String,
}

/// The step function's timeout in template.yaml, less what is kept for storing and ringing.
const LONGEST_STEP: Duration = Duration::from_secs(890);

impl Configuration {
    /// Reads it, by name.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Misconfigured> {
        let needed = |name: &'static str, what: &str| {
            let missing = || Misconfigured { variable: name, what: format!("is not set: it names {what}") };
            variable(name).filter(|value| !value.is_empty()).ok_or_else(missing)
        };
        let log = match variable("STEPWELL_LOG").filter(|level| !level.is_empty()) {
            None => LevelFilter::INFO,
            Some(level) => level.parse().map_err(|_| Misconfigured {
                variable: "STEPWELL_LOG",
                what: format!("is `{level}`, and not one of off, error, warn, info, debug, trace"),
            })?,
        };
        let retention = match variable("STEPWELL_RETENTION_DAYS").filter(|days| !days.is_empty()) {
            None => None,
            Some(days) => match days.parse::<u32>() {
                Ok(count) if count > 0 => Some(Duration::from_hours(u64::from(count) * 24)),
                _ => {
                    let what = format!("is `{days}`, and not a number of days from 1 on");
                    return Err(Misconfigured { variable: "STEPWELL_RETENTION_DAYS", what });
                }
            },
        };
        Ok(Self {
            region: needed("AWS_REGION", "the region")?,
            fips: variable("AWS_USE_FIPS_ENDPOINT").is_some_and(|fips| fips.eq_ignore_ascii_case("true")),
            endpoints: Endpoints::read(&variable),
            table: needed("STEPWELL_TABLE", "the table")?,
            bucket: needed("STEPWELL_BUCKET", "the bucket")?,
            steps: needed("STEPWELL_STEPS_QUEUE_URL", "the queue that wakes step, by its URL")?,
            resume: needed("STEPWELL_RESUME_QUEUE_URL", "the queue that wakes resume, by its URL")?,
            bus: variable("STEPWELL_BUS").filter(|bus| !bus.is_empty()),
            retention,
            log,
            longest_step: LONGEST_STEP,
        })
    }
}

#[cfg(test)]
impl Configuration {
    /// One that names nothing, for tests without AWS.
    pub(crate) fn of_nothing() -> Self {
        Self {
            region: String::new(),
            fips: false,
            endpoints: Endpoints::default(),
            table: String::new(),
            bucket: String::new(),
            steps: String::new(),
            resume: String::new(),
            bus: None,
            retention: None,
            log: LevelFilter::OFF,
            longest_step: Duration::from_mins(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        let value = match name {
            "AWS_REGION" => "eu-central-1",
            "STEPWELL_TABLE" => "t",
            "STEPWELL_BUCKET" => "b",
            "STEPWELL_STEPS_QUEUE_URL" => "http://q/1",
            "STEPWELL_RESUME_QUEUE_URL" => "http://q/2",
            "STEPWELL_BUS" => "runs",
            "STEPWELL_RETENTION_DAYS" => "90",
            "STEPWELL_LOG" => "DEBUG",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let read = Configuration::read(variables).unwrap();
        assert_eq!((&*read.table, &*read.resume, read.log), ("t", "http://q/2", LevelFilter::DEBUG));
        assert_eq!(
            (read.bus.as_deref(), read.retention),
            (Some("runs"), Some(Duration::from_hours(90 * 24)))
        );
        for missing in [
            "AWS_REGION",
            "STEPWELL_TABLE",
            "STEPWELL_BUCKET",
            "STEPWELL_STEPS_QUEUE_URL",
            "STEPWELL_RESUME_QUEUE_URL",
        ] {
            for value in [None, Some(String::new())] {
                let without = |name: &str| if name == missing { value.clone() } else { variables(name) };
                assert_eq!(Configuration::read(without).unwrap_err().variable, missing);
            }
        }
        for days in ["0", "-1", "1.5", "a while"] {
            let odd = |name: &str| {
                if name == "STEPWELL_RETENTION_DAYS" { Some(days.to_owned()) } else { variables(name) }
            };
            assert_eq!(Configuration::read(odd).unwrap_err().variable, "STEPWELL_RETENTION_DAYS");
        }
        let loud =
            |name: &str| if name == "STEPWELL_LOG" { Some("loud".to_owned()) } else { variables(name) };
        let error = Configuration::read(loud).unwrap_err();
        assert!(error.to_string().starts_with("STEPWELL_LOG is `loud`, and not one of off,"), "{error}");
    }

    #[test]
    fn an_endpoint_of_a_service_goes_before_that_of_all() {
        let set = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some("http://all".to_owned()),
            "AWS_ENDPOINT_URL_SQS" => Some("http://sqs".to_owned()),
            "AWS_ENDPOINT_URL_S3" => Some(String::new()),
            name => variables(name),
        };
        let endpoints = Configuration::read(set).unwrap().endpoints;
        assert_eq!(endpoints.sqs.as_deref(), Some("http://sqs"));
        for other in [endpoints.dynamodb, endpoints.s3, endpoints.eventbridge] {
            assert_eq!(other.as_deref(), Some("http://all"));
        }
        assert_eq!(Configuration::read(variables).unwrap().endpoints, Endpoints::default());
    }
}
