//! [`shutdown_signal`]: the signals that ask a process to stop, as a future.

use std::{fmt, io};

/// A signal that asks a process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownSignal {
    /// SIGINT, which Ctrl-C sends.
    Interrupt,
    /// SIGTERM, which `kill`, service managers and container runtimes send.
    Terminate,
}

/// Returns a future that is ready when the process receives SIGTERM or SIGINT; outside of Unix, on
/// Ctrl-C. For [`Server::serve_until`](crate::Server::serve_until):
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_server::{Server, shutdown_signal};
///
/// let server = Server::builder().listen("tcp@0.0.0.0:7001").bind().await?;
/// server.serve_until(shutdown_signal()?).await;
/// # Ok(())
/// # }
/// ```
///
/// The signals are caught from this call on, whether or not the future is polled: they do not end
/// the process any more.
///
/// # Errors
///
/// The system does not let the process catch signals.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
#[cfg(unix)]
pub fn shutdown_signal() -> io::Result<impl Future<Output = ShutdownSignal> + Send> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            // Both only wait, and are not used again.
            _ = interrupt.recv() => ShutdownSignal::Interrupt,
            _ = terminate.recv() => ShutdownSignal::Terminate,
        }
    })
}

/// Returns a future that is ready on Ctrl-C, for [`Server::serve_until`](crate::Server::serve_until).
///
/// # Errors
///
/// None on this system; on Unix, the system may not let the process catch signals.
#[cfg(not(unix))]
pub fn shutdown_signal() -> io::Result<impl Future<Output = ShutdownSignal> + Send> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Ctrl-C cannot be caught, and ends the process.
            std::future::pending::<()>().await;
        }
        ShutdownSignal::Interrupt
    })
}

impl fmt::Display for ShutdownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::process::{Command, id};
    use std::time::Duration;

    use super::*;

    /// Sends this process a signal, which does not end it, since the signals are caught.
    fn kill(signal: &str) {
        assert!(Command::new("kill").args([signal, &id().to_string()]).status().unwrap().success());
    }

    #[tokio::test]
    async fn signals_are_caught_from_the_call_on() {
        // One after the other, since each is received by all futures.
        for (name, expected) in [("-TERM", ShutdownSignal::Terminate), ("-INT", ShutdownSignal::Interrupt)] {
            let signal = shutdown_signal().unwrap();
            kill(name);
            let received = tokio::time::timeout(Duration::from_secs(60), signal).await;
            assert_eq!(received.unwrap(), expected);
        }
    }
}
