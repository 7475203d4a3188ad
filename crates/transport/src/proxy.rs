//! [`Proxy`]: a forward proxy that reaches an address by `CONNECT`.
//!
//! The proxies of the environment are read in [`crate::proxy_environment`]; the request is in
//! [`crate::http_upgrade`].

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use farcall_protocol::text;

use crate::address::Address;
use crate::address_error::AddressError;

/// A forward proxy, written `http://proxy:3128`, or `http://user:password@proxy:3128`.
///
/// A text without a scheme means `http://`, and one without a port means port 80. What in a user's
/// name or a password is one of `@:/%` is written with a percent sign, as in any URL. The text of
/// the proxy itself, for logs, leaves the credentials out. A clone is cheap.
///
/// ```
/// use farcall_transport::Proxy;
///
/// let proxy = Proxy::parse("http://me:s%40cret@proxy.example:3128")?;
/// assert_eq!(proxy.to_string(), "http://proxy.example:3128");
/// # Ok::<(), farcall_transport::ProxyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    address: Address,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Arc<str>>,
}

/// The characters of an unknown scheme that an error keeps.
const MAX_SCHEME_CHARS: usize = 20;

/// The reason why a text is not a [`Proxy`]. The text is not quoted: it may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// A proxy that is reached in another way: `https://`, `socks5://`.
    #[error("a proxy must be http://host:port; {scheme}:// is not built in")]
    Scheme {
        /// The scheme that it begins with, cut short.
        scheme: String,
    },
    /// The host or port is none.
    #[error("the proxy: {0}")]
    Address(AddressError),
    /// A path, a query or a fragment.
    #[error("a proxy has no path: write http://host:port")]
    Path,
    /// The user's name or the password is not what a URL may have.
    #[error("the proxy's user name or password has a percent sign without two hexadecimal digits behind it")]
    Percent,
    /// The user's name has a colon in it, which Basic credentials cannot contain
    /// ([RFC 7617](https://www.rfc-editor.org/rfc/rfc7617#section-2)).
    #[error("the proxy's user name has a colon in it")]
    Colon,
}

impl Proxy {
    /// Reads a proxy's text.
    ///
    /// # Errors
    ///
    /// A [`ProxyError`] with the reason.
    pub fn parse(text: &str) -> Result<Proxy, ProxyError> {
        let place = match text.split_once("://") {
            None => text,
            Some((scheme, place)) if scheme.eq_ignore_ascii_case("http") => place,
            Some((scheme, _)) => {
                let scheme = text::excerpt(scheme, MAX_SCHEME_CHARS);
                return Err(ProxyError::Scheme { scheme });
            }
        };
        let (credentials, place) = match place.rsplit_once('@') {
            None => (None, place),
            Some((credentials, place)) => (Some(credentials), place),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains(['/', '?', '#']) {
            return Err(ProxyError::Path);
        }
        let address = match Address::parse(place) {
            Err(AddressError::MissingPort { .. }) => Address::parse(&format!("{place}:80")),
            parsed => parsed,
        };
        let address = address.map_err(ProxyError::Address)?;
        let authorization = credentials.map(basic).transpose()?;
        Ok(Proxy { address, authorization })
    }

    /// Returns the proxy's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

impl TryFrom<&str> for Proxy {
    type Error = ProxyError;

    fn try_from(text: &str) -> Result<Proxy, ProxyError> {
        Proxy::parse(text)
    }
}

impl TryFrom<String> for Proxy {
    type Error = ProxyError;

    fn try_from(text: String) -> Result<Proxy, ProxyError> {
        Proxy::parse(&text)
    }
}

/// Without the credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.to_string();
        write!(f, "http://{}", address.strip_prefix("tcp@").unwrap_or(&address))
    }
}

/// Without the credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Basic credentials of `user:password`, as the header has them.
fn basic(credentials: &str) -> Result<Arc<str>, ProxyError> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
    if user.contains(&b':') {
        return Err(ProxyError::Colon);
    }
    let both = [user.as_slice(), b":", &password].concat();
    Ok(format!("Basic {}", BASE64_STANDARD.encode(both)).into())
}

fn percent_decoded(text: &str) -> Result<Vec<u8>, ProxyError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(ProxyError::Percent) };
        decoded.push((high * 16 + low) as u8);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_is_a_url_or_host_and_port() {
        for (text, address) in [
            ("http://proxy.example:3128", "tcp@proxy.example:3128"),
            ("HTTP://Proxy.example:3128/", "tcp@proxy.example:3128"),
            ("proxy.example:3128", "tcp@proxy.example:3128"),
            ("http://proxy.example", "tcp@proxy.example:80"),
            ("http://[::1]", "tcp@[::1]:80"),
            ("http://u:p@[::1]:3128", "tcp@[::1]:3128"),
        ] {
            assert_eq!(Proxy::parse(text).unwrap().address().to_string(), address, "{text}");
        }
    }

    #[test]
    fn credentials_are_sent_as_basic_and_never_displayed() {
        let proxy = Proxy::parse("http://Aladdin:open%20sesame@proxy:80").unwrap();
        // The example of RFC 7617.
        assert_eq!(proxy.authorization(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy:80 Proxy(http://proxy:80)");
        let proxy = Proxy::parse("http://only@proxy:80").unwrap();
        assert_eq!(proxy.authorization(), Some("Basic b25seTo="));
        // A password with an unescaped `@`.
        let proxy = Proxy::parse("http://u:p@ss@proxy:80").unwrap();
        assert_eq!(proxy.authorization(), Some("Basic dTpwQHNz"));
    }

    #[test]
    fn proxy_errors_never_show_the_password() {
        for (text, part) in [
            ("https://u:secret@proxy:80", "https:// is not built in"),
            ("socks5://u:secret@proxy:80", "socks5:// is not built in"),
            ("http://u:secret@proxy:99999", "bad port"),
            ("http://u:secret@proxy:80/path", "no path"),
            ("http://u:secret%4@proxy:80", "percent"),
            ("http://u:%+1secret@proxy:80", "percent"),
            ("http://a%3Ab:secret@proxy:80", "colon"),
            ("http://", "empty"),
            ("", "empty"),
        ] {
            let error = Proxy::parse(text).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
