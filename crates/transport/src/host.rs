//! The host of an address: an IP address or a name, in its canonical form.
//!
//! Finding the port, and so the end of the host, is left to [`crate::address`].

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::address_error::HostErrorKind;

const MAX_NAME_LEN: usize = 253; // RFC 1035, section 2.3.4, as text
const MAX_LABEL_LEN: usize = 63; // the same

/// Reads what stands in brackets, with its zone if it has one (RFC 4007, section 11).
pub(crate) fn bracketed(host: &str) -> Result<String, HostErrorKind> {
    let (ip, zone) = match host.split_once('%') {
        None => (host, None),
        Some((ip, zone)) => (ip, Some(zone)),
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| HostErrorKind::NotIpv6)?;
    match zone {
        None => Ok(ip.to_string()),
        Some(zone) if !zone.is_empty() && zone.bytes().all(in_name) => Ok(format!("{ip}%{zone}")),
        Some(_) => Err(HostErrorKind::NotIpv6),
    }
}

/// Reads an IPv4 address or a name.
pub(crate) fn plain(host: &str) -> Result<String, HostErrorKind> {
    if host.contains(':') {
        let ip = host.split('%').next().unwrap_or(host);
        let is_ipv6 = host.contains("::") || ip.parse::<Ipv6Addr>().is_ok();
        return Err(if is_ipv6 { HostErrorKind::NoBrackets } else { HostErrorKind::Colon });
    }
    if !host.bytes().all(in_name) {
        return Err(HostErrorKind::Character);
    }
    // One dot at the end keeps a resolver from trying its search list.
    let labels = host.strip_suffix('.').unwrap_or(host);
    if labels.split('.').any(str::is_empty) {
        return Err(HostErrorKind::EmptyLabel);
    }
    if labels.len() > MAX_NAME_LEN || labels.split('.').any(|label| label.len() > MAX_LABEL_LEN) {
        return Err(HostErrorKind::TooLong);
    }
    if labels.rsplit('.').next().is_some_and(is_number) {
        let ip: Ipv4Addr = host.parse().map_err(|_| HostErrorKind::NotIpv4)?;
        return Ok(ip.to_string());
    }
    Ok(host.to_ascii_lowercase())
}

/// Returns `true` if the last label of a host makes it an IPv4 address, as the URL standard decides it:
/// <https://url.spec.whatwg.org/#ends-in-a-number-checker>.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Returns `true` if a name or a zone may have this byte. The underscore is in no host name by the
/// standard, but in many on private networks.
fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
