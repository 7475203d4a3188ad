//! Tokens from files, the environment and the configuration file, and their reload.

use std::fs;

use farcall_test_support::wait::until_async;
use reqwest::Method;
use rustix::process::Signal;

use crate::support::{Running, assert_fails_with, command, text};

/// Returns the status of a registration with this token.
async fn write(registry: &Running, token: &str, service: &str) -> u16 {
    let request = registry.ask(Method::POST, "/registry").header("x-farcall-server", "tcp@127.0.0.1:7001");
    let answer = request.header("x-farcall-service", service).bearer_auth(token).send().await.unwrap();
    answer.status().as_u16()
}

async fn read(registry: &Running, token: &str) -> u16 {
    registry.get("/registry").bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn read_token_reads_and_write_token_writes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("read.token");
    fs::write(&file, "# two are valid at once\ntoken-r-one\ntoken-r-two\n").unwrap();
    let args = ["--listen", "127.0.0.1:0", "--read-token-file", text(&file)];
    let registry = Running::spawn(command(&args).env("REGISTRY_WRITE_TOKEN", "token-w-one"));
    assert_eq!(registry.get("/registry").send().await.unwrap().status(), 401);
    assert_eq!(read(&registry, "wrong").await, 401);
    for token in ["token-r-one", "token-r-two", "token-w-one"] {
        assert_eq!(read(&registry, token).await, 200, "{token}");
    }
    assert_eq!(write(&registry, "token-r-one", "Arith").await, 403);
    assert_eq!(write(&registry, "token-w-one", "Arith").await, 200);
    assert_eq!(registry.get("/healthz").send().await.unwrap().status(), 200);
    // The page needs no token: its script asks for it.
    assert_eq!(registry.get("/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn changed_token_file_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("write.token");
    fs::write(&file, "old-token\n").unwrap();
    let registry = Running::start(&["--write-token-file", text(&file)]);
    assert_eq!(write(&registry, "old-token", "Arith").await, 200);

    fs::write(&file, "new-token\n").unwrap();
    until_async("the new token is valid", async || write(&registry, "new-token", "Arith").await == 200).await;
    assert_eq!(write(&registry, "old-token", "Arith").await, 401);

    // An empty file must neither open the registry nor refuse valid tokens.
    fs::write(&file, "").unwrap();
    registry.wait_for_log("there is no token in it").await;
    assert_eq!(write(&registry, "new-token", "Arith").await, 200);
    assert_eq!(write(&registry, "", "Arith").await, 401);

    fs::write(&file, "third-token\n").unwrap();
    registry.signal(Signal::HUP);
    until_async("the third token is valid", async || write(&registry, "third-token", "Arith").await == 200)
        .await;
    registry.wait_for_log("reading token files and certificates again, as requested").await;
    assert!(!registry.stderr().contains("third"), "a token is in the log");
}

#[tokio::test]
async fn service_token_registers_its_services_only_and_can_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (config, token) = (directory.path().join("registry.toml"), directory.path().join("text.token"));
    fs::write(&token, "token-t-one").unwrap();
    let content = |arith: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\n[[service-token]]\nservices = [\"Arith\"]\ntoken = \"{arith}\"\n\
             [[service-token]]\nservices = [\"Text\", \"~\"]\ntoken-file = \"{}\"\n",
            text(&token)
        )
    };
    fs::write(&config, content("token-a-one")).unwrap();
    let registry = Running::spawn(&mut command(&["--config", text(&config)]));
    assert_eq!(write(&registry, "token-a-one", "Arith").await, 200);
    assert_eq!(write(&registry, "token-a-one", "Text").await, 403);
    assert_eq!(write(&registry, "token-t-one", "Text").await, 200);
    assert_eq!(write(&registry, "token-t-one", "").await, 200);
    assert_eq!(write(&registry, "token-t-one", "Arith").await, 403);

    fs::write(&config, content("token-a-two")).unwrap();
    until_async("the other token is valid", async || write(&registry, "token-a-two", "Arith").await == 200)
        .await;
    assert_eq!(write(&registry, "token-a-one", "Arith").await, 401);
}

#[test]
fn invalid_token_file_exits_with_code_4() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let listen = ["--listen", "127.0.0.1:0"];
    for flag in ["--read-token-file", "--write-token-file"] {
        let command = || command(&[&listen[..], &[flag, text(&file)]].concat());
        let _ = fs::remove_file(&file);
        assert_fails_with(&mut command(), 4, &[text(&file), "cannot be read"]);
        fs::write(&file, "\n# nothing\n").unwrap();
        assert_fails_with(&mut command(), 4, &[text(&file), "no token"]);
        fs::write(&file, "fine-token\nnot fine\n").unwrap();
        assert_fails_with(&mut command(), 4, &[text(&file), "line 2"]);
        fs::write(&file, "fine-token\nx\n").unwrap();
        assert_fails_with(
            &mut command(),
            4,
            &[text(&file), "line 2", "8 characters", "openssl rand -hex 32"],
        );
    }
    assert_fails_with(
        &mut command(&[&listen[..], &["--read-token-file", text(directory.path())]].concat()),
        4,
        &["directory"],
    );
    assert_fails_with(
        command(&listen).env("REGISTRY_WRITE_TOKEN", "two words"),
        4,
        &["REGISTRY_WRITE_TOKEN"],
    );
    assert_fails_with(
        command(&listen).env("REGISTRY_READ_TOKEN", "x"),
        4,
        &["REGISTRY_READ_TOKEN", "8 characters"],
    );
    let config = directory.path().join("registry.toml");
    fs::write(&config, "[[service-token]]\nservices = [\"A\"]\ntoken = \"x\"\n").unwrap();
    assert_fails_with(&mut command(&["--config", text(&config)]), 4, &["service-token", "8 characters"]);
}
