//! A browser without a window, driven by chromedriver over W3C WebDriver
//! (<https://www.w3.org/TR/webdriver2/>): as much of it as the page's tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{http, until};

/// One at a time: a browser is several processes.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Both are in the packages `chromium` and `chromium-driver`.
const DRIVER: &str = "/usr/bin/chromedriver";
const BROWSER: &str = "/usr/bin/chromium";

/// The key of an element's id in answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one tab. It ends when this is dropped, and leaves nothing behind.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    client: reqwest::Client,
    _profile: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    /// Starts one with a profile of its own.
    pub(crate) async fn start() -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(DRIVER)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{DRIVER}: {error}; scripts/install-test-tools installs it"));
        let port = port_of(&mut driver);
        let session = String::new();
        let mut browser = Self { driver, port, session, client: http(), _profile: profile, _alone: alone };
        let profile_flag = format!("--user-data-dir={}", browser._profile.path().display());
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
            "goog:chromeOptions": {"binary": BROWSER, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.ask(Method::POST, "/session", Some(&capabilities)).await.unwrap();
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url })).await;
    }

    pub(crate) async fn reload(&self) {
        self.post("/refresh", &json!({})).await;
    }

    /// The value of this JavaScript, the body of a function.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Clicks as a person does: what is hidden or covered cannot be clicked, which fails.
    pub(crate) async fn click(&self, selector: &str) {
        // What is about to be drawn again may be replaced between the two steps.
        until(&format!("{selector} is clicked"), async || {
            let Some(element) = self.find(selector).await else { return false };
            self.try_post(&format!("/element/{element}/click"), &json!({})).await.is_ok()
        })
        .await;
    }

    /// Types into it.
    pub(crate) async fn keys(&self, selector: &str, text: &str) {
        until(&format!("{text:?} is typed into {selector}"), async || {
            let Some(element) = self.find(selector).await else { return false };
            self.try_post(&format!("/element/{element}/value"), &json!({ "text": text })).await.is_ok()
        })
        .await;
    }

    /// Waits until this JavaScript expression is true.
    pub(crate) async fn sees(&self, expression: &str) {
        // What it asks about may not be there yet.
        let script = format!("try {{ return !!({expression}) }} catch {{ return false }}");
        let mut seen = String::new();
        let waited = tokio::time::timeout(Duration::from_secs(50), async {
            while self.script(&script).await != Value::Bool(true) {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
        if waited.await.is_err() {
            if let Some(text) = self.script("return document.body.innerText").await.as_str() {
                text.clone_into(&mut seen);
            }
            panic!("never true: {expression}\nthe page: {seen}\nthe log: {:?}", self.log().await);
        }
    }

    /// Waits until the page shows this text.
    pub(crate) async fn shows(&self, text: &str) {
        self.sees(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// Has pages believe that they are on a screen of this size.
    pub(crate) async fn screen(&self, width: u32, height: u32, mobile: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Has pages believe that their reader prefers this scheme, `light` or `dark`.
    pub(crate) async fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// What the browser wrote to its console since it was asked last.
    pub(crate) async fn log(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"})).await;
        let message = |entry: &Value| entry["message"].as_str().unwrap_or_default().to_owned();
        entries.as_array().unwrap().iter().map(message).collect()
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await;
    }

    async fn find(&self, selector: &str) -> Option<String> {
        let query = json!({"using": "css selector", "value": selector});
        let found = self.try_post("/element", &query).await.ok()?;
        Some(found[ELEMENT].as_str().unwrap().to_owned())
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn try_post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask(Method::POST, &format!("/session/{}{path}", self.session), Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let request = self.client.request(method, format!("http://127.0.0.1:{}{path}", self.port));
        let request = if let Some(body) = body { request.json(body) } else { request };
        let answer = request.send().await.unwrap();
        let good = answer.status().is_success();
        let mut answer: Value = answer.json().await.unwrap();
        let value = answer["value"].take();
        if good { Ok(value) } else { Err(value.to_string()) }
    }
}

/// Closes the race of a failing test with its browser: nobody else would end it.
impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty()
            && let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port))
        {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(
                stream,
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
                self.session, self.port
            );
            // Answered once the browser has ended.
            let _ = stream.read(&mut [0; 256]);
        }
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}

/// The port that it says it got.
fn port_of(driver: &mut Child) -> u16 {
    let mut stdout = BufReader::new(driver.stdout.take().unwrap());
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some((_, port)) = line.trim_end().trim_end_matches('.').rsplit_once("successfully on port ") {
            let port = port.parse().unwrap();
            // Whoever writes to a pipe that nobody reads may have to wait.
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
            return port;
        }
        line.clear();
    }
    panic!("chromedriver ended without a port");
}
