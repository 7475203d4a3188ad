//! The client in Python, written from `docs/PROTOCOL.md` alone, against the demo server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::process::Command;

use self::support::Demo;

/// The system's own, for which the install script gets the msgpack package.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn a_client_in_another_language_finds_the_protocol_as_documented() {
    let needed = Command::new(PYTHON).args(["-c", "import msgpack"]).output();
    assert!(
        needed.as_ref().is_ok_and(|output| output.status.success()),
        "{PYTHON} with the package msgpack is needed; `./test` installs it ({needed:?})",
    );
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix@{}", dir.path().join("socket").display());
    let (_server, addresses) = Demo::server(&["--listen", "tcp@127.0.0.1:0", "--listen", &socket]);
    let output = Command::new(PYTHON)
        .args(["-m", "unittest", "test_demo_server"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python"))
        .env("FARCALL_TCP", &addresses[0])
        .env("FARCALL_UNIX", &addresses[1])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // A suite in which no tests are found succeeds as well.
    assert!(!said.contains("Ran 0 tests"), "{said}");
}
