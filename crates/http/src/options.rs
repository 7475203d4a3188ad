//! [`HttpOptions`]: what a router is told before it is made.

#[cfg(feature = "client")]
use farcall_client::Channel;

use crate::debug::DebugPage;
#[cfg(feature = "gateway")]
use crate::gateway::Gateway;

/// What a router is told before it is made.
///
/// ```
/// use farcall_http::HttpOptions;
///
/// let settings = HttpOptions::default()
///     .allowed_host("calc.example.com")
///     .allowed_origin("https://app.example.com");
/// ```
#[derive(Clone, Debug)]
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
    /// One more name by which pages may be asked for, `calc.example.com` for any port or
    /// `calc.example.com:7080`; one that a reverse proxy passes on in `Host`, say. Default: none
    /// but `localhost`. IP addresses need no leave.
    ///
    /// Requests with another name in `Host` are refused with 403, so that no web page can read this
    /// server's by a name of its own that it lets point here. Programs that open a connection for
    /// calls are no web pages, and may use any name.
    #[must_use]
    pub fn allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// One more origin whose pages may open WebSockets for calls, use the gateway, and ask for pages, such as
    /// `https://app.example.com`, without a path. What is no origin fits none. Default: none but pages of
    /// this server's own.
    #[must_use]
    pub fn allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// The largest WebSocket message that is taken, in bytes. Default 4 MiB and 128 KiB, which is
    /// a whole call at the default limit of frames. A larger one is closed with 1009.
    ///
    /// Too low, and clients that put a call into one message cannot send large ones; this project's
    /// own cut theirs at 64 KiB. Too high, and each connection can make the server hold as much, on
    /// top of its other limits.
    #[must_use]
    pub const fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Who may see the debug page, `/debug/farcall`. Default [`DebugPage::Local`]: this machine.
    #[must_use]
    pub const fn debug_page(mut self, access: DebugPage) -> Self {
        self.debug_page = access;
        self
    }

    /// Takes calls by plain HTTP, `POST /rpc/Service.method` with the arguments in JSON, and tells at `/rpc`
    /// what there is to call. Default: none are taken.
    ///
    /// Whoever reaches the port can call then, as over any other address of the server: what
    /// [`ServerBuilder::authenticate`](farcall_server::ServerBuilder::authenticate) and its layers allow.
    /// Pages of foreign origins cannot, but for those of [`HttpOptions::allowed_origin`]; and
    /// programs that ask by a name need it to be a [`HttpOptions::allowed_host`].
    #[cfg(feature = "gateway")]
    #[must_use]
    pub fn gateway(mut self, gateway: Gateway) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// One more channel that the debug page tells of, under this name. Default: none. Of each, at
    /// most 200 endpoints are told, first those that are not well.
    #[cfg(feature = "client")]
    #[must_use]
    pub fn channel(mut self, name: impl Into<String>, channel: Channel) -> Self {
        self.channels.push((name.into(), channel));
        self
    }
}
