//! The process of chromedriver, and the requests to it; what they mean is the browser's matter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process_group};
use rustls::crypto::{CryptoProvider, ring};
use serde_json::Value;

use crate::PATIENCE;

/// The driver's program, of the package `chromium-driver`.
const DRIVER: &str = "/usr/bin/chromedriver";
/// Attempts to start a driver.
const STARTS: usize = 5;

/// A chromedriver with at most one session. Both end when this is dropped.
pub(crate) struct Driver {
    process: Child,
    port: u16,
    session: Option<String>,
    client: reqwest::Client,
}

impl Driver {
    /// Starts one on a port that the system picks.
    pub(crate) fn start() -> Self {
        let mut said = String::new();
        for _ in 0..STARTS {
            // It listens on the same port of IPv4 and of IPv6, and ends where only one of them was free.
            let mut process = Command::new(DRIVER)
                .arg("--port=0")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                // The browser is in the group of its driver, so one signal ends all of it.
                .process_group(0)
                .spawn()
                .unwrap_or_else(|error| panic!("{DRIVER}: {error}; scripts/install-test-tools installs it"));
            let port = port_of(&mut process);
            // From here on it is ended by being dropped.
            let mut driver = Self { process, port: 0, session: None, client: client() };
            match port {
                Ok(port) => {
                    driver.port = port;
                    return driver;
                }
                Err(output) => said = output,
            }
        }
        panic!("{DRIVER} ended {STARTS} times without a port; it said: {said}");
    }

    /// Has it start a browser.
    pub(crate) async fn open_session(&mut self, capabilities: &Value) {
        let session = self.ask(Method::POST, "/session", Some(capabilities)).await;
        let session = session.unwrap_or_else(|error| panic!("no browser started: {error}"));
        self.session = Some(session["sessionId"].as_str().unwrap().to_owned());
    }

    /// Posts to the session; the error is what the driver said.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask(Method::POST, &self.path(path), Some(body)).await
    }

    /// Gets from the session.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        self.ask(Method::GET, &self.path(path), None).await
    }

    fn path(&self, path: &str) -> String {
        format!("/session/{}{path}", self.session.as_deref().expect("a browser opens its session first"))
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

/// Closes the race of a failing test with its browser: nothing else would end it.
impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(session) = &self.session
            && let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port))
        {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(
                stream,
                "DELETE /session/{session} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n",
                self.port
            );
            // Answered once the browser has ended.
            let _ = stream.read(&mut [0; 256]);
        }
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// A client for the driver alone.
fn client() -> reqwest::Client {
    // It speaks no TLS here, but is not made without; the crate under test may have chosen already.
    if CryptoProvider::get_default().is_none() {
        let _ = ring::default_provider().install_default();
    }
    reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap()
}

/// The port that it says it got, or all that it said before it ended.
fn port_of(driver: &mut Child) -> Result<u16, String> {
    let mut stdout = BufReader::new(driver.stdout.take().unwrap());
    let mut said = String::new();
    let mut line = String::new();
    while stdout.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some((_, port)) = line.trim_end().trim_end_matches('.').rsplit_once("successfully on port ") {
            let port = port.parse().unwrap();
            // Whoever writes to a pipe that nobody reads may have to wait.
            std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
            return Ok(port);
        }
        said.push_str(&line);
        line.clear();
    }
    Err(said)
}
