//! A browser without a window, for tests: Chromium, driven by chromedriver over W3C WebDriver
//! (<https://www.w3.org/TR/webdriver2/>), as much of it as the tests of farcall's pages need.
//! It is a dev-dependency of those crates and published nowhere.
//!
//! ```no_run
//! # async fn a_test(url: &str) {
//! use farcall_test_browser::Browser;
//!
//! let browser = Browser::start().await;
//! browser.screen(1280, 800, false).await;
//! browser.scheme("dark").await;
//! browser.open(url).await;
//! browser.shows("42").await;
//! browser.click("#again").await;
//! browser.sees("document.querySelectorAll('li').length === 2").await;
//! assert_eq!(browser.script("return (await fetch('/')).status").await, 200);
//! browser.screenshot("page.png").await;
//! assert_eq!(browser.log().await, Vec::<String>::new());
//! # }
//! ```
//!
//! It asserts, so it panics: a driver that is not installed, a page that never shows what it should, a
//! script that throws. What waits does so for at most [`PATIENCE`]. One browser runs at a time in a process,
//! because a browser is several processes, and the driver and the browser are killed when it is dropped.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod browser;
mod driver;

use std::time::Duration;

pub use browser::Browser;

/// Far longer than anything takes, also where the machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);
