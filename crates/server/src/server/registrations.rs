//! The registrations of a running server: they begin when it serves, and end before it drains. What
//! is registered is said in `advertise`; how it is kept so, in `farcall_discovery`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use farcall_discovery::{Instance, Registrar, RegistrationState, keep_registered_with};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// After so long, tasks that should be done are ended. They take 2 s each, side by side, unless a
/// registrar blocks its thread.
const END_LIMIT: Duration = Duration::from_millis(2_100);

/// One instance of a server at one place where it registers, as it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// Where, in the registrar's own words: `http://registry:7100`.
    pub place: Arc<str>,
    /// What is registered.
    pub instance: Instance,
    /// How that goes.
    pub state: RegistrationState,
}

/// All registrations of a server. Their number is bounded by what the builder was told.
#[derive(Default)]
pub(crate) struct Registrations {
    entries: Vec<Entry>,
    running: AtomicBool,
}

/// An instance and a place, and the state as the task that keeps it registered tells it.
struct Entry {
    target: Arc<Target>,
    instance: Instance,
    state: Arc<watch::Sender<RegistrationState>>,
}

/// A place where to register: a registrar whose type is forgotten.
pub(crate) struct Target {
    place: Arc<str>,
    keep: Box<Keep>,
}

type Keep = dyn Fn(Instance, CancellationToken, Report) -> BoxFuture<'static, ()> + Send + Sync;
type Report = Box<dyn FnMut(RegistrationState) + Send>;

impl Target {
    pub(crate) fn new<R: Registrar>(registrar: R) -> Self {
        let place = registrar.describe().into();
        let registrar = Arc::new(registrar);
        let keep = Box::new(move |instance, stop: CancellationToken, report: Report| {
            let registrar = Arc::clone(&registrar);
            let keeping = keep_registered_with(registrar, instance, stop.cancelled_owned(), report);
            Box::pin(keeping) as BoxFuture<'static, ()>
        });
        Self { place, keep }
    }
}

impl Registrations {
    pub(crate) fn new(targets: Vec<Target>, instances: &[Instance]) -> Self {
        let mut entries = Vec::with_capacity(targets.len() * instances.len());
        for target in targets.into_iter().map(Arc::new) {
            for instance in instances {
                let (target, instance) = (Arc::clone(&target), instance.clone());
                entries.push(Entry { target, instance, state: Arc::default() });
            }
        }
        Self { entries, running: AtomicBool::new(false) }
    }

    /// Registers everything, in tasks of their own.
    pub(crate) fn start(&self) -> Running {
        let mut running = Running::default();
        for Entry { target, instance, state } in &self.entries {
            let (state, known) = (Arc::clone(state), Arc::clone(&running.any_known));
            let report = Box::new(move |now: RegistrationState| {
                if matches!(now, RegistrationState::Registered { .. }) {
                    known.store(true, SeqCst);
                }
                state.send_replace(now);
            });
            let task = (target.keep)(instance.clone(), running.stop.clone(), report);
            running.tasks.spawn(task);
        }
        self.running.store(!self.entries.is_empty(), SeqCst);
        running
    }

    /// Whether there is something to take away before the server drains.
    pub(crate) fn are_running(&self) -> bool {
        self.running.load(SeqCst)
    }

    pub(crate) fn list(&self) -> Vec<Registration> {
        let entries = self.entries.iter();
        entries
            .map(|Entry { target, instance, state }| Registration {
                place: Arc::clone(&target.place),
                instance: instance.clone(),
                state: state.borrow().clone(),
            })
            .collect()
    }
}

/// The tasks that keep a server registered. Dropping this ends them where they are.
#[derive(Default)]
pub(crate) struct Running {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Whether anything was registered at any time.
    any_known: Arc<AtomicBool>,
}

impl Running {
    /// Takes everything away, within some 2 s, and gives watching clients a moment to see it.
    pub(crate) async fn end(mut self, pause: Duration) {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    warn!(%error, "a registrar panicked");
                }
            }
        };
        if timeout(END_LIMIT, all).await.is_err() {
            warn!(left = self.tasks.len(), "not deregistered in time: a registrar blocks a thread");
        }
        if self.any_known.load(SeqCst) {
            sleep(pause).await;
        }
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}
