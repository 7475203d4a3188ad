//! curl and promtool, which read the pages.

use farcall_http::{HttpOptions, ServeOptions};
use serde_json::json;

use crate::authority::Authority;
use crate::program::{run, text};
use crate::support::{World, no_args};

/// curl, without whatever this machine says of proxies.
async fn curl(arguments: &[&str]) -> (Option<i32>, String) {
    let quiet = ["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"];
    let output = run("curl", &[&quiet[..], arguments].concat(), b"").await;
    (output.status.code(), text(&output))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_the_pages_inside_of_tls_and_only_there() {
    let authority = Authority::new();
    let options = ServeOptions::default().tls(authority.server(false));
    let world = World::with("http", HttpOptions::default(), options).await;
    let url = |scheme: &str, path: &str| format!("{scheme}://{}{path}", world.place);
    let root = authority.path("root.pem");
    let trusting = ["--fail", "--cacert", &root];

    let get = async |path: &str| curl(&[&trusting[..], &[&url("https", path)]].concat()).await;
    assert_eq!(get("/healthz").await, (Some(0), "ok\n".to_owned()));
    assert_eq!(get("/readyz").await, (Some(0), "ready\n".to_owned()));
    let (code, metrics) = get("/metrics").await;
    assert!(code == Some(0) && metrics.contains("farcall_server_connections"), "{metrics}");

    // 60: nobody who is trusted has signed it.
    let (code, said) = curl(&[&url("https", "/healthz")]).await;
    assert_eq!(code, Some(60), "{said}");
    // Nothing answers in plain text, not even with an error.
    let (code, said) =
        curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &url("http", "/healthz")]).await;
    assert!(code != Some(0) && !said.contains("200"), "{code:?} {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_without_a_certificate_is_refused_where_one_is_wanted() {
    let authority = Authority::new();
    let options = ServeOptions::default().tls(authority.server(true));
    let world = World::with("http", HttpOptions::default(), options).await;
    let (root, certificate, key) =
        (authority.path("root.pem"), authority.path("client.pem"), authority.path("client.key"));
    let url = format!("https://{}/healthz", world.place);
    let (code, said) = curl(&["--cacert", &root, &url]).await;
    assert!(code != Some(0) && !said.starts_with("ok"), "{code:?} {said}");
    let (code, said) = curl(&["--cacert", &root, "--cert", &certificate, "--key", &key, &url]).await;
    assert_eq!((code, said.as_str()), (Some(0), "ok\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_to_say_against_the_metrics() {
    let world = World::new("http").await;
    let channel = world.channel();
    channel.call::<String>("Echo.echo", &json!({"text": "x"})).await.unwrap();
    channel.call::<()>("Echo.fail", &no_args()).await.unwrap_err();
    let _sleeping = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;
    let (code, metrics) = curl(&["--fail", &format!("http://{}/metrics", world.place)]).await;
    assert!(code == Some(0) && metrics.contains("farcall_server_errors_total{"), "{metrics}");
    let checked = run("promtool", &["check", "metrics"], metrics.as_bytes()).await;
    assert!(checked.status.success() && text(&checked).is_empty(), "{}", text(&checked));
    // It does find what is wrong.
    let wrong = run("promtool", &["check", "metrics"], b"# TYPE calls counter\ncalls 1\n").await;
    assert!(!wrong.status.success() || !text(&wrong).is_empty());
}
