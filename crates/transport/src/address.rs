//! [`Address`], a place to dial or to listen at, and the parsing of its text.
//!
//! An address that exists is well-formed. Finding out if a server is there is left to
//! [`Dialer`](crate::Dialer).

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use farcall_protocol::text::Excerpt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::address_error::{AddressError, HostErrorKind};
use crate::host;
use crate::scheme::Scheme;

/// A place to dial or to listen at, written `scheme@where`.
///
/// A bare `host:port` means `tcp@host:port`; an IPv6 address is in brackets; `unix` takes an
/// absolute path. [`Display`](fmt::Display) gives the canonical form: always with a scheme,
/// names in lower case, IP addresses in their shortest form. Two addresses are equal if their
/// canonical forms are. A clone costs one reference count.
///
/// With serde an address is a string.
///
/// ```
/// use farcall_transport::{Address, Scheme};
///
/// let address = Address::parse("LOCALHOST:7001")?;
/// assert_eq!(address.to_string(), "tcp@localhost:7001");
/// assert_eq!(address.scheme(), Scheme::Tcp);
///
/// let address = Address::parse("tls@[::0001]:443")?;
/// assert_eq!((address.host(), address.port()), (Some("::1"), Some(443)));
/// # Ok::<(), farcall_transport::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    scheme: Scheme,
    place: Place,
}

/// The part after the `@`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    /// The host is a name in lower case, or an IP address in its shortest form, without brackets.
    Net { host: Arc<str>, port: u16 },
    /// An absolute path.
    File(Arc<str>),
}

impl Address {
    /// The longest text that is read as an address, in bytes.
    pub const MAX_LEN: usize = 512;

    /// The longest path of a `unix` address, in bytes: what fits into `sun_path` on Linux with
    /// the zero byte that ends it.
    pub const MAX_PATH_LEN: usize = 107;

    /// Reads an address.
    ///
    /// # Errors
    ///
    /// An [`AddressError`] with the error and its position.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        check_characters(text)?;
        check_not_url(text)?;
        let (scheme, place) = match text.split_once('@') {
            None => (Scheme::Tcp, text),
            Some((name, place)) => {
                let scheme = Scheme::named(name).ok_or_else(|| AddressError::UnknownScheme {
                    text: Excerpt::new(text),
                    scheme: Excerpt::new(name),
                })?;
                (scheme, place)
            }
        };
        let place = match scheme {
            Scheme::Unix => parse_file(text, place)?,
            _ => parse_net(text, place)?,
        };
        Ok(Address { scheme, place })
    }

    /// The `tcp` address of a socket. The flow label of an IPv6 address is dropped.
    pub fn tcp(address: SocketAddr) -> Address {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            _ => address.ip().to_string(),
        };
        let place = Place::Net { host: host.into(), port: address.port() };
        Address { scheme: Scheme::Tcp, place }
    }

    /// The `unix` address of a path.
    ///
    /// # Errors
    ///
    /// If the path is relative, longer than [`Address::MAX_PATH_LEN`], not UTF-8, or has a
    /// character that no address may have.
    pub fn unix(path: impl AsRef<Path>) -> Result<Address, AddressError> {
        let path = path.as_ref();
        let text = path
            .to_str()
            .ok_or_else(|| AddressError::PathNotUtf8 { path: Excerpt::new(&path.to_string_lossy()) })?;
        Address::parse(&format!("{}@{text}", Scheme::Unix))
    }

    /// Returns the scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, without brackets; `None` for a `unix` address.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Net { host, .. } => Some(host),
            Place::File(_) => None,
        }
    }

    /// The port; `None` for a `unix` address.
    pub fn port(&self) -> Option<u16> {
        match self.place {
            Place::Net { port, .. } => Some(port),
            Place::File(_) => None,
        }
    }

    /// The same address with another port; a `unix` address, which has none, stays as it is.
    #[must_use]
    pub fn with_port(mut self, to: u16) -> Address {
        if let Place::Net { port, .. } = &mut self.place {
            *port = to;
        }
        self
    }

    /// The same host and port by another scheme; a `unix` address, which has none, stays as it is,
    /// and so does any other that is asked to become one.
    #[must_use]
    pub fn with_scheme(mut self, to: Scheme) -> Address {
        if self.scheme != Scheme::Unix && to != Scheme::Unix {
            self.scheme = to;
        }
        self
    }

    /// The path of a `unix` address; `None` for any other.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Net { .. } => None,
            Place::File(path) => Some(Path::new(&**path)),
        }
    }

    /// The socket address, if the host is an IP address. `None` if it is a name, or has a zone
    /// that is a name, as in `[fe80::1%eth0]`.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let Place::Net { host, port } = &self.place else {
            return None;
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, *port));
        }
        let (ip, zone) = host.split_once('%')?;
        let scope_id = zone.parse().ok()?;
        Some(SocketAddrV6::new(ip.parse().ok()?, *port, 0, scope_id).into())
    }

    /// Returns `true` if the address leaves its place open: port 0, or an IP address like `0.0.0.0` or
    /// `[::]`. One can listen at such an address, but neither dial nor advertise it.
    pub fn is_unspecified(&self) -> bool {
        let Place::Net { host, port } = &self.place else {
            return false;
        };
        let ip = host.split('%').next().and_then(|ip| ip.parse::<IpAddr>().ok());
        *port == 0 || ip.is_some_and(|ip| ip.to_canonical().is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme;
        match &self.place {
            Place::Net { host, port } if host.contains(':') => {
                write!(f, "{scheme}@[{host}]:{port}")
            }
            Place::Net { host, port } => write!(f, "{scheme}@{host}:{port}"),
            Place::File(path) => write!(f, "{scheme}@{path}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        Address::parse(&text)
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Address, AddressError> {
        Address::parse(text)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Address {
        address.clone()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::tcp(address)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        let text = String::deserialize(deserializer)?;
        Address::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn check_characters(text: &str) -> Result<(), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.len() > Address::MAX_LEN {
        return Err(AddressError::TooLong { len: text.len(), limit: Address::MAX_LEN });
    }
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || c == ',';
    match text.char_indices().find(|&(_, c)| forbidden(c)) {
        None => Ok(()),
        Some((at, character)) => {
            Err(AddressError::ForbiddenCharacter { text: Excerpt::new(text), character, at })
        }
    }
}

/// Checks that a text is not written like a URL: `http://host:80`, `unix:/path` or `tcp:host:80`.
fn check_not_url(text: &str) -> Result<(), AddressError> {
    // A path may contain anything.
    let place = match text.split_once('@') {
        Some((scheme, _)) if Scheme::named(scheme) == Some(Scheme::Unix) => return Ok(()),
        Some((scheme, place)) if Scheme::named(scheme).is_some() => place,
        _ => text,
    };
    let Some((name, rest)) = place.split_once(':') else { return Ok(()) };
    let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.as_str().eq_ignore_ascii_case(name));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if name.is_empty() || !name.bytes().all(is_name) {
        return Ok(());
    }
    let unknown = || AddressError::UnknownScheme { text: Excerpt::new(text), scheme: Excerpt::new(name) };
    let (scheme, rest) = match (rest.strip_prefix("//"), scheme) {
        (Some(rest), Some(scheme)) => (scheme, rest),
        (Some(_), None) => return Err(unknown()),
        // A host may have the name of a scheme: `http:80`.
        (None, Some(scheme)) if rest.contains([':', '/']) => (scheme, rest),
        (None, _) => return Ok(()),
    };
    let instead = if scheme == Scheme::Unix {
        format!("{scheme}@{rest}")
    } else {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let authority = authority.rsplit_once('@').map_or(authority, |(_credentials, authority)| authority);
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = if has_port { "" } else { default_port(scheme) };
        format!("{scheme}@{authority}{port}")
    };
    Err(AddressError::Url { text: Excerpt::new(text), instead: Excerpt::new(&instead) })
}

/// Returns the port that a URL leaves out, and a colon before it.
fn default_port(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http | Scheme::Ws | Scheme::Connect => ":80",
        Scheme::Https | Scheme::Wss => ":443",
        Scheme::Tcp | Scheme::Tls | Scheme::Unix => ":PORT",
    }
}

fn parse_file(text: &str, path: &str) -> Result<Place, AddressError> {
    let limit = Address::MAX_PATH_LEN;
    if !path.starts_with('/') {
        return Err(AddressError::RelativePath { text: Excerpt::new(text) });
    }
    if path.len() > limit {
        return Err(AddressError::PathTooLong { text: Excerpt::new(text), len: path.len(), limit });
    }
    Ok(Place::File(path.into()))
}

fn parse_net(text: &str, place: &str) -> Result<Place, AddressError> {
    let bad_host =
        |host: &str, kind| AddressError::BadHost { text: Excerpt::new(text), host: Excerpt::new(host), kind };
    let missing_port = || AddressError::MissingPort { text: Excerpt::new(text) };

    let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
        let brackets = || bad_host(place, HostErrorKind::Brackets);
        let (host, rest) = bracketed.split_once(']').ok_or_else(brackets)?;
        let host = host::bracketed(host).map_err(|kind| bad_host(host, kind))?;
        if rest.is_empty() {
            return Err(missing_port());
        }
        (host, rest.strip_prefix(':').ok_or_else(brackets)?)
    } else {
        let (host, port) = place.rsplit_once(':').ok_or_else(missing_port)?;
        if host.is_empty() {
            return Err(AddressError::EmptyHost { text: Excerpt::new(text) });
        }
        (host::plain(host).map_err(|kind| bad_host(host, kind))?, port)
    };
    if port.is_empty() {
        return Err(missing_port());
    }
    // `u16::from_str` would also take a plus sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|_| digits);
    let port =
        number.ok_or_else(|| AddressError::BadPort { text: Excerpt::new(text), port: Excerpt::new(port) })?;
    Ok(Place::Net { host: host.into(), port })
}

#[cfg(test)]
mod tests;
