//! [`SendBuffer`]: the size of the kernel's send buffer for TCP connections within one machine. The bytes that wait on
//! a way with delay are bounded by [`crate::unsent`].

use std::io;
use std::net::IpAddr;

use tokio::net::TcpStream;

/// The size of the buffer for messages that are not large, in bytes: about four of 64 KiB. With half of it, a side often
/// waits for the other; twice as much is more than stays in a core's cache until the peer reads it.
const USUAL: usize = 256 * 1024;
/// The size of the buffer while messages are large, in bytes.
const LARGE: usize = 1024 * 1024;
/// The smallest rest of a message, in bytes, for which the buffer becomes a large one.
const MIN_LARGE_REST: usize = 256 * 1024;
/// The smallest rest of a message, in bytes, that says something of the size of messages.
const MIN_TELLING_REST: usize = 16 * 1024;
/// The number of smaller rests in a row after which the buffer is a usual one again: a large message is written in
/// several steps, the last of which is short.
const SMALLER_RESTS: u8 = 32;

/// The size of the kernel's send buffer (`SO_SNDBUF`) for TCP connections whose two ends are on this machine.
///
/// Such a connection has no delay that a large buffer would bridge. The kernel nevertheless lets the buffer grow to
/// megabytes (`net.ipv4.tcp_wmem`), and what waits in them has left the processor's cache before the peer reads it. With
/// bodies of 64 KiB that costs more than half of the calls. Connections to other machines keep the kernel's choice, which
/// grows with what is on the way.
///
/// Has no effect but on Linux and Android. The kernel allows no more than twice `net.core.wmem_max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendBuffer {
    /// 256 KiB, and 1 MiB while messages of several hundred KiB are written, where nothing is around the stream: inside TLS and
    /// WebSockets it stays 256 KiB.
    #[default]
    ByMessageSize,
    /// This number of bytes, with the kernel's overhead. Too low, and each side waits for the other after every few KiB; too
    /// high, and large messages are slow.
    Bytes(usize),
    /// The kernel's choice.
    System,
}

/// The send buffer of one connection within this machine, adjusted to the size of its messages.
#[derive(Debug, Default)]
pub(crate) struct AdjustedSendBuffer {
    is_large: bool,
    /// The number of rests in a row that were no large ones.
    smaller: u8,
}

impl SendBuffer {
    /// Sets the buffer of a connection, if both of its ends are on this machine. Returns what adjusts it later; `None` if
    /// nothing does.
    pub(crate) fn apply(self, socket: &TcpStream) -> Option<AdjustedSendBuffer> {
        let bytes = match self {
            Self::ByMessageSize => USUAL,
            Self::Bytes(bytes) => bytes,
            Self::System => return None,
        };
        // An error: the connection has ended, which the next read reports.
        let (near, far) = (socket.local_addr().ok()?, socket.peer_addr().ok()?);
        if !is_same_machine(near.ip(), far.ip()) {
            return None;
        }
        if let Err(error) = set(socket, bytes) {
            tracing::debug!(%far, %error, "SO_SNDBUF not set");
            return None;
        }
        (self == Self::ByMessageSize).then(AdjustedSendBuffer::default)
    }
}

impl AdjustedSendBuffer {
    /// Notes that this number of bytes will be written in one piece, and adjusts the buffer.
    #[inline]
    pub(crate) fn note<'a>(&mut self, rest: usize, socket: impl FnOnce() -> Option<&'a TcpStream>) {
        if rest < MIN_TELLING_REST {
            return;
        }
        if let Some(bytes) = self.next_size(rest)
            && let Some(socket) = socket()
            && let Err(error) = set(socket, bytes)
        {
            tracing::debug!(%error, "SO_SNDBUF not set");
        }
    }

    /// Returns the size that the buffer shall have from now on, if it is another one.
    fn next_size(&mut self, rest: usize) -> Option<usize> {
        if rest >= MIN_LARGE_REST {
            self.smaller = 0;
            return (!std::mem::replace(&mut self.is_large, true)).then_some(LARGE);
        }
        if !self.is_large {
            return None;
        }
        self.smaller += 1;
        self.is_large = self.smaller < SMALLER_RESTS;
        (!self.is_large).then_some(USUAL)
    }
}

/// Returns `true` if both ends of a connection have addresses of this machine: loopback, or one and the same.
fn is_same_machine(near: IpAddr, far: IpAddr) -> bool {
    far.to_canonical().is_loopback() || near.to_canonical() == far.to_canonical()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set(socket: &TcpStream, bytes: usize) -> io::Result<()> {
    // The kernel doubles the number, for its overhead.
    socket2::SockRef::from(socket).set_send_buffer_size(bytes / 2)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set(_socket: &TcpStream, _bytes: usize) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_one_machine_are_known_by_their_addresses() {
        let is_same = |near: &str, far: &str| is_same_machine(near.parse().unwrap(), far.parse().unwrap());
        assert!(is_same("127.0.0.1", "127.0.0.1"));
        assert!(is_same("127.0.0.1", "127.5.0.1"));
        assert!(is_same("::1", "::1"));
        assert!(is_same("::ffff:127.0.0.1", "::ffff:127.0.0.1"));
        assert!(is_same("10.0.0.5", "::ffff:10.0.0.5"));
        assert!(!is_same("10.0.0.5", "10.0.0.6"));
        assert!(!is_same("fe80::1", "fe80::2"));
    }

    #[test]
    fn buffer_is_large_while_messages_are() {
        let mut buffer = AdjustedSendBuffer::default();
        assert_eq!(buffer.next_size(64 * 1024), None);
        assert_eq!(buffer.next_size(MIN_LARGE_REST), Some(LARGE));
        for _ in 0..SMALLER_RESTS - 1 {
            assert_eq!(buffer.next_size(64 * 1024), None);
        }
        assert_eq!(buffer.next_size(1024 * 1024), None, "the last rests of a large message tell nothing");
        for _ in 0..SMALLER_RESTS - 1 {
            assert_eq!(buffer.next_size(64 * 1024), None);
        }
        assert_eq!(buffer.next_size(64 * 1024), Some(USUAL));
        assert_eq!(buffer.next_size(64 * 1024), None);
        assert_eq!(buffer.next_size(MIN_LARGE_REST), Some(LARGE));
    }
}
