//! The errors in the text of an address, worded so that they can be shown to everyone.
//!
//! The parsing itself is in [`crate::address`]; here is only how its failures read.

use std::convert::Infallible;

use farcall_protocol::text::Excerpt;

use crate::scheme::{KnownSchemes, Scheme};

/// The reason why a text is not an [`Address`](crate::Address).
///
/// The text of an error quotes its input escaped and cut short, so it is safe to log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no text at all.
    #[error("the address is empty; write host:port or scheme@where")]
    Empty,
    /// The text is longer than any address may be.
    #[error("the address is {len} bytes long; at most {limit} are allowed")]
    TooLong {
        /// The length, in bytes.
        len: usize,
        /// The maximum length, in bytes.
        limit: usize,
    },
    /// A control character, white space or a comma, which lists of addresses need for themselves.
    #[error("address {text}: {character:?} at byte {at} is not allowed")]
    ForbiddenCharacter {
        /// The whole address.
        text: Excerpt,
        /// The first such character.
        character: char,
        /// The position of its first byte, from 0.
        at: usize,
    },
    /// The part before the `@` is not a scheme of farcall.
    #[error("address {text}: unknown scheme {scheme}; known are {KnownSchemes}")]
    UnknownScheme {
        /// The whole address.
        text: Excerpt,
        /// The part before the `@`.
        scheme: Excerpt,
    },
    /// The text is written like a URL, which an address is not.
    #[error(
        "address {text}: it is written like a URL, and an address is written scheme@where: try {instead}"
    )]
    Url {
        /// The whole address.
        text: Excerpt,
        /// The address that is likely to be meant.
        instead: Excerpt,
    },
    /// Nothing stands before the port.
    #[error("address {text}: the host is empty")]
    EmptyHost {
        /// The whole address.
        text: Excerpt,
    },
    /// The host is neither a name nor an IP address.
    #[error("address {text}: bad host {host}: {kind}")]
    BadHost {
        /// The whole address.
        text: Excerpt,
        /// The part taken for the host.
        host: Excerpt,
        /// The error in it.
        kind: HostErrorKind,
    },
    /// No `:port` follows the host.
    #[error("address {text}: the port is missing; write host:port")]
    MissingPort {
        /// The whole address.
        text: Excerpt,
    },
    /// The port is no number from 0 to 65535.
    #[error("address {text}: bad port {port}; it must be a number from 0 to 65535")]
    BadPort {
        /// The whole address.
        text: Excerpt,
        /// The part taken for the port.
        port: Excerpt,
    },
    /// The path of a `unix` address doesn't begin with `/`.
    #[error("address {text}: the path of a {} address must begin with /", Scheme::Unix)]
    RelativePath {
        /// The whole address.
        text: Excerpt,
    },
    /// The path of a `unix` address is longer than a socket address can hold.
    #[error("address {text}: the path is {len} bytes long; at most {limit} are allowed")]
    PathTooLong {
        /// The whole address.
        text: Excerpt,
        /// The length of the path, in bytes.
        len: usize,
        /// The maximum length, in bytes.
        limit: usize,
    },
    /// A path given as such is not UTF-8, so no address can be written for it.
    #[error("the path {path} is not UTF-8")]
    PathNotUtf8 {
        /// The path, with what is not UTF-8 replaced.
        path: Excerpt,
    },
}

/// An address made from an address can't fail; this lets a function take anything that is
/// `TryInto<Address>`, an address among them.
impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> AddressError {
        match never {}
    }
}

/// An error in a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostErrorKind {
    /// A character that names don't have. International names are written in punycode.
    #[error("a name has only ASCII letters, digits, '-', '_' and '.'")]
    Character,
    /// A name with an empty part, as in `a..b`.
    #[error("two dots in a row, or one at the beginning")]
    EmptyLabel,
    /// Longer than 253 bytes, or with a part longer than 63 (RFC 1035, section 2.3.4).
    #[error("a name has at most 253 bytes, and 63 between dots")]
    TooLong,
    /// A text that ends like an IPv4 address and is not one. Resolvers read such texts each in their own
    /// way: to some, `127.1` is the loopback address.
    #[error("it looks like an IPv4 address and is none")]
    NotIpv4,
    /// A text in brackets that is not an IPv6 address.
    #[error("what is in brackets must be an IPv6 address")]
    NotIpv6,
    /// An IPv6 address without brackets.
    #[error("an IPv6 address must be in brackets")]
    NoBrackets,
    /// A colon in a text that is no IPv6 address.
    #[error("a name or IPv4 address has no ':', and only one port follows it")]
    Colon,
    /// A bracket opens and doesn't close, or something other than a port follows it.
    #[error("expected [address]:port")]
    Brackets,
}
