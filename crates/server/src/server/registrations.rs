//! [`Registrations`]: the registrations of a running server, from when it serves until before it
//! drains. What is registered is for `advertisement`; how it stays registered, for
//! `farcall_discovery`.

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

/// The time after which tasks that should be done are aborted. They take at most 2 s, concurrently,
/// unless a registrar blocks its thread.
const END_TIMEOUT: Duration = Duration::from_millis(2_100);

/// One instance of a server in one registry, and the state of its registration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Registration {
    /// The registry, as its registrar describes itself: `http://registry:7100`.
    pub place: Arc<str>,
    /// The registered instance.
    pub instance: Instance,
    /// The state of the registration.
    pub state: RegistrationState,
}

/// All registrations of a server. Their number is bounded by the instances and registrars of the
/// builder.
#[derive(Default)]
pub(crate) struct Registrations {
    entries: Vec<Entry>,
    running: AtomicBool,
}

/// An instance and a registry, and the state as the task that keeps it registered reports it.
struct Entry {
    target: Arc<Target>,
    instance: Instance,
    state: Arc<watch::Sender<RegistrationState>>,
}

/// A registry: a registrar whose type is erased.
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

    /// Starts one task for each registration.
    pub(crate) fn start(&self) -> Running {
        let mut running = Running::default();
        for Entry { target, instance, state } in &self.entries {
            let (state, registered) = (Arc::clone(state), Arc::clone(&running.any_registered));
            let report = Box::new(move |now: RegistrationState| {
                if matches!(now, RegistrationState::Registered { .. }) {
                    registered.store(true, SeqCst);
                }
                state.send_replace(now);
            });
            let task = (target.keep)(instance.clone(), running.stop.clone(), report);
            running.tasks.spawn(task);
        }
        self.running.store(!self.entries.is_empty(), SeqCst);
        running
    }

    /// Returns `true` if there is something to deregister before the server drains.
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

/// The tasks that keep a server registered. Dropping this aborts them.
#[derive(Default)]
pub(crate) struct Running {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// `true` if anything was registered at any time.
    any_registered: Arc<AtomicBool>,
}

impl Running {
    /// Deregisters everything, within about 2 s, then waits for `pause` so that watching clients see it.
    pub(crate) async fn end(mut self, pause: Duration) {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    warn!(%error, "a registrar panicked");
                }
            }
        };
        if timeout(END_TIMEOUT, all).await.is_err() {
            warn!(left = self.tasks.len(), "not deregistered in time: a registrar blocks a thread");
        }
        if self.any_registered.load(SeqCst) {
            sleep(pause).await;
        }
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}
