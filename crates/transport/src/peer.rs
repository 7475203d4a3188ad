//! [`PeerAddress`], who is on the other side of a stream that was accepted.
//!
//! The source is the kernel, not the peer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

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

    /// The IP address of the peer, for a limit per peer; `None` if it is on this machine
    /// without one.
    ///
    /// An IPv4 address that came in on an IPv6 socket is given as IPv4, so that it counts
    /// against the same limit either way. An IPv6 address is given whole, though one host
    /// commonly owns the 2^64 addresses of a prefix.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            PeerAddress::Tcp(address) => Some(address.ip().to_canonical()),
            PeerAddress::Unix { .. } | PeerAddress::Memory => None,
        }
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
        assert_eq!(mapped.ip(), plain.ip());
        assert_eq!(PeerAddress::Memory.ip(), None);
    }
}
