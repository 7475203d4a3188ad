//! Addresses, dialing and listening for farcall.
//!
//! An [`Address`] says where somebody is, a [`Dialer`] opens a [`Stream`] to it, and a
//! [`Listener`] takes the streams that others open. What is said over a stream is for the
//! crates above.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use farcall_transport::{Address, Dialer, Listener};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
//! let mut near = Dialer::default().dial(listener.address()).await?;
//! let (mut far, peer) = listener.accept().await?;
//! println!("{peer} is here");
//!
//! near.write_all(b"hello").await?;
//! let mut heard = [0; 5];
//! far.read_exact(&mut heard).await?;
//! assert_eq!(&heard, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! Built in are the schemes `tcp` and `unix`. The other [`Scheme`]s parse, and dialing or
//! listening at them fails with an error that says so. The crate is for Unix-like systems.

mod accept_error;
mod address;
mod address_error;
mod dial;
mod dial_error;
mod happy_eyeballs;
mod host;
mod human;
mod listen;
mod peer;
mod resolve;
mod scheme;
mod socket_file;
mod stream;

pub use accept_error::{is_exhaustion, is_transient};
pub use address::Address;
pub use address_error::{AddressError, Excerpt, HostFault};
pub use dial::Dialer;
pub use dial_error::{Attempt, Attempts, DialError, DialFailure, DialPhase};
pub use human::Human;
pub use listen::{ListenError, Listener};
pub use peer::PeerAddress;
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use scheme::Scheme;
pub use stream::Stream;
