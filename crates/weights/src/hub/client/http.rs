//! Requests: where they go, what they carry, and how long an answer may take.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::http::{HeaderMap, Request, Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use super::{Bypass, Endpoint};

/// How long finding a server and greeting it may take, each.
const TO_CONNECT: Duration = Duration::from_secs(10);

/// How long a server may say nothing, unless the options say otherwise.
const SILENCE: Duration = Duration::from_secs(15);

/// How long the whole of a small answer may take.
const TO_ANSWER: Duration = Duration::from_mins(1);

/// The largest answer that is no file.
const LONGEST_ANSWER: u64 = 1 << 20;

/// How often an answer may point elsewhere.
const REDIRECTS: usize = 8;

/// Why a request has brought nothing.
pub(super) enum Fault {
    /// The server refused.
    Status {
        /// HTTP's number.
        code: u16,
        /// The hub's own name of the reason, such as `GatedRepo`.
        reason: Option<String>,
        /// What the hub says about it.
        message: Option<String>,
        /// Seconds until it may be asked again.
        retry_after_s: Option<u64>,
    },
    /// There was no answer, or it broke off.
    Connection(String),
    /// The server was silent or slow for too long.
    Silence(String),
    /// The time allowed is up.
    OutOfTime,
    /// It is not what was asked for.
    Answer(String),
}

/// Asks one server.
pub(super) struct Http {
    agent: Agent,
    /// On the way to every server but those that are reached without it.
    proxy: Option<(Proxy, Bypass)>,
    endpoint: String,
    /// What the server itself is shown, and nobody whom it points to.
    authorization: Option<String>,
}

/// What is asked.
pub(super) struct Ask<'a> {
    /// The path below the endpoint.
    pub(super) path: &'a str,
    /// The first byte and the one after the last.
    pub(super) range: Option<(u64, u64)>,
    /// JSON to send along; it makes the request a POST.
    pub(super) body: Option<&'a str>,
    /// The time that is left.
    pub(super) left: Option<Duration>,
}

impl Http {
    pub(super) fn new(
        endpoint: Endpoint,
        token: Option<String>,
        proxy: Option<(Proxy, Bypass)>,
        silence: Option<Duration>,
    ) -> Self {
        let silence = silence.unwrap_or(SILENCE);
        let tls = TlsConfig::builder().root_certs(certificates()).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here, so that a token goes to no other server.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .https_only(endpoint.is_encrypted())
            .accept_encoding("identity")
            .user_agent(concat!("warpmark/", env!("CARGO_PKG_VERSION")))
            // Chosen for each request, since an answer may point to a server that is reached without it.
            .proxy(None)
            .tls_config(tls)
            .timeout_resolve(Some(TO_CONNECT))
            .timeout_connect(Some(TO_CONNECT))
            .timeout_recv_response(Some(silence))
            .timeout_per_read(Some(silence))
            .timeout_per_write(Some(silence))
            .build()
            .new_agent();
        // A user of a mirror is known to the mirror, which is not to see the hub's token.
        let authorization =
            endpoint.authorization.or_else(|| token.map(|token| format!("Bearer {token}")));
        Self { agent, proxy, endpoint: endpoint.address, authorization }
    }

    /// The server, without a password.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks, and follows the answer to where it points. The status is one of success.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Response<Body>, Fault> {
        let mut url = format!("{}{}", self.endpoint, ask.path);
        for _ in 0..REDIRECTS {
            let response = self.send(&url, ask)?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let target = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
            match target {
                Some(target) if status.is_redirection() => url = resolved(&url, target)?,
                _ => return Err(refusal(status.as_u16(), response.headers())),
            }
        }
        Err(Fault::Answer(format!("it points elsewhere more than {REDIRECTS} times")))
    }

    fn send(&self, url: &str, ask: &Ask<'_>) -> Result<Response<Body>, Fault> {
        if ask.left.is_some_and(|left| left.is_zero()) {
            return Err(Fault::OutOfTime);
        }
        let mut request = Request::builder().uri(url);
        if let Some(value) = &self.authorization
            && origin(url) == origin(&self.endpoint)
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some((start, end)) = ask.range {
            request = request.header(header::RANGE, format!("bytes={start}-{}", end.max(1) - 1));
        }
        let unsendable = |error: ureq::http::Error| {
            Fault::Answer(format!("the address {url:?} cannot be asked: {error}"))
        };
        // A file takes as long as it takes, as long as it comes.
        let answer = ask.body.map(|_| TO_ANSWER);
        let limit = [ask.left, answer].into_iter().flatten().min();
        let proxied = self.proxy.as_ref().filter(|(_, bypass)| !bypass.covers(url));
        let proxy = proxied.map(|(proxy, _)| proxy.clone());
        let sent = if let Some(json) = ask.body {
            let request = request.method("POST").header(header::CONTENT_TYPE, "application/json");
            let request = request.body(json.to_owned()).map_err(unsendable)?;
            let request = self.agent.configure_request(request).proxy(proxy);
            self.agent.run(request.timeout_global(limit).build())
        } else {
            let request = request.body(()).map_err(unsendable)?;
            let request = self.agent.configure_request(request).proxy(proxy);
            self.agent.run(request.timeout_global(limit).build())
        };
        sent.map_err(|error| fault(error, ask.left.is_some()))
    }

    /// Asks for something small and reads all of it.
    pub(super) fn answer(&self, ask: &Ask<'_>) -> Result<Vec<u8>, Fault> {
        let response = self.ask(ask)?;
        let mut bytes = Vec::new();
        let mut reader = response.into_body().into_reader().take(LONGEST_ANSWER + 1);
        reader.read_to_end(&mut bytes).map_err(|error| fault(error.into(), ask.left.is_some()))?;
        if bytes.len() as u64 > LONGEST_ANSWER {
            return Err(Fault::Answer("the hub's answer has no end (more than 1 MiB)".to_owned()));
        }
        Ok(bytes)
    }
}

/// The machine's own certificates, so that a company's proxy is known; the web's usual ones where it has
/// none, as in a bare container. They are read once: a machine has some 150.
fn certificates() -> RootCerts {
    static FOUND: OnceLock<RootCerts> = OnceLock::new();
    let read = || {
        let found = rustls_native_certs::load_native_certs().certs;
        if found.is_empty() {
            return RootCerts::WebPki;
        }
        let owned = found.iter().map(|der| Certificate::from_der(der).to_owned());
        RootCerts::Specific(Arc::new(owned.collect()))
    };
    FOUND.get_or_init(read).clone()
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// Where an answer points to, seen from the address that was asked.
fn resolved(from: &str, target: &str) -> Result<String, Fault> {
    let absolute = ["https://", "http://"].iter().any(|scheme| target.starts_with(scheme));
    if absolute {
        return Ok(target.to_owned());
    }
    if target.starts_with('/') && !target.starts_with("//") {
        return Ok(format!("{}{target}", origin(from)));
    }
    Err(Fault::Answer("it points to an address that is none".to_owned()))
}

fn refusal(code: u16, headers: &HeaderMap) -> Fault {
    let text = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.chars().take(200).collect::<String>()).filter(|text| !text.is_empty())
    };
    Fault::Status {
        code,
        reason: text("x-error-code"),
        message: text("x-error-message"),
        retry_after_s: text("retry-after").and_then(|text| text.trim().parse().ok()),
    }
}

/// What went wrong on the way; `limited` where the whole request had a limit.
pub(super) fn fault(error: ureq::Error, limited: bool) -> Fault {
    use ureq::Timeout::{Connect, Global, PerRead, PerWrite, RecvResponse, Resolve};
    match error {
        ureq::Error::Timeout(Global) if limited => Fault::OutOfTime,
        ureq::Error::Timeout(Global) => Fault::Silence("it took too long to answer".to_owned()),
        ureq::Error::Timeout(Resolve) => {
            Fault::Silence("its name was not resolved in 10 s".to_owned())
        }
        ureq::Error::Timeout(Connect) => Fault::Silence("it took no connection in 10 s".to_owned()),
        ureq::Error::Timeout(RecvResponse | PerRead | PerWrite) => {
            Fault::Silence("it was silent for too long".to_owned())
        }
        ureq::Error::HostNotFound => Fault::Connection("there is no host of that name".to_owned()),
        ureq::Error::Io(error) => Fault::Connection(error.to_string()),
        ureq::Error::RequireHttpsOnly(_) => {
            Fault::Answer("it points to an address without encryption".to_owned())
        }
        error @ (ureq::Error::Rustls(_)
        | ureq::Error::Tls(_)
        | ureq::Error::ConnectProxyFailed(_)) => Fault::Connection(error.to_string()),
        error => Fault::Answer(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_points_to_an_address_of_its_own_or_of_the_same_server() {
        let from = "https://hub.example:8080/a/b?c";
        let to = |target: &str| resolved(from, target).ok();
        assert_eq!(to("/x?y").unwrap(), "https://hub.example:8080/x?y");
        assert_eq!(to("http://cdn.example/x").unwrap(), "http://cdn.example/x");
        assert!(to("//cdn.example/x").is_none() && to("ftp://x").is_none() && to("").is_none());
        // Another port is another server.
        assert_ne!(origin(from), origin("https://hub.example/a"));
        assert_eq!(origin("https://hub.example"), "https://hub.example");
    }
}
