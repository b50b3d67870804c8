//! Keeps web pages out of an API without authentication: what a browser can be made to send from elsewhere is refused.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;

use crate::Error;

/// Refuses a request that a page of another origin could have made a browser send: its Host is not this machine (DNS
/// rebinding), or its Origin is not (cross-site requests).
pub(crate) fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Error> {
    let host = uri
        .authority()
        .map(axum::http::uri::Authority::as_str)
        .or_else(|| headers.get(header::HOST)?.to_str().ok());
    if !host.is_some_and(is_loopback) {
        return Err(Error::new(
            StatusCode::FORBIDDEN,
            "HOST_NOT_ALLOWED",
            format!("the Host header `{}` does not name this machine", host.unwrap_or_default()),
        )
        .hint("use http://127.0.0.1:PORT, http://localhost:PORT or http://[::1]:PORT"));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && method != Method::GET
        && !origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, host)| is_loopback(host))
    {
        return Err(Error::new(
            StatusCode::FORBIDDEN,
            "ORIGIN_NOT_ALLOWED",
            "requests of web pages of other origins are refused",
        ));
    }
    Ok(())
}

/// `127.0.0.1`, `localhost`, `[::1]`, each with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_a_host() {
        for host in
            ["127.0.0.1", "127.0.0.1:7878", "localhost", "LOCALHOST:1", "[::1]", "[::1]:80", "127.9.9.9:1"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.nip.io:80",
            "10.0.0.1",
            "[::2]:1",
            "0.0.0.0",
            "[::1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
