//! Tokens: from files, the environment and the configuration file, and read again.

use std::fs;

use reqwest::Method;
use rustix::process::Signal;

use crate::support::{Running, command, fails_with, text, until};

/// The status of a registration of the service with this token.
async fn write(registry: &Running, token: &str, service: &str) -> u16 {
    let request = registry.ask(Method::POST, "/registry").header("x-farcall-server", "tcp@127.0.0.1:7001");
    let answer = request.header("x-farcall-service", service).bearer_auth(token).send().await.unwrap();
    answer.status().as_u16()
}

async fn read(registry: &Running, token: &str) -> u16 {
    registry.get("/registry").bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_read_token_reads_and_the_write_token_writes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("read.token");
    fs::write(&file, "# two hold at once\nr-one\nr-two\n").unwrap();
    let args = ["--listen", "127.0.0.1:0", "--read-token-file", text(&file)];
    let registry = Running::spawn(command(&args).env("REGISTRY_WRITE_TOKEN", "w-one"));
    assert_eq!(registry.get("/registry").send().await.unwrap().status(), 401);
    assert_eq!(read(&registry, "wrong").await, 401);
    for token in ["r-one", "r-two", "w-one"] {
        assert_eq!(read(&registry, token).await, 200, "{token}");
    }
    assert_eq!(write(&registry, "r-one", "Arith").await, 403);
    assert_eq!(write(&registry, "w-one", "Arith").await, 200);
    assert_eq!(registry.get("/healthz").send().await.unwrap().status(), 200);
    // The page asks for the token itself.
    assert_eq!(registry.get("/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_token_file_that_changes_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("write.token");
    fs::write(&file, "old\n").unwrap();
    let registry = Running::start(&["--write-token-file", text(&file)]);
    assert_eq!(write(&registry, "old", "Arith").await, 200);

    fs::write(&file, "new\n").unwrap();
    until("the new token holds", async || write(&registry, "new", "Arith").await == 200).await;
    assert_eq!(write(&registry, "old", "Arith").await, 401);

    // An empty file must open the door to nobody, and shut out nobody.
    fs::write(&file, "").unwrap();
    registry.logs("there is no token in it").await;
    assert_eq!(write(&registry, "new", "Arith").await, 200);
    assert_eq!(write(&registry, "", "Arith").await, 401);

    fs::write(&file, "third\n").unwrap();
    registry.signal(Signal::HUP);
    until("the third token holds", async || write(&registry, "third", "Arith").await == 200).await;
    registry.logs("told to read the files again").await;
    assert!(!registry.stderr().contains("third"), "a token is in the log");
}

#[tokio::test]
async fn a_services_token_registers_its_services_only_and_can_be_exchanged() {
    let directory = tempfile::tempdir().unwrap();
    let (config, token) = (directory.path().join("registry.toml"), directory.path().join("text.token"));
    fs::write(&token, "t-one").unwrap();
    let content = |arith: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\n[[service-token]]\nservices = [\"Arith\"]\ntoken = \"{arith}\"\n\
             [[service-token]]\nservices = [\"Text\", \"~\"]\ntoken-file = \"{}\"\n",
            text(&token)
        )
    };
    fs::write(&config, content("a-one")).unwrap();
    let registry = Running::spawn(&mut command(&["--config", text(&config)]));
    assert_eq!(write(&registry, "a-one", "Arith").await, 200);
    assert_eq!(write(&registry, "a-one", "Text").await, 403);
    assert_eq!(write(&registry, "t-one", "Text").await, 200);
    assert_eq!(write(&registry, "t-one", "").await, 200);
    assert_eq!(write(&registry, "t-one", "Arith").await, 403);

    fs::write(&config, content("a-two")).unwrap();
    until("the other token holds", async || write(&registry, "a-two", "Arith").await == 200).await;
    assert_eq!(write(&registry, "a-one", "Arith").await, 401);
}

#[test]
fn a_bad_token_file_is_said_with_code_4() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let listen = ["--listen", "127.0.0.1:0"];
    for flag in ["--read-token-file", "--write-token-file"] {
        let command = || command(&[&listen[..], &[flag, text(&file)]].concat());
        let _ = fs::remove_file(&file);
        fails_with(&mut command(), 4, &[text(&file), "cannot be read"]);
        fs::write(&file, "\n# nothing\n").unwrap();
        fails_with(&mut command(), 4, &[text(&file), "no token"]);
        fs::write(&file, "fine\nnot fine\n").unwrap();
        fails_with(&mut command(), 4, &[text(&file), "line 2"]);
    }
    fails_with(
        &mut command(&[&listen[..], &["--read-token-file", text(directory.path())]].concat()),
        4,
        &["directory"],
    );
    fails_with(command(&listen).env("REGISTRY_WRITE_TOKEN", "two words"), 4, &["REGISTRY_WRITE_TOKEN"]);
}
