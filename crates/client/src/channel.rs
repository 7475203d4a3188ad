//! A channel: what calls are made through. It dials when the first call needs it to.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::Codec;
use farcall_transport::{Address, AddressError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::connection::Connection;
use crate::error::{BuildError, RpcError};
use crate::link::Link;
use crate::options::Options;

/// A way to a server, over which calls are made. Cloning is cheap, and clones share everything.
///
/// It dials when the first call is made, and again after the connection broke: at once the first
/// time, then with pauses that grow from 1 s to 120 s. While it pauses, calls fail at once with
/// what the last dial said, instead of piling up behind a dead server. A server that lets go of
/// every connection within a second is given pauses, too.
///
/// A call that was refused, or of which no byte was sent, is tried again on the next connection,
/// three times at most. When the last clone is gone, the connection closes behind what was sent.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_client::Channel;
///
/// let channel = Channel::to("tcp@127.0.0.1:7001")?;
/// let n: i64 = channel.call("Arith.multiply", &serde_json::json!({"a": 6, "b": 7})).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    pub(crate) inner: Arc<Inner>,
}

/// What the calls of a channel share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) link: Link,
    /// What arguments are encoded in.
    pub(crate) codec: Codec,
    /// The time of a call that sets none of its own.
    pub(crate) timeout: Option<Duration>,
}

impl Channel {
    /// A channel to one address, such as `tcp@10.0.0.3:7001`, with the default options.
    ///
    /// # Errors
    ///
    /// The address does not parse.
    pub fn to<A>(address: A) -> Result<Self, BuildError>
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        Self::builder().to(address).build()
    }

    /// Describes a channel.
    #[must_use]
    pub fn builder() -> ChannelBuilder {
        ChannelBuilder::default()
    }

    /// A call by name, with any value that serializes to a map of arguments by name, or to an
    /// array of them in order.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Call<T> {
        Call::new(self, method, arguments)
    }

    /// Sends a request by name and wants no answer. See [`Call::notify`].
    ///
    /// # Errors
    ///
    /// It could not be sent; the execution is `not_sent`.
    pub async fn notify(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<(), RpcError> {
        Call::<()>::new(self, method, arguments).notify().await
    }

    /// Dials now, instead of at the first call.
    ///
    /// # Errors
    ///
    /// In the phase that failed, or, in a pause between dials, what the last one said.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, where it has to dial.
    pub async fn connect(&self) -> Result<(), RpcError> {
        self.inner.link.connection().await.map(drop)
    }

    /// Whether there is a connection that takes calls at this moment. A channel without one is
    /// not broken: its next call dials.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.inner.link.ready().is_some()
    }

    /// The connection that calls go over at this moment.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        self.inner.link.ready()
    }

    /// Closes the connection: what is under way is finished, and calls that wait for it to be
    /// dialed fail. A later call dials again.
    pub fn close(&self) {
        self.inner.link.close();
    }
}

impl From<Connection> for Channel {
    /// A channel over a connection that was opened elsewhere. It cannot dial: when the connection
    /// has closed, calls fail with `unavailable`, `not_sent`.
    fn from(connection: Connection) -> Self {
        let codec = connection.agreed().codec.clone();
        Self { inner: Arc::new(Inner { link: Link::over(connection), codec, timeout: None }) }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("link", &self.inner.link).finish_non_exhaustive()
    }
}

/// Describes a channel: whom it calls, and how.
#[derive(Debug, Default)]
pub struct ChannelBuilder {
    address: Option<Result<Address, AddressError>>,
    options: Options,
    timeout: Option<Duration>,
}

impl ChannelBuilder {
    /// The one address that is called. [`ChannelBuilder::build`] fails if it does not parse.
    #[must_use]
    pub fn to<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        self.address = Some(address.try_into().map_err(Into::into));
        self
    }

    /// How connections are made: codec, limits, credential. Default: [`Options::default`].
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The time for a whole call, where the call sets none of its own. Default: none. Too low,
    /// and calls fail that would have succeeded; none, and a handler that hangs holds its caller.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Builds the channel. It dials when the first call is made.
    ///
    /// # Errors
    ///
    /// There is no address, or it does not parse.
    pub fn build(self) -> Result<Channel, BuildError> {
        let address = self.address.ok_or(BuildError::NoAddress)??;
        let codec = self.options.terms.codec.clone();
        let link = Link::new(address, self.options);
        Ok(Channel { inner: Arc::new(Inner { link, codec, timeout: self.timeout }) })
    }
}
