//! `openssl s_client`, which prints certificate chains and the results of TLS negotiation.

use farcall_context::Identity;
use farcall_http::{Gateway, HttpOptions, ServeOptions, router, serve_with};
use farcall_protocol::{Code, Status};
use farcall_server::{Credential, Server};
use farcall_transport::{Address, Listener};

use crate::authority::Authority;
use crate::program::{run, text};
use crate::support::{OPTION, World};

/// Returns `true` and the output if openssl succeeds on a connection on which it sends `input`.
async fn s_client(authority: &Authority, place: &str, further: &[&str], input: &[u8]) -> (bool, String) {
    let root = authority.path("root.pem");
    let arguments = ["s_client", "-connect", place, "-CAfile", &root, "-verify_return_error", "-showcerts"];
    let output = run("openssl", &[&arguments[..], further].concat(), input).await;
    (output.status.success(), text(&output))
}

#[track_caller]
fn assert_contains(output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "no {part:?} in\n{output}");
    }
}

/// Starts a server at `tls@`, and returns its task and address.
async fn tls_server(authority: &Authority, mutual: bool) -> (tokio::task::JoinHandle<()>, String) {
    let builder = Server::builder().tls(authority.server(mutual)).listen("tls@127.0.0.1:0");
    let server = builder.bind().await.unwrap();
    let place = server.addresses().next().unwrap().socket_addr().unwrap().to_string();
    (tokio::spawn(server.serve()), place)
}

const GOOD: &str = "Verify return code: 0 (ok)";
/// Both certificates of the chain: the server's, and the intermediate one.
const CHAIN: [&str; 3] = [" 0 s:CN = server", " 1 s:CN = Test Intermediate", "i:CN = Test Root"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_address_negotiates_only_farcall() {
    let authority = Authority::new();
    let (_server, place) = tls_server(&authority, false).await;
    let (succeeded, output) = s_client(&authority, &place, &["-alpn", "farcall/1"], b"").await;
    assert!(succeeded, "{output}");
    assert_contains(&output, &["ALPN protocol: farcall/1", GOOD]);
    let output = output.replace("CN=", "CN = ");
    assert_contains(&output, &CHAIN);
    let (_, output) = s_client(&authority, &place, &["-alpn", "h2,farcall/1", "-tls1_2"], b"").await;
    assert_contains(&output, &["ALPN protocol: farcall/1", GOOD, "TLSv1.2"]);

    let (succeeded, output) = s_client(&authority, &place, &["-alpn", "http/1.1"], b"").await;
    assert!(!succeeded, "{output}");
    assert_contains(&output, &["alert no application protocol"]);
    // A client without ALPN gets no answer.
    let (_, output) = s_client(&authority, &place, &["-quiet"], OPTION).await;
    assert!(!output.contains("magic_number"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_address_negotiates_http_or_no_protocol() {
    let authority = Authority::new();
    let options = ServeOptions::default().tls(authority.server(false));
    let world = World::with("http", HttpOptions::default(), options).await;
    let (succeeded, output) = s_client(&authority, &world.place, &["-alpn", "h2,http/1.1"], b"").await;
    assert!(succeeded, "{output}");
    assert_contains(&output, &["ALPN protocol: http/1.1", GOOD]);
    let (_, output) = s_client(&authority, &world.place, &[], b"").await;
    assert_contains(&output, &["No ALPN negotiated", GOOD]);
    let (succeeded, output) = s_client(&authority, &world.place, &["-alpn", "farcall/1"], b"").await;
    assert!(!succeeded, "{output}");
    assert_contains(&output, &["alert no application protocol"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_call_carries_the_name_in_the_certificate() {
    let authority = Authority::new();
    let settings = HttpOptions::default().gateway(Gateway::default());
    let options = ServeOptions::default().tls(authority.server(true));
    let world = World::with("http", settings, options).await;
    let url = format!("https://{}/rpc/Probe.certificate", world.place);
    let files = ["root.pem", "client.pem", "client.key"].map(|name| authority.path(name));
    let arguments = ["-sS", "--cacert", &files[0], "-d", "{}", &url];
    let with_certificate =
        run("curl", &[&arguments[..], &["--cert", &files[1], "--key", &files[2]]].concat(), b"").await;
    assert_eq!(text(&with_certificate).trim_end(), "\"billing.example\"");
    let without_certificate = run("curl", &arguments, b"").await;
    assert!(!without_certificate.status.success(), "{}", text(&without_certificate));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificate_grants_access_to_the_listing() {
    let authority = Authority::new();
    let server = Server::builder()
        .authenticate(|credential: Credential| async move {
            match credential.certificate().and_then(|certificate| certificate.name()) {
                Some(name) => Ok(Identity::new(name)),
                None => Err(Status::refused(Code::Unauthenticated, "a certificate is required")),
            }
        })
        .build()
        .unwrap();
    let handle = server.handle();
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let place = listener.address().socket_addr().unwrap();
    let router = router(handle.clone(), HttpOptions::default().gateway(Gateway::default()));
    let options = ServeOptions::default().tls(authority.server(true));
    let stop = handle.clone();
    tokio::spawn(async move { serve_with(listener, router, options, stop.ended()).await });
    tokio::spawn(server.serve());

    let files = ["root.pem", "client.pem", "client.key"].map(|name| authority.path(name));
    for path in ["/rpc", "/rpc/openapi.json"] {
        let url = format!("https://{place}{path}");
        let arguments =
            ["-sS", "--fail-with-body", "--cacert", &files[0], "--cert", &files[1], "--key", &files[2]];
        let output = run("curl", &[&arguments[..], &[&url]].concat(), b"").await;
        assert!(output.status.success(), "{path}: {}", text(&output));
    }
    handle.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_tls_port_negotiates_or_detects_the_protocol() {
    let authority = Authority::new();
    let options = ServeOptions::default().tls(authority.server(false));
    let world = World::with("one_port_http", HttpOptions::default(), options).await;
    for alpn in ["farcall/1", "http/1.1"] {
        let (_, output) = s_client(&authority, &world.place, &["-alpn", alpn], b"").await;
        assert_contains(&output, &[&format!("ALPN protocol: {alpn}"), GOOD]);
    }
    // openssl sends nothing else, so that its output is complete once the server closes.
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (_, output) = s_client(&authority, &world.place, &["-quiet"], request).await;
    assert_contains(&output, &["HTTP/1.1 200 OK"]);
    let refused = [&b"\0\0\0\x02"[..], b"{}"].concat();
    let (_, output) = s_client(&authority, &world.place, &["-quiet"], &refused).await;
    assert_contains(&output, &["magic_number"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_without_a_certificate_is_refused_by_mutual_tls() {
    let authority = Authority::new();
    let (_server, place) = tls_server(&authority, true).await;
    let alpn = ["-alpn", "farcall/1"];
    let quiet = [&alpn[..], &["-quiet"]].concat();
    let (_, output) = s_client(&authority, &place, &quiet, OPTION).await;
    assert_contains(&output, &["alert certificate required"]);
    assert!(!output.contains("magic_number"), "{output}");
    let (certificate, key) = (authority.path("client.pem"), authority.path("client.key"));
    let arguments =
        [&quiet[..], &["-cert", &certificate, "-cert_chain", &certificate, "-key", &key]].concat();
    // An Option that is too short: the server refuses it and closes the connection.
    let (_, output) = s_client(&authority, &place, &arguments, b"\0\0\0\x02{}").await;
    assert_contains(&output, &["magic_number"]);
}
