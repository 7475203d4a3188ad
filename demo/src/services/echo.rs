//! `Echo`: methods to test a server with.

use std::hint;
use std::process;
use std::time::{Duration, Instant};

use farcall::Bytes;
use serde::{Deserialize, Serialize};

/// Methods that show the behaviour of a server.
#[farcall::service]
pub trait Echo {
    /// Returns the data unchanged.
    #[rpc(idempotent)]
    async fn echo(&self, data: Bytes) -> Bytes;
    /// Waits for `ms` milliseconds without using CPU, and returns `ms`.
    #[rpc(idempotent)]
    async fn sleep(&self, ms: u64) -> u64;
    /// Panics with the message.
    async fn panic(&self, message: String);
    /// Returns the name and the process id of the server.
    #[rpc(idempotent)]
    async fn whoami(&self) -> WhoAmI;
    /// Keeps a CPU busy for `us` microseconds; it cannot be cancelled.
    #[rpc(idempotent)]
    async fn burn(&self, us: u64);
}

/// The identity of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// The name from its command line.
    pub instance: String,
    /// The process id.
    pub pid: u32,
}

/// The implementation.
#[derive(Debug)]
pub(crate) struct Echoing {
    /// The name that `whoami` returns.
    pub(crate) instance: String,
}

impl Echo for Echoing {
    async fn echo(&self, data: Bytes) -> Bytes {
        data
    }

    async fn sleep(&self, ms: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        ms
    }

    async fn panic(&self, message: String) {
        panic!("{message}");
    }

    async fn whoami(&self) -> WhoAmI {
        WhoAmI { instance: self.instance.clone(), pid: process::id() }
    }

    async fn burn(&self, us: u64) {
        let start = Instant::now();
        // Without an await on purpose, like a handler that blocks its thread.
        while start.elapsed() < Duration::from_micros(us) {
            hint::spin_loop();
        }
    }
}
