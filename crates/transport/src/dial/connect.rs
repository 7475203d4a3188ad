//! [`Connect`]: how a user brings a transport. TLS and HTTP on top of it are left to
//! [`Dialer`](crate::Dialer).

use std::future::Future;
use std::io;
use std::pin::Pin;

use crate::address::Address;
use crate::stream::Stream;

/// The stream to come from a [`Connect`].
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>>;

/// Opens streams to addresses in place of the operating system: pipes in memory, a SOCKS proxy, vsock.
///
/// It is set with [`Dialer::connector`](crate::Dialer::connector), and then called for every address that is
/// dialed, with the whole [`Address`]: its scheme, and its host and port or its path. What they mean is
/// the connector's choice: names are not resolved, and port 0 is not refused. It only opens the stream.
/// If the scheme of the address is `tls`, `https` or `wss`, the dialer speaks TLS in it, and if it is
/// `http`, `connect`, `ws`, `https` or `wss`, it then requests an upgrade over HTTP.
///
/// A [`Stream`] can be made of anything that reads and writes.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io;
///
/// use farcall_transport::{Address, Connect, Connecting, Dialer, Stream};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
/// use tokio::sync::mpsc;
///
/// /// Gives one end of a pipe to the dialer, and the other to a server in this process.
/// struct Pipes(mpsc::UnboundedSender<DuplexStream>);
///
/// impl Connect for Pipes {
///     fn connect<'a>(&'a self, _: &'a Address) -> Connecting<'a> {
///         Box::pin(async move {
///             let (near, far) = duplex(64 * 1024);
///             self.0.send(far).map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
///             Ok(Stream::new(near))
///         })
///     }
/// }
///
/// let (sender, mut accepted) = mpsc::unbounded_channel();
/// let dialer = Dialer::default().connector(Pipes(sender));
///
/// let mut near = dialer.dial(&Address::parse("tcp@arith.test:1")?).await?;
/// near.write_all(b"hello").await?;
/// let mut far = accepted.recv().await.expect("a pipe was sent");
/// let mut received = [0; 5];
/// far.read_exact(&mut received).await?;
/// assert_eq!(&received, b"hello");
/// # Ok(())
/// # }
/// ```
pub trait Connect: Send + Sync + 'static {
    /// Opens a stream to an address. Dropping the future gives up the attempt.
    ///
    /// The time is limited by [`Dialer::connect_timeout`](crate::Dialer::connect_timeout).
    ///
    /// # Errors
    ///
    /// The address cannot be reached, or is not one that this connector knows.
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a>;
}
