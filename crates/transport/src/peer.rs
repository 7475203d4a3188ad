//! [`PeerAddress`], who is on the other side of a stream that was accepted; [`PeerKey`], which of them count as one.
//!
//! The source is the kernel, not the peer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The other side of a stream, as far as the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddress {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A process on this machine, by way of a Unix socket.
    #[non_exhaustive]
    Unix {
        /// The process that connected, if the kernel knows it. It may have ended since, and
        /// another may have its number.
        pid: Option<i32>,
        /// The user it ran as when it connected, if the kernel knows it.
        uid: Option<u32>,
    },
    /// This process, by way of a pipe in memory.
    Memory,
}

impl PeerAddress {
    /// The process at the other end of a Unix socket.
    pub fn unix(pid: Option<i32>, uid: Option<u32>) -> PeerAddress {
        PeerAddress::Unix { pid, uid }
    }

    /// Returns the IP address of the peer; `None` if it has none.
    ///
    /// An IPv4 address that came in on an IPv6 socket is given as IPv4. An IPv6 address is given whole; limits for
    /// each peer count by [`PeerAddress::key`].
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            PeerAddress::Tcp(address) => Some(address.ip().to_canonical()),
            PeerAddress::Unix { .. } | PeerAddress::Memory => None,
        }
    }

    /// Returns what limits and shares for each peer count by.
    pub fn key(&self) -> PeerKey {
        PeerKey(match *self {
            PeerAddress::Tcp(address) => Key::Network(network(address.ip())),
            PeerAddress::Unix { uid, .. } => Key::User(uid),
            PeerAddress::Memory => Key::Memory,
        })
    }
}

/// The peer as far as limits and shares tell peers apart: those with equal keys count as one.
///
/// - Of TCP, it is the IPv4 address, or the network of 64 bits of an IPv6 address: a host commonly owns all 2^64 addresses
///   of it, and could come from another one with each connection. So the hosts of one such network are one peer, and need
///   higher limits together. An IPv4 address is the same on an IPv6 socket, and behind a NAT64.
/// - Of a Unix socket, it is the user of the process that connected (`SO_PEERCRED`). A process could start any number of
///   others, so that numbers of processes would be no limit. Where the kernel does not know the user, all count as one. A user
///   with subordinate uids (`/etc/subuid`) can be many: the mode of the socket says who may connect.
/// - All that came without an address ([`PeerAddress::Memory`]) count as one.
///
/// ```
/// use farcall_transport::PeerAddress;
///
/// let key = |peer: &str| PeerAddress::Tcp(peer.parse().unwrap()).key();
/// assert_eq!(key("[2001:db8::1]:7"), key("[2001:db8::2]:8"));
/// assert_eq!(key("[2001:db8::1]:7").to_string(), "2001:db8::/64");
/// assert_ne!(key("10.0.0.1:7"), key("10.0.0.2:7"));
/// assert_eq!(key("10.0.0.1:7"), key("[64:ff9b::10.0.0.1]:8"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerKey(Key);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// An IPv4 address, or the first address of an IPv6 network.
    Network(IpAddr),
    /// The user of a process on this machine, if the kernel knows it.
    User(Option<u32>),
    Memory,
}

impl PeerKey {
    /// Returns `true` for peers without an address, which the program itself has handed to the server.
    pub fn is_memory(&self) -> bool {
        self.0 == Key::Memory
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Key::Network(IpAddr::V6(network)) => write!(f, "{network}/64"),
            Key::Network(address) => write!(f, "{address}"),
            Key::User(Some(uid)) => write!(f, "unix uid {uid}"),
            Key::User(None) => f.write_str("unix"),
            Key::Memory => f.write_str("memory"),
        }
    }
}

/// Returns the first address of the network of 64 bits of an IPv6 address; an IPv4 address as it is. One that was translated
/// (NAT64, RFC 6052) is the IPv4 address: all of them are in one network.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(address) => match address.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).into()
            }
            [a, b, c, d, ..] => Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into(),
        },
        address => address,
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> PeerAddress {
        PeerAddress::Tcp(address)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Tcp(address) => write!(f, "tcp@{address}"),
            PeerAddress::Unix { pid, uid } => {
                f.write_str("unix")?;
                if let Some(pid) = pid {
                    write!(f, " pid {pid}")?;
                }
                if let Some(uid) = uid {
                    write!(f, " uid {uid}")?;
                }
                Ok(())
            }
            PeerAddress::Memory => f.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_has_the_known_parts_of_a_peer() {
        let tcp: SocketAddr = "[::1]:7".parse().unwrap();
        assert_eq!(PeerAddress::from(tcp).to_string(), "tcp@[::1]:7");
        assert_eq!(PeerAddress::unix(Some(7), Some(0)).to_string(), "unix pid 7 uid 0");
        assert_eq!(PeerAddress::unix(None, Some(0)).to_string(), "unix uid 0");
        assert_eq!(PeerAddress::unix(None, None).to_string(), "unix");
        assert_eq!(PeerAddress::Memory.to_string(), "memory");
    }

    #[test]
    fn ipv4_peer_is_the_same_on_an_ipv6_socket() {
        let mapped = PeerAddress::Tcp("[::ffff:10.0.0.1]:7".parse().unwrap());
        let plain = PeerAddress::Tcp("10.0.0.1:8".parse().unwrap());
        assert_eq!((mapped.ip(), mapped.key()), (plain.ip(), plain.key()));
        assert_eq!(PeerAddress::Memory.ip(), None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_peer() {
        let key = |ip: &str| PeerAddress::Tcp(SocketAddr::new(ip.parse().unwrap(), 7)).key();
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_ne!(key("::ffff:10.0.0.1"), key("::ffff:10.0.0.2"));
        assert_eq!(key("2001:db8:0:1::1").to_string(), "2001:db8:0:1::/64");
        assert_eq!(key("::ffff:10.0.0.1").to_string(), "10.0.0.1");
    }

    #[test]
    fn processes_of_one_user_are_one_peer() {
        let key = |pid, uid| PeerAddress::unix(pid, uid).key();
        assert_eq!(key(Some(1), Some(7)), key(Some(2), Some(7)));
        assert_ne!(key(Some(1), Some(7)), key(Some(1), Some(8)));
        assert_eq!(key(None, None), key(Some(1), None));
        assert_ne!(key(None, None), PeerAddress::Memory.key());
        let texts =
            [key(Some(1), Some(7)), key(None, None), PeerAddress::Memory.key()].map(|key| key.to_string());
        assert_eq!(texts, ["unix uid 7", "unix", "memory"]);
    }
}
