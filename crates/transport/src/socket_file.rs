//! The file of a Unix socket: who may put one at a path, replace it, and remove it.
//!
//! A socket file outlives the process that bound it, so a server that starts finds the one
//! of its predecessor and must distinguish it from that of a live server. The rules:
//!
//! - A file is stale if it is a socket and connecting to it is refused. Only such a file is
//!   replaced.
//! - Between `bind` and `listen` a live socket refuses too, and between finding a file stale
//!   and removing it another server can have replaced it. So all of this happens under an
//!   exclusive lock on the directory, which leaves no lock file behind.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::time::{Instant, sleep};

/// The time to wait for another server that starts in the same directory. It holds the lock
/// for some system calls, so this passes only if a stranger keeps the directory locked.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two attempts to take the lock; the kernel sends no notice when it is free.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// A socket file that this process has made. It is removed on drop, if it is still the same.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// The reason why no socket could be put at a path.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// Another process listens there, or might.
    InUse(io::Error),
    /// Something is there that is no socket.
    NotASocket,
    /// Anything else.
    Io(io::Error),
}

impl From<io::Error> for Obstacle {
    fn from(error: io::Error) -> Obstacle {
        Obstacle::Io(error)
    }
}

/// The identity of a file among those that have had its name. The number of a file is not given to
/// another as long as the socket bound to it is open.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl SocketFile {
    /// Puts a listening socket at a path, in place of a stale one if there is one.
    pub(crate) async fn bind(path: &Path, backlog: i32) -> Result<(SocketFile, UnixListener), Obstacle> {
        // Closing the directory unlocks it.
        let _locked = lock_directory(path).await?;
        let listener = match bind_at(path, backlog) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path, error)?;
                bind_at(path, backlog)?
            }
            bound => bound?,
        };
        let identity = Identity::of(&fs::symlink_metadata(path)?);
        Ok((SocketFile { path: path.to_owned(), identity }, listener))
    }
}

/// Closes the race with a server that is just starting: the file goes while the socket still
/// listens, so that no other server can find it stale and put its own in its place between
/// the check and the removal. The owner must drop this before the listener.
impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|metadata| Identity::of(&metadata) == self.identity);
        if !ours {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "socket file left behind");
        }
    }
}

async fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_POLL).await,
            Err(TryLockError::WouldBlock) => {
                let text = "another process keeps the directory of the socket locked";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

fn bind_at(path: &Path, backlog: i32) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Removes the socket file that stood in the way of a bind, which failed with `in_use`, if
/// no process listens on it.
fn remove_stale(path: &Path, in_use: io::Error) -> Result<(), Obstacle> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(Obstacle::NotASocket),
        Ok(_) => {}
        // Its server has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // Without blocking: a server whose backlog is full would keep a blocking connect waiting.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing a stale socket file");
            Ok(fs::remove_file(path)?)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A server answers or is too busy, or connecting is not allowed: no proof of staleness.
        _ => Err(Obstacle::InUse(in_use)),
    }
}
