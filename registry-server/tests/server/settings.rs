//! Flags, environment, configuration file.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Running, assert_fails_with, command, fails, text};

/// Writes a configuration file, in a directory that exists as long as the first value.
fn config(content: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.toml");
    fs::write(&file, content).unwrap();
    (directory, file)
}

async fn limits(registry: &Running) -> Value {
    let mut status: Value = registry.get("/v1/status").send().await.unwrap().json().await.unwrap();
    status["limits"].take()
}

#[tokio::test]
async fn flag_precedes_environment_and_environment_precedes_file() {
    let (_directory, file) = config(
        "listen = [\"127.0.0.1:0\"]\nttl = \"10s\"\nheartbeat = \"3s\"\nmax-watchers = 11\nmax-instances = 12\n",
    );
    let mut command = command(&["--config", text(&file), "--ttl", "30s"]);
    command.env("REGISTRY_TTL", "20s").env("REGISTRY_HEARTBEAT", "7s").env("REGISTRY_MAX_WATCHERS", "21");
    let registry = Running::spawn(&mut command);
    let limits = limits(&registry).await;
    assert_eq!(limits["ttl_ms"], 30_000, "the flag");
    assert_eq!(limits["heartbeat_ms"], 7_000, "the environment");
    assert_eq!(limits["max_watchers"], 21, "the environment");
    assert_eq!(limits["max_instances"], 12, "the file");
}

#[tokio::test]
async fn environment_can_name_the_configuration_file() {
    let (_directory, file) = config("listen = \"127.0.0.1:0\"\npath = \"/servers\"\n");
    let registry = Running::spawn(command(&[]).env("REGISTRY_CONFIG", &file));
    assert_eq!(registry.get("/servers").send().await.unwrap().status(), 200);
    assert_eq!(registry.get("/registry").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn allowed_host_is_accepted() {
    let registry = Running::start(&["--allowed-host", "registry.example"]);
    let ask =
        async |host: &str| registry.get("/registry").header("host", host).send().await.unwrap().status();
    assert_eq!(ask("registry.example").await, 200);
    assert_eq!(ask("elsewhere.example").await, 403);
}

#[test]
fn invalid_configuration_file_exits_with_code_3() {
    for (content, parts) in [
        ("ttl = \"5m\"\nlisten-on = \"x\"\n", &["line 2", "`listen-on`"][..]),
        ("ttl = 5\n", &["line 1", "string"]),
        ("# times\nheartbeat = \"soon\"\n", &["line 2", "`soon`"]),
        ("listen = [\"7100\"]\n", &["line 1", "`7100`"]),
        ("ttl = \"5m\"\nlisten = 7100\n", &["line 2", "a list of strings"]),
        ("ttl = \n", &["line 1"]),
        ("[[service-token]]\nservice = [\"A\"]\n", &["line 2", "`service`"]),
    ] {
        let (_directory, file) = config(content);
        let mut parts = parts.to_vec();
        parts.push(text(&file));
        assert_fails_with(&mut command(&["--config", text(&file)]), 3, &parts);
    }
    assert_fails_with(
        &mut command(&["--config", "/nowhere/registry.toml"]),
        3,
        &["/nowhere/registry.toml", "cannot be read"],
    );
    let directory = tempfile::tempdir().unwrap();
    assert_fails_with(&mut command(&["--config", text(directory.path())]), 3, &["a directory"]);
}

#[test]
fn invalid_flag_or_variable_exits_with_code_2() {
    for args in [&["--ttl", "soon"][..], &["--listen", "7100"], &["--no-such-flag"], &["--log-format", "xml"]]
    {
        let (code, stderr) = fails(&mut command(args));
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(args[0]), "{stderr}");
    }
    let (code, stderr) = fails(command(&[]).env("REGISTRY_TTL", "soon"));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--ttl"), "{stderr}");
}

#[test]
fn contradicting_settings_exit_with_code_2() {
    let listen = ["--listen", "127.0.0.1:0"];
    for (args, part) in [
        (["--ttl", "10s", "--heartbeat", "10s"], "between heartbeats"),
        (["--ttl", "2days", "--heartbeat", "4m"], "1 day"),
        (["--tls-cert", "cert.pem", "--ttl", "10s"], "tls-key"),
        (["--path", "/v1/x", "--ttl", "10s"], "/v1/x"),
        (["--allowed-host", "a.example,https://b.example", "--ttl", "10s"], "`https://b.example`"),
    ] {
        assert_fails_with(&mut command(&[&listen[..], &args].concat()), 2, &[part]);
    }
}

#[test]
fn every_limit_of_zero_is_refused_by_its_name() {
    let output = command(&["--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let limits: Vec<(&str, &str)> = help
        .lines()
        .filter_map(|line| {
            let (flag, value) = line.trim().strip_prefix("--")?.split_once(' ')?;
            let zero = match value {
                "<N>" | "<BYTES>" => "0",
                "<TIME>" => "0s",
                _ => return None,
            };
            Some((flag, zero))
        })
        .collect();
    assert_eq!(limits.len(), 7, "{limits:?}");
    for (flag, zero) in limits {
        let args = ["--listen", "127.0.0.1:0", &format!("--{flag}"), zero];
        assert_fails_with(&mut command(&args), 2, &[flag]);
        let value = if zero == "0" { "0" } else { "\"0s\"" };
        let (_directory, file) = config(&format!("listen = \"127.0.0.1:0\"\n{flag} = {value}\n"));
        assert_fails_with(&mut command(&["--config", text(&file)]), 2, &[flag]);
    }
}

#[test]
fn help_has_flags_variables_files_and_exit_codes() {
    let output = command(&["--help"]).output().unwrap();
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for part in [
        "--write-token-file",
        "REGISTRY_WRITE_TOKEN_FILE",
        "REGISTRY_WRITE_TOKEN,",
        "SIGHUP",
        "Exit codes",
        "[[service-token]]",
    ] {
        assert!(help.contains(part), "{part}");
    }
}

#[tokio::test]
async fn json_logs_have_an_object_on_each_line() {
    let registry = Running::start(&["--log-format", "json"]);
    registry.wait_for_log("\"listening\"").await;
    let log = registry.stderr();
    for line in log.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        assert!(object["timestamp"].is_string() && object["level"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn human_logs_are_the_default_and_can_be_named() {
    for args in [&[][..], &["--log-format", "human"]] {
        let registry = Running::start(args);
        registry.wait_for_log("listening").await;
        assert!(!registry.stderr().starts_with('{'), "{}", registry.stderr());
    }
}

#[tokio::test]
async fn rust_log_sets_the_log_level() {
    let args = ["--listen", "127.0.0.1:0"];
    let silent = Running::spawn(command(&args).env("RUST_LOG", "error"));
    silent.get("/registry").send().await.unwrap();
    let talkative = Running::spawn(command(&args).env("RUST_LOG", "registry_server=debug"));
    talkative.get("/registry").send().await.unwrap();
    talkative.wait_for_log("path=\"/registry\"").await;
    assert_eq!(silent.stderr(), "");
}

#[tokio::test]
async fn listening_to_the_network_without_a_token_logs_a_warning() {
    let args = ["--listen", "0.0.0.0:0"];
    let open = Running::spawn(&mut command(&args));
    open.wait_for_log("ANY CLIENT THAT REACHES THIS ADDRESS CAN REGISTER").await;
    let guarded = Running::spawn(command(&args).env("REGISTRY_WRITE_TOKEN", "token-to-write"));
    guarded.wait_for_log("listening").await;
    assert!(!guarded.stderr().contains("ANY CLIENT"), "{}", guarded.stderr());
    let local = Running::start(&[]);
    local.wait_for_log("listening").await;
    assert!(!local.stderr().contains("WARN"), "{}", local.stderr());
}
