//! Sorting the errors of accepting, which decide whether a server waits, goes on, or stops.

use std::io;

/// Returns `true` if this process or the system has run out of what an accept needs: descriptors or
/// memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`).
///
/// The connection stays in the backlog, so accepting again at once fails again: wait a moment
/// first, or let go of something.
pub fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTION: [i32; 4] = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| EXHAUSTION.contains(&code))
        || error.kind() == io::ErrorKind::OutOfMemory
}

/// Returns `true` if only the one connection is lost that was accepted, and the next can be
/// accepted at once.
///
/// Such are `ECONNABORTED` and the network errors that were waiting on the new socket, which
/// Linux reports from accept (see `accept(2)`), and `EPERM` from a firewall.
pub fn is_transient(error: &io::Error) -> bool {
    const TRANSIENT: [i32; 12] = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::ECONNREFUSED,
        libc::EINTR,
        libc::EPERM,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::ETIMEDOUT,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| TRANSIENT.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhaustion_is_not_transient() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let error = io::Error::from_raw_os_error(code);
            assert!(is_exhaustion(&error) && !is_transient(&error), "{error}");
        }
    }

    #[test]
    fn connection_aborted_in_the_backlog_is_transient() {
        for code in [libc::ECONNABORTED, libc::EPROTO, libc::EHOSTUNREACH] {
            let error = io::Error::from_raw_os_error(code);
            assert!(is_transient(&error) && !is_exhaustion(&error), "{error}");
        }
    }

    #[test]
    fn broken_listener_is_neither() {
        for code in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            let error = io::Error::from_raw_os_error(code);
            assert!(!is_transient(&error) && !is_exhaustion(&error), "{error}");
        }
    }

    #[test]
    fn error_of_this_library_is_sorted_by_its_kind() {
        assert!(is_exhaustion(&io::Error::from(io::ErrorKind::OutOfMemory)));
        assert!(!is_exhaustion(&io::Error::other("something else")));
        assert!(!is_transient(&io::Error::other("something else")));
    }
}
