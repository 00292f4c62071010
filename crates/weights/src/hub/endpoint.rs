//! The server that is asked, and the proxy on the way to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::Proxy;
use ureq::http::Uri;

use super::HubError;
use super::bypass::Bypass;
use super::environment::Environment;
use super::secrets::Secrets;

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";

/// A server's address, without the password that may stand in it.
pub(super) struct Endpoint {
    /// `https://host:port/path`, without a slash at its end.
    pub(super) address: String,
    /// The `Authorization` header of a user and a password in the address.
    pub(super) authorization: Option<String>,
}

impl Endpoint {
    /// Reads an address, or takes the public hub's where there is none.
    pub(super) fn read(text: Option<&str>, secrets: &mut Secrets) -> Result<Self, HubError> {
        let text = text.unwrap_or(PUBLIC).trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(invalid(secrets, text, "it begins with neither https:// nor http://"));
        };
        let scheme = scheme.to_ascii_lowercase();
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let mut authorization = None;
        if let Some(user) = user {
            let plain = decoded(user);
            secrets.add_user(user, &plain);
            authorization = Some(format!("Basic {}", STANDARD.encode(plain)));
        }
        let address = format!("{scheme}://{host}{}", path.trim_end_matches('/'));
        if !["http", "https"].contains(&scheme.as_str()) {
            return Err(invalid(secrets, &address, "it begins with neither https:// nor http://"));
        }
        let parsed =
            address.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|h| !h.is_empty()));
        // What stands after the host's colon must be a port.
        let is_off = |uri: &Uri| {
            let bare = uri.authority().map_or("", |authority| authority.as_str());
            let named = uri.host().is_some_and(|host| bare.len() > host.len());
            uri.query().is_some() || (named && uri.port_u16().is_none())
        };
        if parsed.is_none_or(|uri| is_off(&uri)) || path.contains('#') {
            return Err(invalid(secrets, &address, "it is no server's address"));
        }
        Ok(Self { address, authorization })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.address.starts_with("https:")
    }
}

fn invalid(secrets: &Secrets, text: &str, reason: &str) -> HubError {
    // A password stands before the last @, whatever else is wrong with the address.
    let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
    HubError::Endpoint { value: secrets.hide(shown), reason: reason.to_owned() }
}

/// The text with `%40` and the like as the bytes that they stand for.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// The proxy that the environment names for addresses of that scheme: `HTTPS_PROXY` or `HTTP_PROXY`, else
/// `ALL_PROXY`, in capitals or not; with it what `NO_PROXY` lists, which is reached without it.
pub(super) fn proxy(
    encrypted: bool,
    environment: &Environment<'_>,
    secrets: &mut Secrets,
) -> Result<Option<(Proxy, Bypass)>, HubError> {
    let own = if encrypted { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
    let mut variables = own.into_iter().chain(["all_proxy", "ALL_PROXY"]);
    let Some((name, value)) = variables.find_map(|name| Some((name, environment.value(name)?)))
    else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    let user = value.rsplit_once('@').map(|(user, _)| user);
    if let Some(user) = user {
        let user = user.split_once("://").map_or(user, |(_, user)| user);
        secrets.add_user(user, &decoded(user));
    }
    let unusable = || HubError::Proxy { variable: name.to_owned() };
    let proxy = Proxy::new(value.trim()).map_err(|_| unusable())?;
    let without = environment.value("no_proxy").or_else(|| environment.value("NO_PROXY"));
    let bypass = Bypass::read(&without.unwrap_or_default().to_string_lossy());
    Ok(Some((proxy, bypass)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn endpoint(text: &str) -> Result<Endpoint, String> {
        Endpoint::read(Some(text), &mut Secrets::default()).map_err(|error| error.to_string())
    }

    fn proxy_of(
        encrypted: bool,
        variables: &[(&str, &str)],
    ) -> Result<Option<(Proxy, Bypass)>, String> {
        let get = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let mut secrets = Secrets::default();
        proxy(encrypted, &Environment(&get), &mut secrets).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_loses_its_slash_and_its_password() {
        assert_eq!(endpoint("https://hub.example/").unwrap().address, "https://hub.example");
        let mirror = endpoint("http://me:p%40ss@10.0.0.1:8080/api/hf/").unwrap();
        assert_eq!(mirror.address, "http://10.0.0.1:8080/api/hf");
        assert_eq!(mirror.authorization.unwrap(), format!("Basic {}", STANDARD.encode("me:p@ss")));
        let public = Endpoint::read(None, &mut Secrets::default()).unwrap();
        assert_eq!(public.address, PUBLIC);
        assert!(public.is_encrypted() && public.authorization.is_none());
    }

    #[test]
    fn an_address_without_a_scheme_or_a_host_is_named_without_its_password() {
        for text in [
            "hub.example",
            "me:password@hub.example",
            "ftp://me:password@hub.example",
            "https://",
            "http:///x",
            "http://me:password@a b",
            "http://me:password@hub.example:99999",
            "http://me:password@hub.example:",
        ] {
            let error = endpoint(text).err().unwrap();
            assert!(error.contains("HF_ENDPOINT") && !error.contains("password"), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_that_of_the_scheme_and_not_for_the_hosts_left_out() {
        let all = [
            ("HTTPS_PROXY", "http://me:word@secure:1"),
            ("http_proxy", "http://plain:2"),
            ("NO_PROXY", "localhost, .inside.example,127.0.0.0/8"),
        ];
        let (secure, bypass) = proxy_of(true, &all).unwrap().unwrap();
        assert_eq!((secure.host(), secure.port()), ("secure", 1));
        assert_eq!((secure.username(), secure.password()), (Some("me"), Some("word")));
        let (plain, _) = proxy_of(false, &all).unwrap().unwrap();
        assert_eq!((plain.host(), plain.port()), ("plain", 2));
        let direct = |address: &str| bypass.covers(address);
        assert!(direct("https://localhost/x") && direct("https://127.0.0.1/"));
        assert!(direct("https://inside.example/") && direct("https://a.inside.example/"));
        assert!(!direct("https://huggingface.co/"));
        assert!(proxy_of(true, &[("http_proxy", "http://plain:2")]).unwrap().is_none());
        assert!(proxy_of(true, &[("ALL_PROXY", "http://any:3")]).unwrap().is_some());
        assert!(proxy_of(true, &[("HTTPS_PROXY", "")]).unwrap().is_none());
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_and_not_shown() {
        let error = proxy_of(true, &[("HTTPS_PROXY", "ftp://me:password@x")]).err().unwrap();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("password"), "{error}");
    }
}
