//! `ping`, `health` and `doctor`.

use std::time::Duration;

use crate::support::{Files, arith, farcall, serve, serve_observed, server};

#[test]
fn ping_measures_round_trips() {
    let target = arith();
    let ran = farcall(&["ping", &target, "--count", "3", "--interval", "1ms"]);
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!((ran.code, lines.len()), (0, 4), "{ran:#?}");
    assert!(lines[2].starts_with(&format!("3 tcp@{target} ")) && lines[3].starts_with("min "), "{ran:#?}");
    farcall(&["ping", "127.0.0.1:1"]).assert_error(3, &["code: unavailable"]);
}

#[test]
fn health_tells_each_instance_and_fails_if_one_drains() {
    let (up, down) = (arith(), serve_observed(server(), "tcp@127.0.0.1:0"));
    farcall(&["health", &up]).assert_out(&format!("ENDPOINT STATUS tcp@{up} serving"));
    let both = format!("{up},{}", down.0);
    assert_eq!(farcall(&["health", &both]).code, 0);
    farcall(&["health", &up, "--wait", "30s", "-o", "ndjson"])
        .assert_out(&format!(r#"[{{"endpoint":"tcp@{up}","status":"serving"}}]"#));
    down.1.stop();
    let ran = farcall(&["health", &both]);
    assert!(ran.code == 1 && ran.out.contains("serving"), "{ran:#?}");
}

#[test]
fn doctor_tells_each_step_and_the_cure() {
    let files = Files::new();
    let target = serve(server().tls(files.tls()), "tls@127.0.0.1:0").to_string();
    let ran = farcall(&["doctor", &target, "--ca", &files.path("cert.pem")]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    for part in
        ["DNS", "ALPN       farcall/1", "days left", "handshake", "calls at once", "json", "5 methods"]
    {
        assert!(ran.out.contains(part), "no `{part}` in {ran:#?}");
    }
    let untrusted = farcall(&["doctor", &target]);
    assert!(
        untrusted.code == 1 && untrusted.out.contains("do: name the authority with --ca"),
        "{untrusted:#?}"
    );
    let wrong = farcall(&["doctor", &target.replace("tls@", "tcp@"), "--ca", &files.path("cert.pem")]);
    assert!(
        wrong.code == 1 && wrong.out.contains(&format!("do: this port speaks TLS: use {target}")),
        "{wrong:#?}"
    );
}

#[test]
fn doctor_finds_instances_that_differ() {
    let other =
        serve(server().method("Other.more", async |(): ()| Duration::ZERO.as_secs()), "tcp@127.0.0.1:0");
    let ran = farcall(&["doctor", &format!("{},{other}", arith())]);
    assert!(ran.code == 1 && ran.out.contains("Other.more"), "{ran:#?}");
}

#[test]
fn doctor_finds_types_that_differ() {
    let one = farcall::Server::builder().method("Test.get", async |(): ()| 1_u64);
    let other = farcall::Server::builder().method("Test.get", async |(): ()| "1".to_owned());
    let [one, other] = [one, other].map(|server| serve(server, "tcp@127.0.0.1:0"));
    let ran = farcall(&["doctor", &format!("{one},{other}")]);
    assert!(ran.code == 1 && ran.out.contains(&format!("{other} against {one}: Test.get")), "{ran:#?}");
    assert!(ran.out.contains("(breaking)") && ran.out.contains("do: deploy the same version"), "{ran:#?}");
}
