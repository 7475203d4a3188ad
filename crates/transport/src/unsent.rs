//! The bound of the bytes that the operating system holds for a TCP connection and has not sent.

use std::io;
use std::os::fd::AsFd;

/// The most bytes that wait in the kernel without having been sent: what is written next waits for them. The bytes that are
/// on their way to the peer are not among them, so a path with delay keeps its rate.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 128 * 1024;

/// Bounds the bytes that wait in the kernel without having been sent, by `TCP_NOTSENT_LOWAT`. Without it, a response waits
/// behind megabytes of a stream's items, or of large bodies, as soon as the peer is slower than this side.
///
/// Has no effect but on Linux and Android.
///
/// # Errors
///
/// The system does not know the option, or the connection has ended.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn bound_unsent(socket: &impl AsFd) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(MAX_UNSENT)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn bound_unsent(_socket: &impl AsFd) -> io::Result<()> {
    Ok(())
}
