//! The browser itself: what it is told reaches the page, and it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use farcall_test_browser::{Browser, PATIENCE};
use serde_json::json;

const PAGE: &str = "data:text/html,<title>A page</title><input id=name><button id=go \
                    onclick=\"document.getElementById('said').textContent = 'Hello, ' + document.getElementById('name').value\">\
                    Go</button><p id=said></p>";

#[tokio::test]
async fn it_uses_a_page_as_a_person_does() {
    let browser = Browser::start().await;
    browser.open(PAGE).await;
    browser.keys("#name", "Ada").await;
    browser.click("#go").await;
    browser.shows("Hello, Ada").await;
    assert_eq!(browser.script("return await Promise.resolve(document.title)").await, "A page");
    browser.script("console.error('told')").await;
    assert!(browser.log().await.iter().any(|line| line.contains("told")));
}

#[tokio::test]
async fn pages_see_the_screen_and_the_scheme_that_were_set() {
    let browser = Browser::start().await;
    let seen = "return [innerWidth, innerHeight, matchMedia('(prefers-color-scheme: dark)').matches]";
    browser.screen(390, 844, true).await;
    browser.scheme("dark").await;
    browser.open("data:text/html,<meta name=viewport content=width=device-width>").await;
    assert_eq!(browser.script(seen).await, json!([390, 844, true]));
    browser.screen(1280, 800, false).await;
    browser.scheme("light").await;
    assert_eq!(browser.script(seen).await, json!([1280, 800, false]));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.png");
    browser.screenshot(&file).await;
    let picture = fs::read(&file).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
    // The header's first two fields are the size: https://www.w3.org/TR/png-3/#11IHDR
    let size = |at: usize| u32::from_be_bytes(picture[at..at + 4].try_into().unwrap());
    assert_eq!((size(16), size(20)), (1280, 800));
}

#[tokio::test]
#[should_panic(expected = "window is not what it was")]
async fn script_that_throws_fails_the_test() {
    Browser::start().await.script("throw new Error('window is not what it was')").await;
}

#[tokio::test]
async fn dropped_browser_leaves_no_process_and_no_profile() {
    let browser = Browser::start().await;
    browser.open(PAGE).await;
    let driver = processes().into_iter().find(|process| process.parent == std::process::id()).unwrap();
    let alive = || processes().into_iter().filter(|process| process.group == driver.id);
    let profile = alive().find_map(|process| process.profile()).unwrap();
    assert!(profile.exists() && alive().count() > 2, "the driver, the browser and its renderers");
    drop(browser);
    // What the browser's own processes leave behind is for the system to collect.
    let begun = Instant::now();
    while alive().count() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} are left", alive().count());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(!profile.exists());
}

/// A process of the system, as `/proc` tells of it.
struct Process {
    id: u32,
    parent: u32,
    group: u32,
}

impl Process {
    /// The fields of `/proc/<id>/stat`: `id (name) state parent group ...`.
    fn read(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        if fields.next()? == "Z" {
            return None;
        }
        Some(Self { id, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }

    /// The folder that a browser was told to keep its things in.
    fn profile(&self) -> Option<PathBuf> {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", self.id)).ok()?;
        Some(line.split('\0').find_map(|flag| flag.strip_prefix("--user-data-dir="))?.into())
    }
}

/// All that run and have not ended.
fn processes() -> Vec<Process> {
    let ids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter_map(Process::read).collect()
}
