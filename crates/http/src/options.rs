//! [`HttpOptions`]: the settings of a router.

#[cfg(feature = "client")]
use farcall_client::Channel;
use farcall_web::{Authority, Origin, OriginCheck};

use crate::debug::DebugPage;
#[cfg(feature = "gateway")]
use crate::gateway::Gateway;

/// The settings of a [`router`](crate::router).
///
/// ```
/// use farcall_http::HttpOptions;
///
/// let options = HttpOptions::default()
///     .allowed_host("calc.example.com")
///     .allowed_origin("https://app.example.com");
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HttpOptions {
    pub(crate) allowed_hosts: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) max_message_bytes: usize,
    pub(crate) debug_page: DebugPage,
    #[cfg(feature = "gateway")]
    pub(crate) gateway: Option<Gateway>,
    #[cfg(feature = "client")]
    pub(crate) channels: Vec<(String, Channel)>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_message_bytes: 4 * 1024 * 1024 + 128 * 1024,
            debug_page: DebugPage::default(),
            #[cfg(feature = "gateway")]
            gateway: None,
            #[cfg(feature = "client")]
            channels: Vec::new(),
        }
    }
}

impl HttpOptions {
    /// Adds a host name that requests for pages may contain, such as `calc.example.com` for any port or
    /// `calc.example.com:7080`: the one that a reverse proxy passes on in `Host`, for example. Default:
    /// only `localhost`. IP addresses are always allowed. A text that is not a host allows nothing.
    ///
    /// Requests with another name in `Host` are refused with 403, so that a foreign web page cannot read
    /// this server's pages by a name that it resolves to this server. Programs that open a
    /// connection for calls are not web pages and may use any name.
    pub fn allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Adds an origin whose pages may open WebSockets for calls, use the gateway and request pages, such as
    /// `https://app.example.com`, without a path. A text that is not an origin allows nothing. Default:
    /// only this server's own pages.
    pub fn allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Sets the largest WebSocket message that is accepted, in bytes. Default 4 MiB and 128 KiB, which is
    /// a whole call at the default frame limit. A larger message closes the connection with 1009.
    ///
    /// Too low, and clients that put a call into one message cannot send large ones; this project's
    /// clients split messages at 64 KiB. Too high, and each connection can make the server buffer as
    /// much, in addition to its other limits.
    pub const fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets who may see the debug page, `/debug/farcall`. Default [`DebugPage::Local`]: this machine.
    pub const fn debug_page(mut self, access: DebugPage) -> Self {
        self.debug_page = access;
        self
    }

    /// Accepts calls by plain HTTP, `POST /rpc/Service.method` with the arguments in JSON, and lists the
    /// services at `/rpc`. Default: such calls are not accepted.
    ///
    /// Every client that reaches the port can then call, as over any other address of the server, what
    /// [`ServerBuilder::authenticate`](farcall_server::ServerBuilder::authenticate) and its layers allow.
    /// Pages of foreign origins cannot, except those of [`HttpOptions::allowed_origin`]; and a program
    /// that uses a host name needs it to be a [`HttpOptions::allowed_host`].
    #[cfg(feature = "gateway")]
    pub fn gateway(mut self, gateway: Gateway) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Adds a channel that the debug page shows under this name. Default: none. The page shows at most 200
    /// endpoints of each channel, unhealthy ones first.
    #[cfg(feature = "client")]
    pub fn channel(mut self, name: impl Into<String>, channel: Channel) -> Self {
        self.channels.push((name.into(), channel));
        self
    }

    /// Returns the check of `Host` and `Origin` that these options describe.
    pub(crate) fn origin_check(&self) -> OriginCheck {
        OriginCheck::any_address()
            .allow_hosts(self.allowed_hosts.iter().filter_map(|host| Authority::parse(host)))
            .allow_origins(self.allowed_origins.iter().filter_map(|origin| Origin::parse(origin)))
    }
}
