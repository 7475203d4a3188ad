//! Detects the end of the parent process.

use std::io::{self, Read};
use std::process;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

/// The time after the stop limit at which an orphan exits without a graceful stop: if a handler
/// blocks every thread, it cannot stop gracefully.
const GRACE: Duration = Duration::from_secs(5);

/// The parent process, observed through stdin, which ends with it.
#[derive(Debug)]
pub(crate) struct Parent(Option<oneshot::Receiver<()>>);

impl Parent {
    /// Starts to watch stdin if `watch` is `true`. `stop_limit` is the time that this process then has
    /// to stop.
    ///
    /// A separate thread reads stdin, because a thread of tokio would delay the exit until the next
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
            // The receiver is gone if the process is already stopping.
            let _: Result<(), ()> = gone.send(());
            thread::sleep(stop_limit.saturating_add(GRACE));
            process::exit(1);
        });
        Self(Some(orphaned))
    }

    /// Waits until the parent has ended; never completes if it is not watched.
    pub(crate) async fn gone(self) {
        match self.0 {
            // An error means that the thread has ended, which also ends the watch.
            Some(orphaned) => drop(orphaned.await),
            None => std::future::pending().await,
        }
    }
}
