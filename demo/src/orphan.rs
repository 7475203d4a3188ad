//! Noticing that the process that started this one is gone.

use std::io::{self, Read};
use std::process;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// How much longer than it was given an orphan may take to stop before it exits all the same:
/// what blocks every thread keeps it from doing so by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Ready when stdin has ended, which it does with the parent.
#[derive(Debug)]
pub(crate) struct Parent(Option<oneshot::Receiver<()>>);

impl Parent {
    /// Watches, if `watch` says so. `stop_limit` is how long this process may take to stop then.
    ///
    /// A thread of its own reads stdin, since one of tokio's would hold up the exit until the next
    /// byte.
    pub(crate) fn new(watch: bool, stop_limit: Duration) -> Self {
        if !watch {
            return Self(None);
        }
        let (gone, orphaned) = oneshot::channel();
        thread::spawn(move || {
            let mut input = [0; 64];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut input) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            // A process that stops already needs no telling.
            let _: Result<(), ()> = gone.send(());
            thread::sleep(stop_limit.saturating_add(GRACE));
            process::exit(1);
        });
        Self(Some(orphaned))
    }

    /// Ready when it is gone; never, where it is not watched.
    pub(crate) async fn gone(self) {
        match self.0 {
            // An error means that the watching thread is gone, and then nobody watches.
            Some(orphaned) => drop(orphaned.await),
            None => std::future::pending().await,
        }
    }
}
