//! Which servers are reached without the proxy: what `NO_PROXY` lists.
//!
//! There is no standard for it. As curl and Go read it: entries between commas or blanks, each a name that
//! stands for itself and for all below it (with or without `.` or `*.` before it), an address, a network
//! (`10.0.0.0/8`, `fd00::/8`), or `*` for all; one that ends in `:port` holds for that port alone. What is none
//! of these matches nothing.

use std::net::IpAddr;

use ureq::http::Uri;

/// The servers that no proxy stands before.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Bypass(Vec<Entry>);

#[derive(Debug, PartialEq)]
struct Entry {
    hosts: Hosts,
    /// The only port that is meant.
    port: Option<u16>,
}

#[derive(Debug, PartialEq)]
enum Hosts {
    All,
    /// Lower case, without a dot at either end.
    Name(String),
    /// Addresses whose first bits are these.
    Network(IpAddr, u32),
}

impl Bypass {
    pub(super) fn read(list: &str) -> Self {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace());
        Self(entries.filter(|entry| !entry.is_empty()).map(Entry::read).collect())
    }

    /// Whether the server of that address is reached directly.
    pub(super) fn covers(&self, url: &str) -> bool {
        let Ok(url) = url.parse::<Uri>() else { return false };
        let Some(host) = url.host() else { return false };
        let usual = if url.scheme_str() == Some("http") { 80 } else { 443 };
        let port = url.port_u16().unwrap_or(usual);
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let address = address(host);
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|own| own == port) && entry.hosts.hold(&name, address)
        })
    }
}

impl Entry {
    fn read(text: &str) -> Self {
        if let Some(hosts) = Hosts::network(text) {
            return Self { hosts, port: None };
        }
        let (host, port) = match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host, Some(port)),
            _ => (text, None),
        };
        let hosts = Hosts::network(host).unwrap_or_else(|| match host.trim_start_matches("*.") {
            "*" => Hosts::All,
            name => Hosts::Name(name.trim_matches('.').to_ascii_lowercase()),
        });
        Self { hosts, port }
    }
}

impl Hosts {
    /// An address, or a network by its address and the number of its leading bits.
    fn network(text: &str) -> Option<Self> {
        let (text, bits) = match text.split_once('/') {
            Some((text, bits)) => (text, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address = address(text)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self::Network(address, bits))
    }

    fn hold(&self, host: &str, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::All, _) => true,
            (Self::Name(name), None) => {
                let above = host.strip_suffix(name.as_str());
                !name.is_empty()
                    && above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            (Self::Network(IpAddr::V4(network), bits), Some(IpAddr::V4(found))) => {
                let differing = network.to_bits() ^ found.to_bits();
                differing.checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (Self::Network(IpAddr::V6(network), bits), Some(IpAddr::V6(found))) => {
                let differing = network.to_bits() ^ found.to_bits();
                differing.checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The address that a host is written as, in brackets or not; one of IPv4 within IPv6 is one of IPv4.
fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(list: &str, url: &str) -> bool {
        Bypass::read(list).covers(url)
    }

    #[test]
    fn a_name_stands_for_itself_and_for_all_below_it() {
        for list in ["inside.example", ".inside.example", "*.inside.example", "x Inside.Example."] {
            for url in ["https://inside.example/", "http://a.b.INSIDE.example:8080/x"] {
                assert!(covers(list, url), "{list} {url}");
            }
            for url in
                ["https://outside.example/", "https://not-inside.example/", "https://example"]
            {
                assert!(!covers(list, url), "{list} {url}");
            }
        }
        assert!(covers("*", "https://huggingface.co/") && covers("*", "http://[::1]:80/"));
        assert!(!covers("", "https://huggingface.co/") && !covers(".", "https://huggingface.co/"));
    }

    #[test]
    fn networks_hold_by_their_leading_bits_in_both_families() {
        for (list, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.1"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("172.16.5.9/32", "172.16.5.9", "172.16.5.8"),
            ("fd00::/8", "[fdab::1]", "[fe80::1]"),
            ("2001:db8::/33", "[2001:db8:7fff::1]", "[2001:db8:8000::1]"),
            ("::1", "[::1]", "[::2]"),
            ("10.0.0.0/8", "[::ffff:10.1.2.3]", "[::ffff:11.1.2.3]"),
        ] {
            assert!(covers(list, &format!("http://{inside}/")), "{list} {inside}");
            assert!(!covers(list, &format!("http://{outside}/")), "{list} {outside}");
        }
        assert!(covers("0.0.0.0/0", "http://8.8.8.8/") && !covers("0.0.0.0/0", "http://[::1]/"));
        assert!(covers("::/0", "http://[::1]/") && !covers("::/0", "http://8.8.8.8/"));
        // Neither a network nor the name of a host.
        for list in ["10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "10.0.0.0/8/8", "fd00::/129"] {
            assert!(!covers(list, "http://10.1.2.3/"), "{list}");
        }
        // Names are not looked up.
        assert!(!covers("10.0.0.0/8", "http://ten.example/"));
        // An address is below no other.
        assert!(!covers("0.0.1", "http://10.0.0.1/"));
    }

    #[test]
    fn a_port_makes_an_entry_hold_for_that_port_alone() {
        assert!(covers("mirror:8080", "http://mirror:8080/"));
        assert!(!covers("mirror:8080", "http://mirror/"));
        assert!(covers("mirror:443", "https://mirror/") && !covers("mirror:443", "http://mirror/"));
        assert!(covers("[::1]:80", "http://[::1]/") && !covers("[::1]:81", "http://[::1]/"));
        assert!(covers("10.0.0.0/8, mirror:1", "http://mirror:1/"));
    }
}
