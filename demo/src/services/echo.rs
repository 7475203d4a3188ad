//! `Echo`: calls that do nothing useful, each in a way of its own, to try out a server with.

use std::hint;
use std::process;
use std::time::{Duration, Instant};

use farcall::Bytes;
use serde::{Deserialize, Serialize};

/// Answers that show how a server behaves.
#[farcall::service]
pub trait Echo {
    /// Returns the data as it came.
    #[rpc(idempotent)]
    async fn echo(&self, data: Bytes) -> Bytes;
    /// Waits for so many milliseconds, without keeping a CPU busy, and returns their number.
    #[rpc(idempotent)]
    async fn sleep(&self, ms: u64) -> u64;
    /// Panics with the message.
    async fn panic(&self, message: String);
    /// Tells which server this is.
    #[rpc(idempotent)]
    async fn whoami(&self) -> WhoAmI;
    /// Keeps a CPU busy for so many microseconds; nothing stops it earlier.
    #[rpc(idempotent)]
    async fn burn(&self, us: u64);
}

/// Who a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoAmI {
    /// The name that it was given when it was started.
    pub instance: String,
    /// Its process id.
    pub pid: u32,
}

/// The implementation.
#[derive(Debug)]
pub(crate) struct Echoing {
    /// What `whoami` answers.
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
        // On purpose without a single await: this is what a bad handler does to its neighbours.
        while start.elapsed() < Duration::from_micros(us) {
            hint::spin_loop();
        }
    }
}
