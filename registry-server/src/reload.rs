//! Reading tokens and certificates again when their files have changed.

use std::sync::Arc;
use std::time::Duration;

use farcall_registry::server::Registry;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

use crate::failure::Failure;
use crate::tls::{CurrentTls, TlsContent, TlsFiles};
use crate::tokens::{Secrets, TokenSources};

/// How often files are looked at. They are small; comparing what they say is surer than their
/// times, which links and copies can keep.
const EVERY: Duration = Duration::from_secs(2);

/// What may change while the registry runs.
pub(crate) struct Reload {
    pub(crate) registry: Registry,
    pub(crate) tokens: Watched<TokenSources, Secrets>,
    pub(crate) tls: Option<(Watched<TlsFiles, TlsContent>, Arc<CurrentTls>)>,
}

/// Files, what they said when it was last good, and what was last wrong with them.
pub(crate) struct Watched<F, C> {
    files: F,
    content: C,
    complaint: Option<String>,
}

impl<F, C> Watched<F, C> {
    pub(crate) const fn new(files: F, content: C) -> Self {
        Self { files, content, complaint: None }
    }

    /// Says what is wrong, once, however often it is seen.
    fn complain(&mut self, of: &str, failure: &Failure) {
        let complaint = failure.to_string();
        if self.complaint.as_ref() != Some(&complaint) {
            error!(error = %complaint, "the new {of} cannot be used; the old ones stay");
            self.complaint = Some(complaint);
        }
    }
}

impl Reload {
    /// Looks at the files every few seconds, and when it is told to, for as long as it is polled.
    pub(crate) async fn run(mut self, now: Arc<Notify>) {
        if !self.tokens.files.can_change() && self.tls.is_none() {
            return;
        }
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Both are cancel-safe: a tick or a notice that was not taken is there for the next turn.
                _ = ticks.tick() => {}
                () = now.notified() => info!("told to read the files again"),
            }
            // Disks can be slow, and the files can be on somebody else's.
            let look = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match look.await {
                Ok(this) => self = this,
                Err(failure) => return error!(%failure, "files are no longer looked at"),
            }
        }
    }

    fn look(&mut self) {
        self.look_at_tokens();
        self.look_at_tls();
    }

    fn look_at_tokens(&mut self) {
        let watched = &mut self.tokens;
        if !watched.files.can_change() {
            return;
        }
        match watched.files.read_again() {
            Err(failure) => watched.complain("tokens", &failure),
            Ok(secrets) => {
                watched.complaint = None;
                if secrets != watched.content {
                    self.registry.set_tokens(secrets.tokens());
                    watched.content = secrets;
                    info!("new tokens hold from now on");
                }
            }
        }
    }

    fn look_at_tls(&mut self) {
        let Some((watched, current)) = &mut self.tls else { return };
        let content = match watched.files.read() {
            Err(failure) => return watched.complain("certificates", &failure),
            Ok(content) if content == watched.content => {
                watched.complaint = None;
                return;
            }
            Ok(content) => content,
        };
        // Of a pair that is being replaced one file may be old still: then they do not fit, and the
        // next look finds both.
        match watched.files.config(&content) {
            Err(failure) => watched.complain("certificates", &failure),
            Ok(config) => {
                current.set(config);
                watched.content = content;
                watched.complaint = None;
                info!(cert = %watched.files.cert.display(), "new connections have the new certificate");
            }
        }
    }
}
