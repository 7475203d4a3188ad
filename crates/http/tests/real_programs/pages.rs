//! Pages read by curl and promtool.

use farcall_http::{HttpOptions, ServeOptions};
use serde_json::json;

use crate::authority::Authority;
use crate::program::{run, text};
use crate::support::{World, no_args};

/// Runs curl without proxies, and returns its exit code and output.
async fn curl(arguments: &[&str]) -> (Option<i32>, String) {
    let quiet = ["--silent", "--show-error", "--noproxy", "*", "--max-time", "30"];
    let output = run("curl", &[&quiet[..], arguments].concat(), b"").await;
    (output.status.code(), text(&output))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_the_pages_over_tls_only() {
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

    // Exit code 60: no trusted authority has signed the certificate.
    let (code, output) = curl(&[&url("https", "/healthz")]).await;
    assert_eq!(code, Some(60), "{output}");
    // The port gives no HTTP answer in plain text, not even an error.
    let (code, output) =
        curl(&["--output", "/dev/null", "--write-out", "%{http_code}", &url("http", "/healthz")]).await;
    assert!(code != Some(0) && !output.contains("200"), "{code:?} {output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_without_a_certificate_is_refused_by_mutual_tls() {
    let authority = Authority::new();
    let options = ServeOptions::default().tls(authority.server(true));
    let world = World::with("http", HttpOptions::default(), options).await;
    let (root, certificate, key) =
        (authority.path("root.pem"), authority.path("client.pem"), authority.path("client.key"));
    let url = format!("https://{}/healthz", world.place);
    let (code, output) = curl(&["--cacert", &root, &url]).await;
    assert!(code != Some(0) && !output.starts_with("ok"), "{code:?} {output}");
    let (code, output) = curl(&["--cacert", &root, "--cert", &certificate, "--key", &key, &url]).await;
    assert_eq!((code, output.as_str()), (Some(0), "ok\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_accepts_the_metrics() {
    let other = World::new("tcp").await;
    let options = HttpOptions::default()
        .metrics_text(|| "# HELP own_total Own.\n# TYPE own_total counter\nown_total 1".into());
    #[cfg(feature = "client")]
    let options = options.channel("one", other.channel()).channel("several", {
        let several =
            farcall_client::Channel::builder().to(other.address()).to("tcp@127.0.0.1:1").build().unwrap();
        several.call::<()>("Echo.fail", &no_args()).await.unwrap_err();
        several
    });
    let world = World::with("http", options, ServeOptions::default()).await;
    let channel = world.channel();
    channel.call::<String>("Echo.echo", &json!({"text": "x"})).await.unwrap();
    channel.call::<()>("Echo.fail", &no_args()).await.unwrap_err();
    let _sleeping = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;
    let (code, metrics) = curl(&["--fail", &format!("http://{}/metrics", world.place)]).await;
    assert!(code == Some(0) && metrics.contains("farcall_server_errors_total{"), "{metrics}");
    #[cfg(feature = "client")]
    assert!(metrics.contains("farcall_client_endpoints_age_seconds{"), "{metrics}");
    let _ = &other;
    let checked = run("promtool", &["check", "metrics"], metrics.as_bytes()).await;
    assert!(checked.status.success() && text(&checked).is_empty(), "{}", text(&checked));
    // promtool does report invalid metrics.
    let wrong = run("promtool", &["check", "metrics"], b"# TYPE calls counter\ncalls 1\n").await;
    assert!(!wrong.status.success() || !text(&wrong).is_empty());
}
