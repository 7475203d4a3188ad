//! `openssl s_client`, which looks at certificates and at what is agreed on in TLS.

use farcall_context::Identity;
use farcall_http::{Gateway, HttpOptions, ServeOptions, router, serve_with};
use farcall_protocol::{Code, Status};
use farcall_server::{Credential, Server};
use farcall_transport::{Address, Listener};

use crate::authority::Authority;
use crate::program::{run, text};
use crate::support::World;

/// An Option that asks for MessagePack.
const OPTION: &[u8] =
    b"\0\0\0\x4a{\"magic_number\":3405691582,\"version\":1,\"codec_type\":\"application/msgpack\"}";

/// Returns the output of openssl for a connection on which it sends this.
async fn s_client(authority: &Authority, place: &str, further: &[&str], input: &[u8]) -> (bool, String) {
    let root = authority.path("root.pem");
    let arguments = ["s_client", "-connect", place, "-CAfile", &root, "-verify_return_error", "-showcerts"];
    let output = run("openssl", &[&arguments[..], further].concat(), input).await;
    (output.status.success(), text(&output))
}

#[track_caller]
fn expect(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
}

/// A server at `tls@`, and its place.
async fn tls_server(authority: &Authority, mutual: bool) -> (tokio::task::JoinHandle<()>, String) {
    let builder = Server::builder().tls(authority.server(mutual)).listen("tls@127.0.0.1:0");
    let server = builder.bind().await.unwrap();
    let place = server.addresses().next().unwrap().socket_addr().unwrap().to_string();
    (tokio::spawn(server.serve()), place)
}

const GOOD: &str = "Verify return code: 0 (ok)";
/// Both certificates of the chain, the server's own first.
const CHAIN: [&str; 3] = [" 0 s:CN = server", " 1 s:CN = Test Between", "i:CN = Test Root"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_address_agrees_on_farcall_and_on_nothing_else() {
    let authority = Authority::new();
    let (_server, place) = tls_server(&authority, false).await;
    let (done, said) = s_client(&authority, &place, &["-alpn", "farcall/1"], b"").await;
    assert!(done, "{said}");
    expect(&said, &["ALPN protocol: farcall/1", GOOD]);
    let said = said.replace("CN=", "CN = ");
    expect(&said, &CHAIN);
    let (_, said) = s_client(&authority, &place, &["-alpn", "h2,farcall/1", "-tls1_2"], b"").await;
    expect(&said, &["ALPN protocol: farcall/1", GOOD, "TLSv1.2"]);

    let (done, said) = s_client(&authority, &place, &["-alpn", "http/1.1"], b"").await;
    assert!(!done, "{said}");
    expect(&said, &["alert no application protocol"]);
    // Nothing is answered to who agrees on nothing.
    let (_, said) = s_client(&authority, &place, &["-quiet"], OPTION).await;
    assert!(!said.contains("magic_number"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_address_agrees_on_http_or_on_nothing() {
    let authority = Authority::new();
    let options = ServeOptions::default().tls(authority.server(false));
    let world = World::with("http", HttpOptions::default(), options).await;
    let (done, said) = s_client(&authority, &world.place, &["-alpn", "h2,http/1.1"], b"").await;
    assert!(done, "{said}");
    expect(&said, &["ALPN protocol: http/1.1", GOOD]);
    let (_, said) = s_client(&authority, &world.place, &[], b"").await;
    expect(&said, &["No ALPN negotiated", GOOD]);
    let (done, said) = s_client(&authority, &world.place, &["-alpn", "farcall/1"], b"").await;
    assert!(!done, "{said}");
    expect(&said, &["alert no application protocol"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_through_the_gateway_tells_who_made_it_by_certificate() {
    let authority = Authority::new();
    let settings = HttpOptions::default().gateway(Gateway::default());
    let options = ServeOptions::default().tls(authority.server(true));
    let world = World::with("http", settings, options).await;
    let url = format!("https://{}/rpc/Probe.certificate", world.place);
    let files = ["root.pem", "client.pem", "client.key"].map(|name| authority.path(name));
    let asking = ["-sS", "--cacert", &files[0], "-d", "{}", &url];
    let shown = run("curl", &[&asking[..], &["--cert", &files[1], "--key", &files[2]]].concat(), b"").await;
    assert_eq!(text(&shown).trim_end(), "\"billing.example\"");
    let hidden = run("curl", &asking, b"").await;
    assert!(!hidden.status.success(), "{}", text(&hidden));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_call_by_certificate_is_told_what_there_is_to_call() {
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
        let asking =
            ["-sS", "--fail-with-body", "--cacert", &files[0], "--cert", &files[1], "--key", &files[2]];
        let told = run("curl", &[&asking[..], &[&url]].concat(), b"").await;
        assert!(told.status.success(), "{path}: {}", text(&told));
    }
    handle.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_port_agrees_on_either_and_else_goes_by_the_first_bytes() {
    let authority = Authority::new();
    let options = ServeOptions::default().tls(authority.server(false));
    let world = World::with("one_port_http", HttpOptions::default(), options).await;
    for alpn in ["farcall/1", "http/1.1"] {
        let (_, said) = s_client(&authority, &world.place, &["-alpn", alpn], b"").await;
        expect(&said, &[&format!("ALPN protocol: {alpn}"), GOOD]);
    }
    // What is sent is the whole of it: the server ends the connection when it has answered.
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (_, said) = s_client(&authority, &world.place, &["-quiet"], request).await;
    expect(&said, &["HTTP/1.1 200 OK"]);
    let refused = [&b"\0\0\0\x02"[..], b"{}"].concat();
    let (_, said) = s_client(&authority, &world.place, &["-quiet"], &refused).await;
    expect(&said, &["magic_number"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_certificate_is_refused_where_one_is_wanted() {
    let authority = Authority::new();
    let (_server, place) = tls_server(&authority, true).await;
    let alpn = ["-alpn", "farcall/1"];
    let quiet = [&alpn[..], &["-quiet"]].concat();
    let (_, said) = s_client(&authority, &place, &quiet, OPTION).await;
    expect(&said, &["alert certificate required"]);
    assert!(!said.contains("magic_number"), "{said}");
    let (certificate, key) = (authority.path("client.pem"), authority.path("client.key"));
    let shown = [&quiet[..], &["-cert", &certificate, "-cert_chain", &certificate, "-key", &key]].concat();
    // Too short for an Option, so that the server says so and closes.
    let (_, said) = s_client(&authority, &place, &shown, b"\0\0\0\x02{}").await;
    expect(&said, &["magic_number"]);
}
