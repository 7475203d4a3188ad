//! [`Session`]: a channel to a target while a command runs, with a diagnosis if it cannot be connected to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall::client::{ConnectionOptions, OpenReport, Phase, RetryPolicy};
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
    opens: OpenLog,
}

/// The options in which sessions differ.
#[derive(Clone, Debug)]
pub(crate) struct SessionOptions {
    pub(crate) codec: Codec,
    pub(crate) connections: usize,
    pub(crate) retry: Option<RetryPolicy>,
}

/// The connections that were opened, or tried to.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenLog(Arc<Mutex<Vec<OpenReport>>>);

impl Default for SessionOptions {
    fn default() -> Self {
        Self { codec: Codec::Json, connections: 1, retry: None }
    }
}

impl OpenLog {
    /// Returns options that record all attempts to connect here.
    fn observing(&self, options: ConnectionOptions) -> ConnectionOptions {
        let log = self.clone();
        options.on_open(move |report| log.lock().push(report.clone()))
    }

    /// Returns the attempts so far.
    pub(crate) fn reports(&self) -> Vec<OpenReport> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<OpenReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let opens = OpenLog::default();
        let connection = opens.observing(settings.connection_options().await?).codec(options.codec);
        let mut builder = settings.channel(method)?.options(connection).connections(options.connections);
        if let Some(retry) = options.retry {
            builder = builder.retry(retry);
        }
        let channel = builder.build().map_err(|error| Failure::usage(error.to_string()))?;
        environment.keep(&channel);
        let session = Self { settings, channel, opens };
        session.connect().await?;
        Ok(session)
    }

    /// Returns the attempts to connect so far.
    pub(crate) fn opens(&self) -> Vec<OpenReport> {
        self.opens.reports()
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
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    // Either arm may be dropped: no call has been made.
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
