//! [`Session`]: a channel to a target while a command runs, with a diagnosis if it cannot be connected to.

use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall::client::{AttemptReport, OpenReport, Phase, RetryPolicy};
use farcall::protocol::Codec;
use farcall::protocol::describe::{SERVICES, ServiceInfo};
use farcall::{Channel, Code, RpcError};
use tokio::time::timeout;

use crate::diagnose::{Diagnosis, diagnose};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::targets::settings::Settings;

/// The time after which a connection that is not there yet is looked into.
const HEAD_START: Duration = Duration::from_millis(250);

/// A channel to a target.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) channel: Channel,
    opens: Log<OpenReport>,
    retries: Log<AttemptReport>,
}

/// The options in which sessions differ.
#[derive(Clone, Debug)]
pub(crate) struct SessionOptions {
    pub(crate) codec: Codec,
    pub(crate) connections: usize,
    pub(crate) retry: Option<RetryPolicy>,
    /// Follows the load that servers report, also that of a single one.
    pub(crate) follows_load: bool,
}

/// The reports of a channel so far: at most [`MAX_REPORTS`], the first ones.
#[derive(Debug)]
struct Log<T>(Arc<Mutex<Vec<T>>>);

/// The reports that are kept: more than anyone reads. A benchmark may retry for hours.
const MAX_REPORTS: usize = 1000;

impl Default for SessionOptions {
    fn default() -> Self {
        Self { codec: Codec::Json, connections: 1, retry: None, follows_load: false }
    }
}

impl<T: Clone + Send + 'static> Log<T> {
    /// Returns a function that adds a report.
    fn observer(&self) -> impl Fn(&T) + Send + Sync + 'static {
        let log = Self(Arc::clone(&self.0));
        move |report| {
            let mut reports = log.lock();
            if reports.len() < MAX_REPORTS {
                reports.push(report.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl Session {
    /// Creates a channel, and connects it. `method` says which service to look for in a registry.
    pub(crate) async fn open(
        settings: Settings,
        method: Option<&str>,
        options: SessionOptions,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        let (opens, retries) = (Log::default(), Log::default());
        let connection = settings.connection_options().await?.codec(options.codec).on_open(opens.observer());
        let mut builder = settings
            .channel(method, options.follows_load)?
            .options(connection)
            .connections(options.connections)
            .on_retry(retries.observer());
        if let Some(retry) = options.retry {
            builder = builder.retry(retry);
        }
        let channel = builder.build().map_err(|error| Failure::usage(error.to_string()))?;
        environment.keep(&channel);
        let session = Self { settings, channel, opens, retries };
        session.connect().await?;
        Ok(session)
    }

    /// Returns the attempts to connect so far.
    pub(crate) fn opens(&self) -> Vec<OpenReport> {
        self.opens.lock().clone()
    }

    /// Returns the further attempts of calls so far.
    pub(crate) fn retries(&self) -> Vec<AttemptReport> {
        self.retries.lock().clone()
    }

    /// Connects. If the only address does not answer at once, finds out meanwhile what is there.
    async fn connect(&self) -> Result<(), Failure> {
        let connecting = self.channel.connect();
        tokio::pin!(connecting);
        let outcome = match (timeout(HEAD_START, &mut connecting).await, self.settings.only_address()) {
            (Ok(outcome), _) => outcome,
            (Err(_), None) => connecting.await,
            (Err(_), Some(address)) => {
                let found = async {
                    match diagnose(address, self.settings.tls_client().ok().flatten()).await {
                        Some(found) => found,
                        None => {
                            // Only time can tell: it may be another protocol, or a server that is busy.
                            let text =
                                format!("note: {address} has not answered yet, in no protocol of farcall\n");
                            let _ = anstream::stderr().write_all(text.as_bytes());
                            std::future::pending().await
                        }
                    }
                };
                tokio::select! {
                    // Either arm may be dropped: no call has been made. After a pause of the process both
                    // may be ready; then the connection is there, and what was found is too old.
                    biased;
                    outcome = &mut connecting => outcome,
                    found = found => return Err(wrong_scheme(address, &found)),
                }
            }
        };
        let Err(error) = outcome else { return Ok(()) };
        Err(self.explain(&error).await)
    }

    /// Returns the failure of connecting, with what is there instead.
    async fn explain(&self, error: &RpcError) -> Failure {
        let failure = Failure::of_call(error, true);
        let is_connecting = matches!(error.phase(), Phase::Connect | Phase::Handshake);
        let Some(endpoint) = error.endpoint().filter(|_| is_connecting && error.code() == Code::Unavailable)
        else {
            return failure;
        };
        let found = diagnose(endpoint, self.settings.tls_client().ok().flatten()).await;
        failure.with_hint(found.map(|found| found.to_string()))
    }

    /// Returns what the server says of its services; `None` if it has no reserved methods.
    pub(crate) async fn services(&self) -> Result<Option<Vec<ServiceInfo>>, RpcError> {
        match self.channel.call(SERVICES, &()).await.map_err(RpcError::from) {
            Ok(services) => Ok(Some(services)),
            Err(error) if error.code() == Code::Unimplemented => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn wrong_scheme(address: &farcall::Address, found: &Diagnosis) -> Failure {
    let message = format!("no farcall connection to {address}");
    Failure::not_sent(message).with_field("endpoint", address.to_string()).with_hint(found.to_string())
}
