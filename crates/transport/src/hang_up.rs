//! [`has_peer_closed`]: asks the system if the peer of a socket has closed it, without reading.

/// Returns `true` if the peer has closed its direction of the socket, or all of it, even if there is data before its end:
/// nothing is read. Always `false` on other systems than Linux.
#[cfg(target_os = "linux")]
pub fn has_peer_closed(socket: &impl std::os::fd::AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut asked = [PollFd::new(socket, closed)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    // An error of the system says nothing of the peer.
    poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().intersects(closed)
}

/// Returns `false`: other systems have no such flag.
#[cfg(not(target_os = "linux"))]
pub fn has_peer_closed<S>(_socket: &S) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use crate::Stream;

    #[tokio::test]
    async fn end_is_seen_behind_data_that_is_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let near = Stream::new(listener.accept().await.unwrap().0);
        far.write_all(b"data").await.unwrap();
        assert!(!near.has_peer_closed());
        // Loopback delivers before it returns.
        far.shutdown().await.unwrap();
        assert!(near.has_peer_closed());
    }

    #[tokio::test]
    async fn end_is_seen_of_unix_sockets() {
        let (near, far) = UnixStream::pair().unwrap();
        let near = Stream::new(near);
        assert!(!near.has_peer_closed());
        drop(far);
        assert!(near.has_peer_closed());
    }

    #[tokio::test]
    async fn of_a_pipe_in_memory_nothing_is_known() {
        let (near, far) = tokio::io::duplex(1);
        drop(far);
        assert!(!Stream::new(near).has_peer_closed());
    }
}
