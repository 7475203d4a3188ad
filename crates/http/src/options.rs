//! [`HttpOptions`]: the settings of a router.

#[cfg(feature = "client")]
use farcall_client::Channel;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_web::{Authority, Origin, OriginCheck};

use crate::debug::DebugPage;
#[cfg(feature = "gateway")]
use crate::gateway::Gateway;
use crate::hooks::{MetricsText, ProgressRows, ReadyCheck};
use crate::progress::ProgressRow;

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
    pub(crate) metrics_texts: Vec<MetricsText>,
    pub(crate) progress: Vec<ProgressRows>,
    pub(crate) ready_checks: Vec<ReadyCheck>,
    pub(crate) ready_timeout: Duration,
    #[cfg(feature = "gateway")]
    pub(crate) gateway: Option<Gateway>,
    #[cfg(feature = "client")]
    pub(crate) channels: Vec<(String, Channel)>,
}

/// The default of [`HttpOptions::ready_timeout`], which is that of a Kubernetes probe.
const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(1);

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_message_bytes: 4 * 1024 * 1024 + 128 * 1024,
            debug_page: DebugPage::default(),
            metrics_texts: Vec::new(),
            progress: Vec::new(),
            ready_checks: Vec::new(),
            ready_timeout: DEFAULT_READY_TIMEOUT,
            #[cfg(feature = "gateway")]
            gateway: None,
            #[cfg(feature = "client")]
            channels: Vec::new(),
        }
    }
}

impl HttpOptions {
    /// Returns `true` if methods can be called by plain HTTP.
    pub(crate) const fn has_gateway(&self) -> bool {
        #[cfg(feature = "gateway")]
        return self.gateway.is_some();
        #[cfg(not(feature = "gateway"))]
        return false;
    }

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

    /// Sets the largest WebSocket message that is accepted, in bytes. Default 4 MiB and 128 KiB, at least 1 byte, which is
    /// a whole call at the default frame limit. A larger message closes the connection with 1009.
    ///
    /// Too low, and clients that put a call into one message cannot send large ones; this project's
    /// clients split messages at 64 KiB. A message is read as it comes and never held, so that a high limit
    /// costs no memory.
    pub const fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = if bytes == 0 { 1 } else { bytes };
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

    /// Adds a channel that the debug page and `/metrics` show under this name. Default: none. The page shows at most
    /// 200 endpoints of each channel, unhealthy ones first; in the metrics the name is the label `channel`, and gets a
    /// number if it was used before. The channel measures its latency from then on
    /// ([`Channel::measure_latency`]).
    #[cfg(feature = "client")]
    pub fn channel(mut self, name: impl Into<String>, channel: Channel) -> Self {
        self.channels.push((name.into(), channel));
        self
    }

    /// Adds metrics of the program's own to `/metrics`: the function returns them in Prometheus' text format, for each
    /// request. Default: none.
    ///
    /// It must not block, and its families must have other names than farcall's, which begin with `farcall_`. If it
    /// panics, its metrics are missing from the answer, and an error is logged.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use farcall_http::HttpOptions;
    ///
    /// let orders = Arc::new(AtomicU64::new(0));
    /// let counted = Arc::clone(&orders);
    /// let options = HttpOptions::default().metrics_text(move || {
    ///     let orders = counted.load(Ordering::Relaxed);
    ///     format!("# HELP shop_orders_total Orders.\n# TYPE shop_orders_total counter\nshop_orders_total {orders}\n")
    /// });
    /// # let _ = options;
    /// ```
    pub fn metrics_text(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics_texts.push(MetricsText(Arc::new(text)));
        self
    }

    /// Adds a list to the debug page that shows how far something is, such as the shards of an import: the function returns
    /// its rows, at most twice a second. Default: none. The page shows at most 200 rows of each list.
    ///
    /// The function must not block. If it panics, its list is empty, and an error is logged.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use farcall_http::{HttpOptions, ProgressRow};
    ///
    /// let read = Arc::new(AtomicU64::new(0));
    /// let seen = Arc::clone(&read);
    /// let options = HttpOptions::default().progress("Import", move || {
    ///     vec![ProgressRow::new("orders.csv", seen.load(Ordering::Relaxed)).total(1_048_576).unit("bytes")]
    /// });
    /// # let _ = options;
    /// ```
    pub fn progress(
        mut self,
        title: impl Into<String>,
        rows: impl Fn() -> Vec<ProgressRow> + Send + Sync + 'static,
    ) -> Self {
        self.progress.push(ProgressRows { title: title.into(), rows: Arc::new(rows) });
        self
    }

    /// Adds a check of something that the server needs, such as its database: while it fails, `/readyz` answers 503
    /// with its name and the error. Default: none; the server alone decides.
    ///
    /// All checks run at the same time, at most twice a second, however many requests there are. A check that panics,
    /// or takes longer than [`HttpOptions::ready_timeout`], counts as failed. Failing checks refuse no calls: they tell
    /// a load balancer to send its traffic elsewhere.
    ///
    /// ```
    /// use farcall_http::HttpOptions;
    /// use tokio::net::TcpStream;
    ///
    /// let options = HttpOptions::default()
    ///     .ready_check("database", async || TcpStream::connect("10.0.0.9:5432").await.map(drop));
    /// # let _ = options;
    /// ```
    pub fn ready_check<Check, Checking, Error>(mut self, name: impl Into<String>, check: Check) -> Self
    where
        Check: Fn() -> Checking + Send + Sync + 'static,
        Checking: Future<Output = Result<(), Error>> + Send + 'static,
        Error: fmt::Display,
    {
        let check = move || -> crate::hooks::Checking {
            let checking = check();
            Box::pin(async move { checking.await.map_err(|error| error.to_string()) })
        };
        self.ready_checks.push(ReadyCheck { name: name.into(), check: Arc::new(check) });
        self
    }

    /// Sets the time for all checks of one request together. Default 1 s, at least 1 ms, as for a Kubernetes probe. Too low, and a busy
    /// database counts as down; too high, and the prober has given up before the answer.
    pub fn ready_timeout(mut self, limit: Duration) -> Self {
        self.ready_timeout = limit.max(Duration::from_millis(1));
        self
    }

    /// Returns the check of `Host` and `Origin` that these options describe.
    pub(crate) fn origin_check(&self) -> OriginCheck {
        OriginCheck::any_address()
            .allow_hosts(self.allowed_hosts.iter().filter_map(|host| Authority::parse(host)))
            .allow_origins(self.allowed_origins.iter().filter_map(|origin| Origin::parse(origin)))
    }
}
