//! Bodies as objects of a bucket of S3.
//!
//! Four kinds of requests are all that is asked of S3 here. They are signed by `rusty-s3` and sent by whatever client the other
//! services have: the SDK's own crate for S3 would be an eighth of each function's program, most of it tables for checksums.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use futures::StreamExt as _;
use futures::TryStreamExt as _;
use parking_lot::Mutex;
use runtime::ports::StoreError;
use rusty_s3::Bucket;
use rusty_s3::Credentials;
use rusty_s3::S3Action;
use rusty_s3::UrlStyle;
use rusty_s3::actions::ListObjectsV2;
use sha2::Digest as _;
use sha2::Sha256;

use crate::Blobs;
use crate::error::code;
use crate::error::permanent;
use crate::error::unknown;
use crate::request::chain;

/// A signature holds for one attempt, and for clocks that differ.
const SIGNED_FOR: Duration = Duration::from_mins(15);
/// How long a request may take, all its attempts together: less than what is kept of an invocation for storing and ringing.
const BUDGET: Duration = Duration::from_secs(8);
/// Attempts before a request is given up.
const ATTEMPTS: u32 = 5;
/// The longest first pause between two; it doubles, and each is random below its length.
const PAUSE: Duration = Duration::from_millis(200);
/// Names that one list holds, and objects that one call of [`Blobs::delete`] deletes.
const LISTED: usize = 1000;
/// Objects deleted at once.
const AT_ONCE: usize = 16;

/// Which bucket, and where.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// Its name.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// Where S3 is, if it is not AWS's: a URL that begins the paths of all buckets.
    pub endpoint: Option<String>,
    /// Whether FIPS endpoints are asked for.
    pub fips: bool,
    /// What the pauses between attempts are drawn from.
    pub seed: u64,
}

/// Objects in a bucket of S3. An object is written once; a rule that removes old ones of the bucket loses data, since a run may
/// live as long as it likes.
pub struct S3Blobs {
    bucket: Bucket,
    credentials: SharedCredentialsProvider,
    http: SharedHttpConnector,
    jitter: Mutex<fastrand::Rng>,
}

impl fmt::Debug for S3Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Blobs").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

/// An answer: its status and its body.
type Answer = (u16, Vec<u8>);

impl S3Blobs {
    /// The bucket, which is not asked for yet. Fails where the endpoint is no URL.
    pub fn new(
        options: &S3Options,
        credentials: SharedCredentialsProvider,
        http: SharedHttpConnector,
    ) -> Result<Self, StoreError> {
        let (endpoint, style) = match &options.endpoint {
            // Where buckets have no host names of their own.
            Some(url) => (url.clone(), UrlStyle::Path),
            None => (address(&options.region, options.fips), UrlStyle::VirtualHost),
        };
        let wrong = |why: &dyn fmt::Display| {
            permanent(
                code::BLOBS,
                format!("the endpoint {endpoint} of S3 cannot be used ({why}): give a URL"),
            )
        };
        let url = endpoint.parse().map_err(|error| wrong(&error))?;
        let bucket = Bucket::new(url, style, options.bucket.clone(), options.region.clone())
            .map_err(|error| wrong(&error))?;
        Ok(Self { bucket, credentials, http, jitter: Mutex::new(fastrand::Rng::with_seed(options.seed)) })
    }

    /// The names that begin with `prefix`, the first thousand of them, and whether there are more.
    pub async fn names(&self, prefix: &str) -> Result<(Vec<String>, bool), StoreError> {
        let what = format!("listing what is under {prefix}");
        let list = |credentials: &Credentials| {
            let mut list = self.bucket.list_objects_v2(Some(credentials));
            list.with_prefix(prefix);
            list.with_max_keys(LISTED);
            signed(&list, Vec::new(), None)
        };
        let body = self.done(&what, self.send(&what, list).await?)?;
        let text = String::from_utf8(body).map_err(|error| self.failed(&what, &error))?;
        let listed = ListObjectsV2::parse_response(&text).map_err(|error| self.failed(&what, &error))?;
        let more = listed.next_continuation_token.is_some();
        Ok((listed.contents.into_iter().map(|object| object.key).collect(), more))
    }

    /// Sends a request until it is answered: each of them done twice is the same as done once.
    async fn send(
        &self,
        what: &str,
        request: impl Fn(&Credentials) -> Result<HttpRequest, String>,
    ) -> Result<Answer, StoreError> {
        let tried = tokio::time::timeout(BUDGET, async {
            let mut pause = PAUSE;
            let mut attempt = 1;
            loop {
                let problem = match self.once(&request).await {
                    Ok((status, body)) if !is_passing(status, &body) => return Ok((status, body)),
                    Ok((status, body)) => refusal(status, &body),
                    Err(problem) => problem,
                };
                if attempt == ATTEMPTS {
                    return Err(problem);
                }
                tracing::debug!(request = what, error = problem, "a request is sent again");
                let share = self.jitter.lock().f64();
                tokio::time::sleep(pause.mul_f64(share)).await;
                pause *= 2;
                attempt += 1;
            }
        });
        match tried.await {
            Ok(answer) => answer.map_err(|problem| self.failed(what, &problem)),
            Err(_) => Err(self.failed(what, &format_args!("no answer in {} s", BUDGET.as_secs()))),
        }
    }

    async fn once(
        &self,
        request: impl Fn(&Credentials) -> Result<HttpRequest, String>,
    ) -> Result<Answer, String> {
        let known = self.credentials.provide_credentials().await.map_err(|error| chain(&error))?;
        let (key, secret) = (known.access_key_id(), known.secret_access_key());
        let credentials = match known.session_token() {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        };
        let mut request = request(&credentials)?;
        let used = CaptureSmithyConnection::new();
        request.add_extension(used.clone());
        let answer = self.http.call(request).await.map_err(|error| chain(&error))?;
        let status = answer.status().as_u16();
        let body = ByteStream::new(answer.into_body()).collect().await;
        let body = body.map_err(|error| chain(&error))?.to_vec();
        // The next attempt is to meet another server.
        if is_passing(status, &body)
            && let Some(connection) = used.get()
        {
            connection.poison();
        }
        Ok((status, body))
    }

    /// The body of an answer that says that it was done.
    fn done(&self, what: &str, (status, body): Answer) -> Result<Vec<u8>, StoreError> {
        if (200..300).contains(&status) { Ok(body) } else { Err(self.failed(what, &refusal(status, &body))) }
    }

    fn failed(&self, what: &str, why: &dyn fmt::Display) -> StoreError {
        unknown(
            code::BLOBS,
            format!(
                "{what} in the bucket {} failed ({why}): check its name, the network and the permissions",
                self.bucket.name()
            ),
        )
    }
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let what = format!("writing {key}");
        let checksum = base64::encode(Sha256::digest(&bytes));
        let put = |credentials: &Credentials| {
            let mut put = self.bucket.put_object(Some(credentials), key);
            // S3 refuses what arrives as anything else.
            put.headers_mut().insert(CHECKSUM, &*checksum);
            signed(&put, bytes.clone(), Some((CHECKSUM, &checksum)))
        };
        self.done(&what, self.send(&what, put).await?).map(drop)
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let what = format!("reading {key}");
        let get = |credentials: &Credentials| {
            signed(&self.bucket.get_object(Some(credentials), key), Vec::new(), None)
        };
        match self.send(&what, get).await? {
            (404, body) if told(&body, "Code") == Some("NoSuchKey") => Ok(None),
            answer => self.done(&what, answer).map(Some),
        }
    }

    async fn delete(&self, prefix: &str) -> Result<bool, StoreError> {
        let (names, more) = self.names(prefix).await?;
        let delete = async |name: String| {
            let what = format!("deleting {name}");
            let delete = |credentials: &Credentials| {
                signed(&self.bucket.delete_object(Some(credentials), &name), Vec::new(), None)
            };
            self.done(&what, self.send(&what, delete).await?)
        };
        // Requests that delete cost nothing, and unlike one for many each is answered for itself.
        let deleted = futures::stream::iter(names).map(delete).buffer_unordered(AT_ONCE);
        deleted.try_for_each(async |_| Ok(())).await?;
        Ok(more)
    }
}

/// The header by which S3 compares what it got with what was sent.
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// Where S3 is in a region of AWS.
fn address(region: &str, fips: bool) -> String {
    // As the partitions are listed in every SDK of AWS.
    let mut parts = region.split('-');
    let suffix = match (parts.next(), parts.next()) {
        (Some("cn"), _) => "amazonaws.com.cn",
        (Some("eusc"), _) => "amazonaws.eu",
        (_, Some("iso")) => "c2s.ic.gov",
        (_, Some("isob")) => "sc2s.sgov.gov",
        (_, Some("isoe")) => "cloud.adc-e.uk",
        (_, Some("isof")) => "csp.hci.ic.gov",
        _ => "amazonaws.com",
    };
    let service = if fips { "s3-fips" } else { "s3" };
    format!("https://{service}.{region}.{suffix}")
}

/// The request of an action, with a header that its signature covers.
fn signed<'a, A: S3Action<'a>>(
    action: &A,
    body: Vec<u8>,
    header: Option<(&'static str, &str)>,
) -> Result<HttpRequest, String> {
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method(A::METHOD.to_str()).map_err(|error| error.to_string())?;
    let url = action.sign(SIGNED_FOR);
    request.set_uri(url.as_str()).map_err(|error| error.to_string())?;
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, value.to_owned());
    }
    Ok(request)
}

/// Whether the same request may fare better a little later. What S3 waited for in vain it refuses as if it were wrong.
fn is_passing(status: u16, body: &[u8]) -> bool {
    matches!(status, 408 | 429 | 500..) || (status == 400 && told(body, "Code") == Some("RequestTimeout"))
}

/// What S3 says of a request that it did not do.
fn refusal(status: u16, body: &[u8]) -> String {
    match (told(body, "Code"), told(body, "Message")) {
        (Some(code), Some(message)) => format!("{status} {code}: {message}"),
        (Some(code), None) => format!("{status} {code}"),
        _ => format!("it answered {status}"),
    }
}

/// The text of an element of an error, which has no attributes and nothing nested.
fn told<'b>(body: &'b [u8], element: &str) -> Option<&'b str> {
    let (_, rest) = std::str::from_utf8(body).ok()?.split_once(&format!("<{element}>"))?;
    rest.split_once("</").map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use aws_smithy_runtime_api::client::http::HttpConnector;
    use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_runtime_api::client::result::ConnectorError;

    use super::*;

    /// A status and a body; or nothing, and the connection breaks.
    type Said = Option<(u16, &'static str)>;

    /// The method, the URL and the checksum of a request.
    type Asked = (String, String, Option<String>);

    /// Answers in turn, and keeps what it was asked.
    #[derive(Clone, Debug, Default)]
    struct Bench {
        answers: Arc<Mutex<VecDeque<Said>>>,
        asked: Arc<Mutex<Vec<Asked>>>,
    }

    impl HttpConnector for Bench {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let checksum = request.headers().get(CHECKSUM).map(str::to_owned);
            self.asked.lock().push((request.method().to_owned(), request.uri().to_owned(), checksum));
            HttpConnectorFuture::ready(match self.answers.lock().pop_front().flatten() {
                Some((0, _)) => return HttpConnectorFuture::new(std::future::pending()),
                Some((status, body)) => {
                    Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body)))
                }
                None => Err(ConnectorError::io("the connection broke".into())),
            })
        }
    }

    fn blobs(answers: &[Said], endpoint: Option<&str>) -> (S3Blobs, Bench) {
        let bench = Bench::default();
        bench.answers.lock().extend(answers);
        let options = S3Options {
            bucket: "values".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            fips: false,
            seed: 1,
        };
        let credentials =
            aws_credential_types::Credentials::new("key", "secret", Some("token".into()), None, "");
        let credentials = SharedCredentialsProvider::new(credentials);
        let blobs = S3Blobs::new(&options, credentials, SharedHttpConnector::new(bench.clone()));
        (blobs.unwrap(), bench)
    }

    /// The status of an answer that never comes.
    const SILENCE: Said = Some((0, ""));
    const SLOW: Said = Some((400, "<Error><Code>RequestTimeout</Code></Error>"));
    const BUSY: Said = Some((503, "<Error><Code>SlowDown</Code></Error>"));

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_what_is_refused_is_not() {
        let (busy, bench) = blobs(&[BUSY, None, SLOW, Some((200, ""))], None);
        busy.put("runs/r 1/x", b"hello".to_vec()).await.unwrap();
        let asked = bench.asked.lock().clone();
        assert_eq!(asked.len(), 4);
        for (method, uri, checksum) in asked {
            assert_eq!(method, "PUT");
            assert!(uri.starts_with("https://values.s3.eu-central-1.amazonaws.com/runs/r%201/x?"), "{uri}");
            assert!(
                uri.contains("X-Amz-Security-Token=token")
                    && uri.contains("X-Amz-SignedHeaders=host%3Bx-amz-checksum-sha256"),
                "{uri}"
            );
            assert_eq!(checksum.as_deref(), Some("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="));
        }

        let (down, bench) = blobs(&[BUSY; 9], Some("http://127.0.0.1:1"));
        let error = down.get("x").await.unwrap_err();
        assert!(error.code == code::BLOBS && error.message.contains("503 SlowDown"), "{error}");
        let asked = bench.asked.lock().clone();
        assert_eq!(asked.len(), ATTEMPTS as usize);
        assert!(asked.iter().all(|(_, uri, _)| uri.starts_with("http://127.0.0.1:1/values/x?")));

        let (silent, _) = blobs(&[SILENCE], None);
        let begun = tokio::time::Instant::now();
        let error = silent.get("x").await.unwrap_err();
        assert!(error.message.contains("no answer in 8 s") && begun.elapsed() == BUDGET, "{error}");

        let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        let (denied, bench) = blobs(&[Some((403, denied))], None);
        let error = denied.get("x").await.unwrap_err();
        assert!(
            error.message.contains("reading x in the bucket values failed (403 AccessDenied: no)"),
            "{error}"
        );
        assert_eq!(bench.asked.lock().len(), 1);
    }

    /// An object that is not there is no error; a bucket that is not there is one, or what is only misnamed would seem lost.
    #[tokio::test]
    async fn a_missing_object_is_not_a_missing_bucket() {
        let no_key = Some((404, "<Error><Code>NoSuchKey</Code></Error>"));
        let no_bucket = Some((404, "<Error><Code>NoSuchBucket</Code></Error>"));
        let (blobs, _) = blobs(&[no_key, no_bucket, Some((200, "bytes"))], None);
        assert_eq!(blobs.get("x").await.unwrap(), None);
        assert!(blobs.get("x").await.unwrap_err().message.contains("NoSuchBucket"));
        assert_eq!(blobs.get("x").await.unwrap().as_deref(), Some(&b"bytes"[..]));
    }

    /// A page of names that is not the last is said not to be, and an object that could not be deleted is told.
    #[tokio::test]
    async fn what_is_under_a_prefix_goes_page_by_page() {
        let page = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Name>values</Name><Prefix>a/</Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>
              <IsTruncated>true</IsTruncated><NextContinuationToken>more</NextContinuationToken>
              <Contents><Key>a/1</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"e"</ETag>
                <Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>
              <Contents><Key>a/x&amp;y</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"e"</ETag>
                <Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>
            </ListBucketResult>"#;
        let gone = Some((204, ""));
        let (whole, bench) = blobs(&[Some((200, page)), gone, gone], None);
        assert!(whole.delete("a/").await.unwrap(), "there are more");
        let asked: Vec<String> = bench
            .asked
            .lock()
            .iter()
            .map(|(method, uri, _)| format!("{method} {}", uri.split(['?', '&']).next().unwrap_or_default()))
            .collect();
        let host = "https://values.s3.eu-central-1.amazonaws.com";
        assert_eq!(
            asked,
            [format!("GET {host}/"), format!("DELETE {host}/a/1"), format!("DELETE {host}/a/x%26y")]
        );
        let denied = Some((403, "<Error><Code>AccessDenied</Code></Error>"));
        let (half, _) = blobs(&[Some((200, page)), gone, denied], None);
        let error = half.delete("a/").await.unwrap_err();
        assert!(error.message.contains("deleting a/x&y"), "{error}");
    }

    #[test]
    fn each_partition_has_its_address() {
        for (region, fips, address) in [
            ("eu-central-1", false, "https://s3.eu-central-1.amazonaws.com"),
            ("us-gov-west-1", true, "https://s3-fips.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", false, "https://s3.cn-north-1.amazonaws.com.cn"),
            ("us-iso-east-1", false, "https://s3.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", false, "https://s3.us-isob-east-1.sc2s.sgov.gov"),
            ("eusc-de-east-1", false, "https://s3.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(super::address(region, fips), address);
        }
    }
}
