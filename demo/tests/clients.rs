//! The clients for Python and Go in `clients/`: what the server does to those who write raw bytes by
//! `docs/PROTOCOL.md`, and the own tests of each client with the examples of its README; and the Rust client in a page.
//! All against the demo.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use farcall_test_browser::Browser;
use farcall_test_support::loopback::own_address;
use rustix::process::Signal;

use self::support::Demo;

/// The system's own, for which the install script gets the msgpack package.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn python_client_confirms_the_documented_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix@{}", dir.path().join("socket").display());
    let (_server, addresses) = Demo::server(&["--listen", "tcp@127.0.0.1:0", "--listen", &socket]);
    let addresses = [("FARCALL_TCP", addresses[0].as_str()), ("FARCALL_UNIX", addresses[1].as_str())];
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let summary = run_suite(&tests, &addresses);
    // Each case over two sockets and with two codecs.
    assert!(summary.tests >= 370, "{summary:?}");
}

#[test]
fn python_package_passes_its_tests_and_readme_examples() {
    let summary = run_suite(&package().join("tests"), &[("FARCALL_DEMO", env!("CARGO_BIN_EXE_demo"))]);
    assert!(summary.tests >= 300, "{summary:?}");
    assert_eq!(summary.skipped, 0, "{summary:?}");
}

#[test]
fn go_package_passes_its_tests_and_readme_examples() {
    let package = clients().join("go");
    let unformatted = go(&package, "gofmt", &["-l", "."]);
    assert!(unformatted.is_empty(), "gofmt -w would change\n{unformatted}");
    go(&package, "go", &["vet", "./..."]);
    // The race detector takes a minute to build, which is too long for every run.
    let race = std::env::var_os("FARCALL_GO_RACE").map(|_| "-race");
    let arguments = ["test", "-v", "-count=1", "-timeout=600s"].into_iter().chain(race).chain(["./..."]);
    let said = go(&package, "go", &arguments.collect::<Vec<_>>());
    // Each behaviour over each scheme.
    assert!(said.matches("--- PASS: ").count() >= 250, "{said}");
    assert!(!said.contains("--- SKIP: "), "{said}");
}

#[tokio::test]
#[ignore = "needs the page that scripts/browser-page builds, and is run by `scripts/browser-page --test`"]
async fn page_calls_the_demo_by_typed_rust() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page");
    let (server, addresses) = Demo::server(&["--http", &own_address(), "--pages", pages.to_str().unwrap()]);
    let browser = Browser::start().await;
    browser.open(&format!("{}/index.html", addresses[0])).await;
    let place = addresses[0].strip_prefix("http://").unwrap();

    browser.shows(&format!("ws@{place}")).await;
    browser.click("#multiply").await;
    browser.shows("6 × 7 = 42 in").await;
    browser.script("document.getElementById('b').value = '0'").await;
    browser.click("#divide").await;
    browser.shows("the method returned: division by zero").await;
    browser.click("#measure").await;
    browser.shows("1000 calls, all right").await;

    browser.click("#watch").await;
    browser.shows("3").await;
    browser.click("#stop").await;
    browser.shows("stopped").await;
    assert_eq!(browser.log().await, Vec::<String>::new());

    // A call while the server is gone, and one after it has come back.
    server.signal(Signal::TERM);
    server.ended();
    browser.click("#multiply").await;
    browser.sees("document.getElementById('product').textContent.startsWith('the call failed: ')").await;
    let failed = browser.script("return document.getElementById('product').textContent").await;
    assert!(failed.as_str().unwrap().contains("no WebSocket was opened"), "{failed}");
    let (_server, _) = Demo::server(&["--http", place, "--pages", pages.to_str().unwrap()]);
    let product = "document.getElementById('product').textContent.startsWith('6 × 0 = 0 in ')";
    browser.sees(&format!("document.getElementById('multiply').click(), {product}")).await;
}

/// The output of a tool of Go, which must succeed.
fn go(package: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(package)
        .env("FARCALL_DEMO", env!("CARGO_BIN_EXE_demo"))
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .output()
        .expect("Go is needed; `./test` installs it");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The number of tests of a suite.
#[derive(Debug)]
struct Summary {
    tests: usize,
    skipped: usize,
}

fn package() -> PathBuf {
    clients().join("python")
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients")
}

/// Runs all tests in a directory, which must pass.
fn run_suite(tests: &Path, environment: &[(&str, &str)]) -> Summary {
    let needed = Command::new(PYTHON).args(["-c", "import msgpack"]).output();
    assert!(
        needed.as_ref().is_ok_and(|output| output.status.success()),
        "{PYTHON} with the package msgpack is needed; `./test` installs it ({needed:?})",
    );
    let output = Command::new(PYTHON)
        .args(["-W", "error::ResourceWarning", "-m", "unittest"])
        .current_dir(tests)
        .env("PYTHONPATH", package().join("src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // A suite without tests succeeds as well, so count them.
    Summary {
        tests: number_behind(&said, "\nRan ").expect(&said),
        skipped: number_behind(&said, "skipped=").unwrap_or(0),
    }
}

/// The number that follows a text at its last place.
fn number_behind(text: &str, before: &str) -> Option<usize> {
    let (_, rest) = text.rsplit_once(before)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}
