//! Where the daemon may be sent to. Pure.
//!
//! A webhook's address is somebody's text, and the daemon stands where they may not: in the network of
//! the hosts. So its host must be listed in the configuration, and the addresses that the name has at
//! the moment of the call must be public ones, unless private ones are allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Names, or `*.example.com` for all below one.
    pub hosts: Vec<String>,
    pub allow_private: bool,
    pub allow_http: bool,
}

/// Why a target is refused; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAllowed(pub String);

/// A target whose text is in order; its addresses are still to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub url: Url,
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl Targets {
    pub fn check(&self, text: &str) -> Result<Target, NotAllowed> {
        let refuse = |why: String| Err(NotAllowed(why));
        if text.len() > 2048 || text.chars().any(char::is_control) {
            return refuse("a URL has at most 2048 characters and no control characters".into());
        }
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return refuse(format!("{text:?} is not a URL: {error}")),
        };
        let tls = match url.scheme() {
            "https" => true,
            "http" if self.allow_http => false,
            scheme => {
                return refuse(format!(
                    "the scheme {scheme:?} is not allowed; use https (api.webhooks.allow_http allows http)"
                ));
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse(
                "a URL must not contain credentials: messages are signed instead".into(),
            );
        }
        if url.fragment().is_some() {
            return refuse("a URL's fragment is not sent; leave it out".into());
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return refuse(format!("{text:?} has no host"));
        };
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        if !self.lists(&host) {
            return refuse(format!(
                "the host {host} is not among api.webhooks.targets of the configuration: {}",
                if self.hosts.is_empty() {
                    "none is".to_owned()
                } else {
                    self.hosts.join(", ")
                }
            ));
        }
        if let Ok(address) = host.parse() {
            self.admit(address)?;
        }
        Ok(Target {
            host,
            port,
            tls,
            url,
        })
    }

    fn lists(&self, host: &str) -> bool {
        self.hosts.iter().any(|listed| {
            let listed = listed.to_ascii_lowercase();
            match listed.strip_prefix("*.") {
                Some(parent) => host
                    .strip_suffix(parent)
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
                None => listed == host,
            }
        })
    }

    /// Whether the daemon may connect to an address.
    pub fn admit(&self, address: IpAddr) -> Result<(), NotAllowed> {
        if self.allow_private || is_public(address) {
            return Ok(());
        }
        Err(NotAllowed(format!(
            "{address} is an address of a private network or of this host; api.webhooks.allow_private would allow it"
        )))
    }
}

/// Reachable from everywhere: not one of the special-purpose ranges of RFC 6890 and the IANA registries.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b)) // shared, RFC 6598
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 198 && (b == 18 || b == 19)) // benchmarks, RFC 2544
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let [x, y] = high.to_be_bytes();
        let [z, w] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(x, y, z, w))
    };
    // Addresses that carry one of IPv4 are what that is.
    if [a, b, c, d, e] == [0; 5] && f == 0xffff {
        return embedded(g, h);
    }
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return embedded(g, h);
    }
    if a == 0x2002 {
        return embedded(b, c);
    }
    // Global unicast is 2000::/3; of it, 2001::/23 is for protocols (Teredo is there) and 2001:db8::/32
    // and 3fff::/20 are for books.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x200)
        && !(a == 0x2001 && b == 0xdb8)
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.1.2.3",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "2001:4860::8888",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn only_listed_hosts_by_https() {
        let targets = Targets {
            hosts: vec![
                "hooks.example.com".into(),
                "*.corp.example".into(),
                "1.1.1.1".into(),
                "127.0.0.1".into(),
                "::1".into(),
            ],
            ..Targets::default()
        };
        for good in [
            "https://hooks.example.com/x",
            "https://HOOKS.example.com:8443/",
            "https://a.b.corp.example/y?z",
            "https://1.1.1.1/",
        ] {
            assert!(targets.check(good).is_ok(), "{good}");
        }
        for bad in [
            "https://example.com/",
            "https://corp.example/",
            "https://evilcorp.example/",
            "https://.corp.example/",
            "https://hooks.example.com.evil.org/",
            "http://hooks.example.com/",
            "ftp://hooks.example.com/",
            "file:///etc/passwd",
            "https://user@hooks.example.com/",
            "https://u:p@hooks.example.com/",
            "https://hooks.example.com/#x",
            "https://hooks.example.com@evil.org/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "hooks.example.com",
            "https://hooks.example.com/\n",
        ] {
            assert!(targets.check(bad).is_err(), "{bad}");
        }
        let open = Targets {
            allow_private: true,
            allow_http: true,
            ..targets
        };
        assert!(open.check("http://127.0.0.1:9/").is_ok());
        assert!(open.check("http://[::1]:9/").is_ok());
        assert!(
            open.check("http://10.0.0.1/").is_err(),
            "allowed, but not listed"
        );
    }
}
