//! The proxies of the environment: `http_proxy` and its relatives, and `no_proxy`.
//!
//! There is no standard for these. Where programs differ, this follows what curl and Go have in
//! common, and reads nothing into a text that only some would.

use std::net::IpAddr;

use crate::address::Address;
use crate::proxy::{Proxy, ProxyError};
use crate::scheme::Scheme;

/// The proxy that the environment has for an address, if any.
///
/// # Errors
///
/// The variable whose value is no proxy, and what is wrong with it.
pub(crate) fn proxy_for(
    address: &Address,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, (&'static str, ProxyError)> {
    let names: &[&str] = match address.scheme() {
        // Who runs this as a CGI program chooses the value of HTTP_PROXY by a header `Proxy`.
        Scheme::Http | Scheme::Connect | Scheme::Ws if variable("REQUEST_METHOD").is_some() => {
            &["http_proxy", "all_proxy", "ALL_PROXY"]
        }
        Scheme::Http | Scheme::Connect | Scheme::Ws => {
            &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
        }
        Scheme::Https | Scheme::Wss => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        // Nobody who sets these thinks of anything but HTTP.
        Scheme::Tcp | Scheme::Tls | Scheme::Unix => return Ok(None),
    };
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let Some((name, value)) = names.iter().find_map(|&name| Some((name, set(name)?))) else {
        return Ok(None);
    };
    let exceptions = set("no_proxy").or_else(|| set("NO_PROXY")).unwrap_or_default();
    if is_excepted(address, &exceptions) {
        return Ok(None);
    }
    Proxy::parse(value.trim()).map(Some).map_err(|error| (name, error))
}

/// Returns `true` if an address is reached without a proxy: it is on this machine, or in the list.
fn is_excepted(address: &Address, list: &str) -> bool {
    let host = address.host().unwrap_or_default();
    let host = host.split('%').next().unwrap_or(host).trim_end_matches('.');
    let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    let mut entries = list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty());
    entries.any(|entry| match ip {
        _ if entry == "*" => true,
        Some(ip) => is_ip_in(ip, address.port(), entry),
        None => is_name_in(host, address.port(), entry),
    })
}

/// Returns `true` if an entry is this address, or a network with it in, as `10.0.0.0/8`.
fn is_ip_in(ip: IpAddr, port: Option<u16>, entry: &str) -> bool {
    if let Some((network, bits)) = entry.split_once('/') {
        let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
        return match (ip, network) {
            (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
                (ip.to_bits() ^ network.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
                (ip.to_bits() ^ network.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        };
    }
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    if let Ok(listed) = bare.parse::<IpAddr>() {
        return listed.to_canonical() == ip;
    }
    let listed = entry.parse::<std::net::SocketAddr>();
    listed.is_ok_and(|listed| listed.ip().to_canonical() == ip && Some(listed.port()) == port)
}

/// Returns `true` if an entry is this name, or one above it: `example.com` and `.example.com` both mean
/// `a.example.com` too.
fn is_name_in(name: &str, port: Option<u16>, entry: &str) -> bool {
    let (listed, listed_port) = match entry.rsplit_once(':') {
        Some((listed, digits)) => (listed, Some(digits)),
        None => (entry, None),
    };
    if listed_port.is_some_and(|digits| digits.parse().ok() != port) {
        return false;
    }
    let listed = listed.strip_prefix("*.").or_else(|| listed.strip_prefix('.')).unwrap_or(listed);
    let listed = listed.trim_end_matches('.').to_ascii_lowercase();
    let above = name.strip_suffix(&listed).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !listed.is_empty() && above
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(address: &str, variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        let address = Address::parse(address).unwrap();
        proxy_for(&address, variable).unwrap().map(|proxy| proxy.address().host().unwrap().to_owned())
    }

    #[test]
    fn each_scheme_has_its_variable_and_all_proxy_is_for_the_rest() {
        let all = [("http_proxy", "a:1"), ("HTTPS_PROXY", "http://b:1"), ("ALL_PROXY", "c:1")];
        for (address, proxy) in [
            ("http@x.example:1", Some("a")),
            ("connect@x.example:1", Some("a")),
            ("ws@x.example:1", Some("a")),
            ("https@x.example:1", Some("b")),
            ("wss@x.example:1", Some("b")),
            ("tcp@x.example:1", None),
            ("tls@x.example:1", None),
            ("unix@/x", None),
        ] {
            assert_eq!(chosen(address, &all).as_deref(), proxy, "{address}");
        }
        assert_eq!(chosen("ws@x.example:1", &all[2..]).as_deref(), Some("c"));
        assert_eq!(
            chosen("http@x.example:1", &[("http_proxy", ""), ("HTTP_PROXY", "d:1")]).as_deref(),
            Some("d")
        );
        assert_eq!(chosen("http@x.example:1", &[]), None);
    }

    #[test]
    fn http_proxy_in_capitals_is_ignored_in_a_cgi_program() {
        let variables = [("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen("http@x.example:1", &variables), None);
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy() {
        for address in ["http@localhost:1", "http@127.0.0.1:1", "http@127.9.9.9:1", "http@[::1]:1"] {
            assert_eq!(chosen(address, &[("http_proxy", "a:1")]), None, "{address}");
        }
    }

    #[test]
    fn no_proxy_has_names_addresses_networks_and_ports() {
        for (address, list, direct) in [
            ("http@x.example:1", "*", true),
            ("http@x.example:1", "example", true),
            ("http@x.example:1", ".example", true),
            ("http@x.example:1", "*.Example", true),
            ("http@x.example:1", "a, x.example ,b", true),
            ("http@x.example:1", "ample", false),
            ("http@x.example:1", "x.example:1", true),
            ("http@x.example:1", "x.example:2", false),
            ("http@x.example:1", "", false),
            ("http@x.example:1", ".", false),
            ("http@10.1.2.3:1", "10.0.0.0/8", true),
            ("http@10.1.2.3:1", "10.0.0.0/16", false),
            ("http@10.1.2.3:1", "0.0.0.0/0", true),
            ("http@10.1.2.3:1", "10.0.0.0/99", false),
            ("http@10.1.2.3:1", "10.1.2.3", true),
            ("http@10.1.2.3:1", "10.1.2.3:2", false),
            ("http@10.1.2.3:1", "2.3", false),
            ("http@[fd00::1]:1", "fd00::/8", true),
            ("http@[fd00::1]:1", "[fd00::1]", true),
            ("http@[fd00::1]:1", "[fd00::1]:1", true),
            ("http@[fd00::1]:1", "fd00::2", false),
        ] {
            let variables = [("http_proxy", "p:1"), ("NO_PROXY", list)];
            assert_eq!(chosen(address, &variables).is_none(), direct, "{address} {list}");
        }
    }

    #[test]
    fn error_names_the_malformed_variable() {
        let address = Address::parse("http@x.example:1").unwrap();
        let variable = |name: &str| (name == "all_proxy").then(|| "socks5://a:1".to_owned());
        assert_eq!(proxy_for(&address, variable).unwrap_err().0, "all_proxy");
    }
}
