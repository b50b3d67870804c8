//! The API of a deployed stack: where it is, and how requests to it are signed.
//!
//! Credentials and the region come from the variables and files that AWS's own tools read: keys, session tokens and
//! `credential_process`. For anything else (SSO, roles) those tools give keys, and the error says how.

use std::path::PathBuf;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::SignableBody;
use aws_sigv4::http_request::SignableRequest;
use aws_sigv4::http_request::SigningSettings;
use aws_sigv4::http_request::sign;
use aws_sigv4::sign::v4;
use expression::Value;
use jiff::Timestamp;

use crate::client::Server;
use crate::output::Failure;

/// The output of the template that says where the API begins.
const OUTPUT: &str = "ApiUrl";

/// Signs requests to one service of one region (Signature Version 4).
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    credentials: Credentials,
    region: String,
    service: &'static str,
}

/// The server behind `--endpoint aws`: `STEPWELL_API_URL`, or the output of the stack.
pub(crate) async fn server(stack: Option<&str>) -> Result<Server, Failure> {
    let environment = Environment::of_process();
    let url = match (stack, environment.variable("STEPWELL_API_URL")) {
        (Some(stack), _) => address_of(stack, &environment).await?,
        (None, Some(url)) => url,
        (None, None) => {
            return Err(Failure::new("ENDPOINT_INVALID", "`aws` alone does not say which stack is meant")
                .hint("name it with --stack, or set STEPWELL_API_URL to its output ApiUrl"));
        }
    };
    let server = Server::plain(&url)?;
    let signer = Signer {
        credentials: environment.credentials()?,
        region: match region_of(server.host()) {
            Some(region) => region.to_owned(),
            None => environment.region()?,
        },
        service: "execute-api",
    };
    Ok(server.signed(signer))
}

/// The signer of an address that is API Gateway's own.
pub(crate) fn signer_for(host: &str) -> Result<Option<Signer>, Failure> {
    let Some(region) = region_of(host) else { return Ok(None) };
    let credentials = Environment::of_process().credentials()?;
    Ok(Some(Signer { credentials, region: region.to_owned(), service: "execute-api" }))
}

/// `ID.execute-api.REGION.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    let host = host.split(':').next()?;
    let host = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let (_, region) = host.split_once(".execute-api.")?;
    (!region.is_empty() && !region.contains('.')).then_some(region)
}

/// Asks CloudFormation for a stack's output.
async fn address_of(stack: &str, environment: &Environment) -> Result<String, Failure> {
    let region = environment.region()?;
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = environment
        .variable("AWS_ENDPOINT_URL_CLOUDFORMATION")
        .or_else(|| environment.variable("AWS_ENDPOINT_URL"))
        .unwrap_or_else(|| format!("https://cloudformation.{region}.{suffix}"));
    let signer = Signer { credentials: environment.credentials()?, region, service: "cloudformation" };
    let server = Server::plain(&endpoint)?.signed(signer);
    let name = crate::client::Client::segment(stack);
    let answer = server.text(&format!("/?Action=DescribeStacks&StackName={name}&Version=2010-05-15")).await?;
    let (status, text) = answer;
    let failed = |why: String| Failure::new("STACK_UNKNOWN", format!("the stack `{stack}`: {why}"));
    if status != 200 {
        let said = element(&text, "Message").unwrap_or_else(|| format!("CloudFormation answered {status}"));
        return Err(failed(said).hint("check --stack, the region and the credentials"));
    }
    output(&text, OUTPUT).ok_or_else(|| {
        failed(format!("it has no output {OUTPUT}")).hint("is it a stack of Stepwell's template.yaml?")
    })
}

/// The value of one of a stack's outputs.
fn output(document: &str, key: &str) -> Option<String> {
    let mut members = document.split("<OutputKey>").skip(1);
    let member = members.find(|member| member.split("</OutputKey>").next().map(str::trim) == Some(key))?;
    // The value may stand before its key.
    element(member.split("</member>").next()?, "OutputValue").or_else(|| {
        let before = document.split(member).next()?;
        element(before.rsplit("<member>").next()?, "OutputValue")
    })
}

/// The text of the first element of this name.
fn element(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(plain.replace("&amp;", "&").trim().to_owned())
}

impl Signer {
    /// The headers that a request with these headers and this body needs besides.
    pub(crate) fn headers(
        &self,
        now: Timestamp,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Vec<(String, String)>, Failure> {
        let failed =
            |error: String| Failure::new("REQUEST_INVALID", format!("this cannot be signed: {error}"));
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(now.into())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let request = SignableRequest::new(method, url, headers.iter().copied(), SignableBody::Bytes(body))
            .map_err(|error| failed(error.to_string()))?;
        let signed = sign(request, &parameters.into()).map_err(|error| failed(error.to_string()))?;
        let (instructions, _) = signed.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// What AWS's tools read: variables, and the files they name.
struct Environment {
    variables: fn(&str) -> Option<String>,
    credentials: String,
    config: String,
}

impl Environment {
    fn of_process() -> Self {
        let variables = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file = |variable: &str, name: &str| {
            let path = variables(variable).map(PathBuf::from);
            let path = path.or_else(|| Some(PathBuf::from(variables("HOME")?).join(".aws").join(name)));
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        Self {
            variables,
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: file("AWS_CONFIG_FILE", "config"),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name)
    }

    fn profile(&self) -> String {
        self.variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned())
    }

    /// A setting of the profile, from either file.
    fn setting(&self, key: &str) -> Option<String> {
        let profile = self.profile();
        setting(&self.credentials, &profile, key).or_else(|| setting(&self.config, &profile, key))
    }

    fn region(&self) -> Result<String, Failure> {
        self.variable("AWS_REGION")
            .or_else(|| self.variable("AWS_DEFAULT_REGION"))
            .or_else(|| self.setting("region"))
            .ok_or_else(|| {
                let message =
                    format!("there is no region in the environment or in profile `{}`", self.profile());
                Failure::new("AWS_CREDENTIALS", message).hint("set AWS_REGION")
            })
    }

    fn credentials(&self) -> Result<Credentials, Failure> {
        let keys = |find: &dyn Fn(&str) -> Option<String>, names: [&str; 3]| {
            let [id, secret, token] = names;
            Some(Credentials::new(find(id)?, find(secret)?, find(token), None, "stepwell"))
        };
        let named = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        if let Some(credentials) = keys(&|name| self.variable(name), named) {
            return Ok(credentials);
        }
        let named = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
        if let Some(credentials) = keys(&|name| self.setting(name), named) {
            return Ok(credentials);
        }
        if let Some(command) = self.setting("credential_process") {
            return process(&command);
        }
        let profile = self.profile();
        let message = format!("there are no keys in the environment or in profile `{profile}`");
        Err(Failure::new("AWS_CREDENTIALS", message).hint(format!(
            "for SSO and roles: eval \"$(aws configure export-credentials --profile {profile} --format env)\""
        )))
    }
}

/// The value of a key in a section of one of the files.
fn setting(text: &str, profile: &str, key: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines() {
        if let Some(section) = line.trim_end().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let section = section.trim();
            inside = section.strip_prefix("profile ").map_or(section, str::trim) == profile;
        } else if inside
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

/// Keys from the program that a profile names, as AWS's tools run it.
fn process(command: &str) -> Result<Credentials, Failure> {
    let failed =
        |why: &str| Failure::new("AWS_CREDENTIALS", format!("credential_process `{command}`: {why}"));
    let output = std::process::Command::new("sh")
        .args(["-c", command])
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(&output.status.to_string()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let keys = Value::parse_json(text.trim()).map_err(|_| failed("it printed no JSON"))?;
    let key = |name: &str| keys.get(name).and_then(Value::as_str).map(str::to_owned);
    match (key("AccessKeyId"), key("SecretAccessKey")) {
        (Some(id), Some(secret)) => Ok(Credentials::new(id, secret, key("SessionToken"), None, "stepwell")),
        _ => Err(failed("it printed no AccessKeyId and SecretAccessKey")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signed request of AWS's documentation ("Signature Version 4 signing process", `ListUsers` of IAM).
    #[test]
    fn the_example_of_awss_documentation_is_right() {
        let credentials =
            Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, None, "test");
        let signer = Signer { credentials, region: "us-east-1".to_owned(), service: "iam" };
        let headers = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
        ];
        let url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08";
        let signed =
            signer.headers("2015-08-30T12:36:00Z".parse().unwrap(), "GET", url, &headers, b"").unwrap();
        let value = |name: &str| signed.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!(value("x-amz-date"), "20150830T123600Z");
        assert_eq!(
            value("authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn keys_and_outputs_are_found_where_aws_puts_them() {
        let config = "[default]\nregion = eu-west-1\n[profile dev]\n# region = no\nregion=eu-central-1\ns3 =\n  region = no\n";
        assert_eq!(setting(config, "default", "region").as_deref(), Some("eu-west-1"));
        assert_eq!(setting(config, "dev", "region").as_deref(), Some("eu-central-1"));
        assert_eq!(setting(config, "dev", "s3"), None);
        assert_eq!(setting(config, "other", "region"), None);
        let member = |key: &str, value: &str| {
            format!("<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>")
        };
        let stack =
            format!("<Outputs>{}{}</Outputs>", member("ApiId", "x"), member("ApiUrl", "https://x/?a&amp;b"));
        assert_eq!(output(&stack, OUTPUT).as_deref(), Some("https://x/?a&b"));
        let turned = "<member><OutputValue>https://y</OutputValue><OutputKey>ApiUrl</OutputKey></member>";
        assert_eq!(output(turned, OUTPUT).as_deref(), Some("https://y"));
        assert_eq!(output(&member("ApiId", "x"), OUTPUT), None);
        assert_eq!(region_of("x.execute-api.eu-west-1.amazonaws.com:443"), Some("eu-west-1"));
        assert_eq!(region_of("x.execute-api.cn-north-1.amazonaws.com.cn"), Some("cn-north-1"));
        assert_eq!(region_of("api.example.com"), None);
    }
}
