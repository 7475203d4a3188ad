//! Dialing and listening over real Unix sockets, and what becomes of their files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use farcall_transport::{Address, DialPhase, Dialer, ListenError, Listener, PeerAddress};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A temporary directory, and an address in it.
struct Place {
    _dir: TempDir,
    path: PathBuf,
    address: Address,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("s");
    let address = Address::unix(&path).expect("a short path");
    Place { _dir: dir, path, address }
}

/// Leaves a socket file behind on which no process answers, and returns its inode.
fn leave_stale(path: &Path) -> u64 {
    drop(UnixListener::bind(path).expect("a free path"));
    fs::symlink_metadata(path).expect("a stale file").ino()
}

#[tokio::test]
async fn bytes_go_both_ways_and_the_peer_is_known() {
    let Place { address, _dir, .. } = place();
    let listener = Listener::bind(&address).await.unwrap();
    assert_eq!(listener.address(), &address);

    let mut near = Dialer::default().dial(&address).await.unwrap();
    let (mut far, peer) = listener.accept().await.unwrap();
    near.write_all(b"ping").await.unwrap();
    let mut received = [0; 4];
    far.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"ping");

    let PeerAddress::Unix { pid, uid, .. } = peer else { panic!("{peer}") };
    assert_eq!(peer.ip(), None);
    assert_eq!(uid, Some(fs::metadata("/proc/self").map_or(uid.unwrap(), |own| own.uid())));
    if cfg!(target_os = "linux") {
        assert_eq!(pid, Some(std::process::id() as i32));
    }
}

#[tokio::test]
async fn missing_socket_fails_in_connecting() {
    let Place { address, path, _dir } = place();
    let missing = Dialer::default().dial(&address).await.unwrap_err();
    assert_eq!(missing.phase(), DialPhase::Connect);
    assert!(missing.to_string().starts_with(&format!("connecting to {address}: No such file")));

    leave_stale(&path);
    let refused = Dialer::default().dial(&address).await.unwrap_err();
    assert!(refused.to_string().contains("Connection refused"), "{refused}");
}

#[tokio::test]
async fn stale_socket_file_is_replaced() {
    let Place { address, path, _dir } = place();
    leave_stale(&path);
    let listener = Listener::bind(&address).await.unwrap();
    Dialer::default().dial(&address).await.unwrap();
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn live_socket_is_in_use_and_stays() {
    let Place { address, path, _dir } = place();
    let first = Listener::bind(&address).await.unwrap();
    let inode = fs::symlink_metadata(&path).unwrap().ino();

    let error = Listener::bind(&address).await.unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("listening at {address}: ")), "{error}");
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);

    // The first connection is the check for a live server.
    first.accept().await.unwrap();
    let mut near = Dialer::default().dial(&address).await.unwrap();
    near.write_all(b"!").await.unwrap();
    let (mut far, _) = first.accept().await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
async fn live_socket_with_a_full_backlog_is_in_use() {
    use socket2::{Domain, SockAddr, Socket, Type};

    let Place { address, path, _dir } = place();
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    busy.listen(0).unwrap();
    let mut waiting = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        if client.connect(&SockAddr::unix(&path).unwrap()).is_err() {
            break;
        }
        waiting.push(client);
    }
    let error = Listener::bind(&address).await.unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");
    assert!(path.exists());
}

#[tokio::test]
async fn files_that_are_not_stream_sockets_are_never_removed() {
    let Place { address, path, _dir } = place();
    fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&address).await.unwrap_err();
    assert!(matches!(error, ListenError::NotASocket { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    symlink("/nowhere", &path).unwrap();
    let error = Listener::bind(&address).await.unwrap_err();
    assert!(matches!(error, ListenError::NotASocket { .. }), "{error:?}");
    fs::remove_file(&path).unwrap();

    let _datagram = UnixDatagram::bind(&path).unwrap();
    let error = Listener::bind(&address).await.unwrap_err();
    assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
}

#[tokio::test]
async fn file_is_removed_with_its_listener() {
    let Place { address, path, _dir } = place();
    let listener = Listener::bind(&address).await.unwrap();
    assert!(path.exists());
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn file_of_another_server_stays() {
    let Place { address, path, _dir } = place();
    let first = Listener::bind(&address).await.unwrap();
    // Somebody cleans up by hand, and another server starts.
    fs::remove_file(&path).unwrap();
    let second = Listener::bind(&address).await.unwrap();
    drop(first);

    Dialer::default().dial(&address).await.unwrap();
    second.accept().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_servers_that_start_over_a_stale_file_one_wins() {
    const SERVERS: usize = 8;
    const ROUNDS: usize = 20;

    for _ in 0..ROUNDS {
        let Place { address, path, _dir } = place();
        leave_stale(&path);
        let starting: Vec<_> = (0..SERVERS)
            .map(|_| {
                let address = address.clone();
                tokio::spawn(async move { Listener::bind(&address).await })
            })
            .collect();
        let mut winners = Vec::new();
        for server in starting {
            match server.await.unwrap() {
                Ok(listener) => winners.push(listener),
                Err(ListenError::InUse { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(winners.len(), 1);
        Dialer::default().dial(&address).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn directory_that_stays_locked_is_given_up() {
    let Place { address, _dir, .. } = place();
    let directory = fs::File::open(_dir.path()).unwrap();
    directory.lock().unwrap();
    let error = Listener::bind(&address).await.unwrap_err();
    assert!(error.to_string().ends_with("keeps the directory of the socket locked"), "{error}");
}

#[tokio::test]
async fn error_of_a_missing_directory_names_the_address() {
    let address = Address::parse("unix@/nowhere/at/all").unwrap();
    let error = Listener::bind(&address).await.unwrap_err();
    assert!(error.to_string().starts_with("listening at unix@/nowhere/at/all: No such file"));
}
