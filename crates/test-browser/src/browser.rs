//! [`Browser`]: opens pages, uses them and inspects them.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::PATIENCE;
use crate::driver::Driver;

/// One at a time: a browser is several processes.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The browser's program, of the package `chromium`.
const BROWSER: &str = "/usr/bin/chromium";

/// The key of an element's id in answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Less than [`PATIENCE`], after which no answer of the driver is waited for.
const SCRIPT_MS: u32 = 50_000;

/// The interval at which a condition is checked.
const TICK: Duration = Duration::from_millis(30);

/// A browser with one tab and a temporary profile. Dropping it ends the browser and removes the profile.
pub struct Browser {
    driver: Driver,
    // Behind the driver, because fields are dropped in order: it is in use until the browser has ended.
    _profile: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts one, once no other runs in this process.
    pub async fn start() -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let profile = tempfile::tempdir().unwrap();
        let profile_flag = format!("--user-data-dir={}", profile.path().display());
        let flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &profile_flag,
        ];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "timeouts": {"script": SCRIPT_MS},
            "goog:chromeOptions": {"binary": BROWSER, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut driver = Driver::start();
        driver.open_session(&capabilities).await;
        Self { driver, _profile: profile, _alone: alone }
    }

    /// Goes to this URL, and waits until the page is loaded.
    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    /// Reloads the page.
    pub async fn reload(&self) {
        self.post("/refresh", &json!({})).await;
    }

    /// The value that this JavaScript returns, the body of an asynchronous function.
    pub async fn script(&self, script: &str) -> Value {
        // The driver fails on a thrown value that has a field `code`.
        let told = "(error) => { throw new Error(error?.stack ?? error) }";
        let script = format!("return (async () => {{ {script}\n }})().catch({told})");
        self.post("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Clicks as a person does: what is hidden or covered cannot be clicked, which fails.
    pub async fn click(&self, selector: &str) {
        self.act(&format!("{selector} is clicked"), selector, "click", &json!({})).await;
    }

    /// Types into it.
    pub async fn keys(&self, selector: &str, text: &str) {
        let what = format!("{text:?} is typed into {selector}");
        self.act(&what, selector, "value", &json!({ "text": text })).await;
    }

    /// Waits until this JavaScript expression is true.
    pub async fn sees(&self, expression: &str) {
        // What it asks about may not be there yet.
        let script = format!("try {{ return !!({expression}) }} catch {{ return false }}");
        let begun = Instant::now();
        while self.script(&script).await != Value::Bool(true) {
            if begun.elapsed() > PATIENCE {
                let page = self.script("return document.body.innerText").await;
                let page = page.as_str().unwrap_or_default();
                panic!("never true: {expression}\nthe page: {page}\nthe log: {:?}", self.log().await);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Waits until the page shows this text.
    pub async fn shows(&self, text: &str) {
        self.sees(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// Has pages believe that they are on a screen of this size, in CSS pixels.
    pub async fn screen(&self, width: u32, height: u32, mobile: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Has pages believe that their reader prefers this scheme, `light` or `dark`.
    pub async fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Writes what is on the screen to this file, as PNG.
    pub async fn screenshot(&self, path: impl AsRef<Path>) {
        let picture =
            self.driver.get("/screenshot").await.unwrap_or_else(|error| panic!("screenshot: {error}"));
        let picture = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        let path = path.as_ref();
        std::fs::write(path, picture).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Returns what the browser wrote to its console since the last call.
    pub async fn log(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"})).await;
        let message = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().unwrap().iter().map(message).collect()
    }

    /// Collects the garbage of the page: what it has forgotten is finalized soon after.
    pub async fn collect_garbage(&self) {
        self.devtools("HeapProfiler.collectGarbage", json!({})).await;
    }

    /// Runs a command of the DevTools protocol.
    async fn devtools(&self, command: &str, parameters: Value) {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await;
    }

    /// Finds an element and does this to it, until both went well.
    async fn act(&self, what: &str, selector: &str, action: &str, body: &Value) {
        let begun = Instant::now();
        // What is about to be drawn again may be replaced between the two steps.
        while let Err(error) = self.try_act(selector, action, body).await {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {error}");
            tokio::time::sleep(TICK).await;
        }
    }

    async fn try_act(&self, selector: &str, action: &str, body: &Value) -> Result<Value, String> {
        let query = json!({"using": "css selector", "value": selector});
        let found = self.driver.post("/element", &query).await?;
        let element = found[ELEMENT].as_str().unwrap();
        self.driver.post(&format!("/element/{element}/{action}"), body).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.driver.post(path, body).await.unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }
}
