//! [`Reload`]: reads tokens again when their files have changed, and certificates on request. Reading certificates when
//! they change is left to [`farcall_tls::Reloaded`].

use std::sync::Arc;

use farcall_registry::server::Registry;
use farcall_tls::{ReloadOutcome, ReloadState};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

use crate::files::CHECK_INTERVAL;
use crate::tls::CurrentTls;
use crate::tokens::{Secrets, TokenSources};

/// The settings that may change while the registry runs.
pub(crate) struct Reload {
    registry: Registry,
    tokens: TokenSources,
    secrets: ReloadState<Secrets>,
    tls: Option<Arc<CurrentTls>>,
}

impl Reload {
    /// `secrets` are those that were read from `tokens`, and are in use.
    pub(crate) fn new(
        registry: Registry,
        tokens: TokenSources,
        secrets: Secrets,
        tls: Option<Arc<CurrentTls>>,
    ) -> Self {
        Self { registry, tokens, secrets: ReloadState::new(secrets), tls }
    }

    /// Checks the token files every few seconds, and all files on each notice of `now`, for as long as it
    /// is polled.
    pub(crate) async fn run(mut self, now: Arc<Notify>) {
        if !self.tokens.can_change() && self.tls.is_none() {
            return;
        }
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Both are cancel-safe: a tick or a notice that was not taken is there for the next turn.
            let requested = tokio::select! {
                _ = ticks.tick() => false,
                () = now.notified() => true,
            };
            if requested {
                info!("reading token files and certificates again, as requested");
                if let Some(tls) = &self.tls {
                    tls.check_now();
                }
            }
            if !self.tokens.can_change() {
                continue;
            }
            // Disks can be slow, and the files can be on a network.
            let check = tokio::task::spawn_blocking(move || {
                self.check_tokens(requested);
                self
            });
            match check.await {
                Ok(this) => self = this,
                Err(error) => {
                    return error!(%error, "token files are no longer checked for changes: the task that checks them failed");
                }
            }
        }
    }

    /// Reads the tokens once; `complete` is `true` if no other process is writing the files.
    fn check_tokens(&mut self, complete: bool) {
        let found = self.tokens.read_again().map_err(|error| error.to_string());
        match self.secrets.check(found, complete, |secrets| Ok(secrets.tokens())) {
            ReloadOutcome::Changed(tokens) => match self.registry.set_tokens(tokens) {
                Ok(()) => info!("the new tokens are used from now on"),
                Err(error) => error!(%error, "the new tokens cannot be used; the old ones stay"),
            },
            ReloadOutcome::Rejected(error) => {
                error!(error, "the new tokens cannot be used; the old ones stay");
            }
            _ => {}
        }
    }
}
