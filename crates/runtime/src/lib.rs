//! Tasks, timers and the clock of farcall's client: those of tokio, and in a browser those of the page.
//!
//! In a page or a worker there are no threads for the scheduler of tokio, and the clock of `std` panics; but the page has
//! tasks, timers and a clock. There they stand under tokio's names and behave as tokio's do, as far as the client
//! needs them. Everywhere else they are tokio's. Channels, locks, and the traits of reading and writing are tokio's on both.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! use std::time::Duration;
//!
//! use farcall_runtime::spawn;
//! use farcall_runtime::time::{Instant, sleep};
//!
//! let begin = Instant::now();
//! // In paused time, which passes at once.
//! let task = spawn(sleep(Duration::from_secs(3)));
//! task.await.expect("it is not aborted");
//! assert_eq!(begin.elapsed(), Duration::from_secs(3));
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(target_family = "wasm")]
pub mod task;
#[cfg(target_family = "wasm")]
pub mod time;

#[cfg(target_family = "wasm")]
pub use self::task::spawn;
#[cfg(not(target_family = "wasm"))]
pub use tokio::{spawn, task, time};
