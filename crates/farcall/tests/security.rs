//! TLS and credentials from end to end: calls, handlers, and refused clients.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::sync::Arc;
use std::time::Duration;

use farcall::client::{ConnectionOptions, Phase};
use farcall::context::Identity;
use farcall::protocol::Execution;
use farcall::server::{AuthorizeLayer, Credential, Limits, ServerBuilder, ServerHandle, Tokens};
use farcall::transport::{TlsClient, TlsServer};
use farcall::{Address, Channel, Code, Context, RpcError, Server, Status};
use farcall_test_support::pki::{Authority, Certificate};
use farcall_test_support::wait::{PATIENCE, until};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// An authority, and a certificate signed by it for this machine and `client.example`.
struct Papers {
    roots: String,
    chain: String,
    key: String,
}

fn papers() -> Papers {
    let authority = Authority::new("ca");
    let Certificate { chain, key } = authority.issue(&["client.example", "127.0.0.1"]);
    Papers { roots: authority.certificate, chain, key }
}

impl Papers {
    fn server(&self) -> TlsServer {
        TlsServer::builder().certificate_pem(&*self.chain, &*self.key).build().unwrap()
    }

    fn server_that_asks(&self) -> TlsServer {
        let tls = TlsServer::builder().certificate_pem(&*self.chain, &*self.key);
        tls.client_roots_pem(&*self.roots).build().unwrap()
    }

    fn options(&self) -> ConnectionOptions {
        ConnectionOptions::default().tls(TlsClient::builder().roots_pem(&*self.roots).build().unwrap())
    }

    fn options_with_certificate(&self) -> ConnectionOptions {
        let tls = TlsClient::builder().roots_pem(&*self.roots).certificate_pem(&*self.chain, &*self.key);
        ConnectionOptions::default().tls(tls.build().unwrap())
    }
}

#[derive(Deserialize)]
struct Count {
    n: usize,
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Deserialize)]
struct Nothing {}

/// A test server; a handler of `T.hang` holds the permit of `idle` while it lives.
struct Running {
    address: Address,
    handle: ServerHandle,
    idle: Arc<Semaphore>,
}

async fn serve(listen: &str, change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Running {
    let idle = Arc::new(Semaphore::new(1));
    let hanging = Arc::clone(&idle);
    let builder = Server::builder()
        .method("T.double", |args: Count| async move { args.n * 2 })
        .method("T.big", |args: Count| async move { "x".repeat(args.n) })
        .method("T.len", |args: Text| async move { args.text.len() })
        .method("T.hang", move |_: Nothing| {
            let permit = Arc::clone(&hanging).try_acquire_owned().unwrap();
            async move {
                let _permit = permit;
                std::future::pending::<()>().await;
            }
        })
        .method("T.who", |cx: Context, _: Nothing| async move {
            let certificate = cx.certificate().and_then(farcall::transport::PeerCertificate::name);
            (cx.identity().map(|caller| caller.name().to_owned()), certificate)
        })
        .listen(listen);
    let server = change(builder).bind().await.unwrap();
    let address = server.addresses().next().unwrap().clone();
    let handle = server.handle();
    tokio::spawn(server.serve());
    Running { address, handle, idle }
}

fn channel(address: &Address, options: ConnectionOptions) -> Channel {
    Channel::builder().to(address).options(options).timeout(PATIENCE).build().unwrap()
}

async fn who(channel: &Channel) -> Result<(Option<String>, Option<String>), RpcError> {
    channel.call("T.who", &()).await.map_err(RpcError::from)
}

#[track_caller]
fn assert_refused(
    outcome: Result<(Option<String>, Option<String>), RpcError>,
    code: Code,
    phase: Phase,
    text: &str,
) {
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.code(), error.execution(), error.phase()),
        (code, Execution::NotSent, phase),
        "{error}"
    );
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn calls_over_tls_behave_as_over_tcp() {
    const MIB: usize = 1024 * 1024;
    let papers = papers();
    let limits = Limits::default().max_frame_bytes(16 * MIB);
    let server = serve("tls@127.0.0.1:0", |builder| builder.tls(papers.server()).limits(limits)).await;
    assert!(server.address.to_string().starts_with("tls@127.0.0.1:"));
    let channel = channel(&server.address, papers.options().max_frame_bytes(16 * MIB));

    let calls = (0..200_usize).map(|n| channel.call::<usize>("T.double", &serde_json::json!({"n": n})));
    for (n, call) in calls.enumerate() {
        assert_eq!(call.await.unwrap(), 2 * n);
    }
    let big: String = channel.call("T.big", &serde_json::json!({"n": 10 * MIB})).await.unwrap();
    assert_eq!(big.len(), 10 * MIB);
    assert_eq!(channel.call::<usize>("T.len", &serde_json::json!({"text": big})).await.unwrap(), 10 * MIB);

    let late = channel.call::<()>("T.hang", &()).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    let stopped = || async { drop(timeout(PATIENCE, server.idle.acquire()).await.unwrap()) };
    stopped().await;
    let cancelled = channel.call::<()>("T.hang", &()).start();
    until("the handler runs", || server.idle.available_permits() == 0).await;
    drop(cancelled);
    stopped().await;
    assert_eq!(server.handle.connections(), 1);

    // The last answers of a server that stops arrive whole.
    let big = channel.call::<String>("T.big", &serde_json::json!({"n": 10 * MIB})).start();
    let calls: u64 = 4;
    let made = || server.handle.stats().iter().map(|stats| stats.calls).sum::<u64>();
    until("the handler has returned", || made() >= calls).await;
    server.handle.stop();
    match big.await {
        Ok(big) => assert_eq!(big.len(), 10 * MIB),
        Err(error) => assert_eq!(error.execution(), Execution::NotSent, "{error}"),
    }
}

#[tokio::test]
async fn broken_tls_connection_fails_its_calls() {
    let papers = papers();
    let server = serve("tls@127.0.0.1:0", |builder| builder.tls(papers.server())).await;
    // A relay in between, which cuts both sides.
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = server.address.socket_addr().unwrap();
    let place = Address::tcp(between.local_addr().unwrap()).with_scheme(farcall::transport::Scheme::Tls);
    let cut = Arc::new(Semaphore::new(0));
    let cut_received = Arc::clone(&cut);
    tokio::spawn(async move {
        let (mut near, _) = between.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = cut_received.acquire() => {}
        }
    });
    let channel = channel(&place, papers.options());
    let hanging = channel.call::<()>("T.hang", &()).start();
    until("the handler runs", || server.idle.available_permits() == 0).await;
    cut.add_permits(1);
    let error = timeout(PATIENCE, hanging).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe), "{error}");
    // The server noticed it, too, and stopped the handler.
    drop(timeout(PATIENCE, server.idle.acquire()).await.unwrap());
}

#[tokio::test]
async fn handlers_see_the_callers_certificate() {
    let papers = papers();
    let server = serve("tls@127.0.0.1:0", |builder| {
        builder.tls(papers.server_that_asks()).authenticate(|credential: Credential| async move {
            assert!(credential.is_encrypted() && credential.peer().starts_with("tcp@127.0.0.1:"));
            let name = credential.certificate().and_then(farcall::transport::PeerCertificate::name);
            name.map(Identity::new).ok_or_else(|| Status::refused(Code::Unauthenticated, "no name"))
        })
    })
    .await;
    let name = Some("client.example".to_owned());
    let known = channel(&server.address, papers.options_with_certificate());
    assert_eq!(who(&known).await.unwrap(), (name.clone(), name));
    let unknown = who(&channel(&server.address, papers.options())).await;
    let text = "it wants a certificate of this side, and got none";
    assert_refused(unknown, Code::Unavailable, Phase::Handshake, text);
}

#[tokio::test]
async fn wrong_certificates_and_schemes_are_reported_to_the_caller() {
    let (ours, theirs) = (papers(), papers());
    let encrypted = serve("tls@127.0.0.1:0", |builder| builder.tls(ours.server())).await;
    let plain = serve("tcp@127.0.0.1:0", |builder| builder).await;
    let scheme = |address: &Address, scheme| address.clone().with_scheme(scheme);

    let stranger = who(&channel(&encrypted.address, theirs.options())).await;
    assert_refused(
        stranger,
        Code::Unavailable,
        Phase::Connect,
        "signed by no authority that is trusted here",
    );
    let to_plain = scheme(&plain.address, farcall::transport::Scheme::Tls);
    let tls_to_plain = who(&channel(&to_plain, ours.options())).await;
    assert_refused(tls_to_plain, Code::Unavailable, Phase::Connect, "it does not speak TLS: try `tcp@`");
    let to_encrypted = scheme(&encrypted.address, farcall::transport::Scheme::Tcp);
    let plain_to_tls = who(&channel(&to_encrypted, ConnectionOptions::default())).await;
    assert_refused(plain_to_tls, Code::Unavailable, Phase::Handshake, "it speaks TLS there");
    // Both servers still serve.
    assert_eq!(who(&channel(&plain.address, ConnectionOptions::default())).await.unwrap(), (None, None));
    assert_eq!(who(&channel(&encrypted.address, ours.options())).await.unwrap(), (None, None));
}

#[tokio::test]
async fn silent_tls_client_is_dropped_at_the_handshake_timeout() {
    let papers = papers();
    let limits = Limits::default().handshake_timeout(Duration::from_millis(200)).max_connections(2);
    let server = serve("tls@127.0.0.1:0", |builder| builder.tls(papers.server()).limits(limits)).await;
    let to = server.address.socket_addr().unwrap();
    let mut silent = TcpStream::connect(to).await.unwrap();
    let mut half = TcpStream::connect(to).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut half, &[22, 3, 1, 2, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut half] {
        // Either an end or a reset.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
    }
    // On a busy machine a handshake may itself take longer than this short limit; the next try is free.
    let served = async {
        loop {
            match who(&channel(&server.address, papers.options())).await {
                Ok(answer) => break answer,
                Err(error) => assert_eq!(error.execution(), Execution::NotSent, "{error}"),
            }
        }
    };
    assert_eq!(timeout(PATIENCE, served).await.unwrap(), (None, None));
}

#[tokio::test]
async fn token_is_required_and_identifies_the_caller() {
    let tokens = Tokens::fixed([("web", "q8mXe01rHsZ9"), ("ops", "bDF4vNyWTjL2")]).unwrap();
    let papers = papers();
    for listen in ["tcp@127.0.0.1:0", "tls@127.0.0.1:0"] {
        let server = serve(listen, |builder| builder.tls(papers.server()).authenticate(tokens.clone())).await;
        let options = || papers.options();
        for (token, name) in [("q8mXe01rHsZ9", "web"), ("bDF4vNyWTjL2", "ops")] {
            let known = channel(&server.address, options().token(token));
            assert_eq!(who(&known).await.unwrap(), (Some(name.to_owned()), None));
        }
        for (options, text) in [
            (options(), "it refused: a token is required, and none came"),
            (options().token("q8mXe01rHsZ"), "it refused: the token is not known"),
            (options().token(""), "it refused: the token is not known"),
        ] {
            let refused = who(&channel(&server.address, options)).await;
            assert_refused(refused, Code::Unauthenticated, Phase::Handshake, text);
        }
    }
}

#[tokio::test]
async fn slow_failing_and_panicking_authentication_affects_no_other_caller() {
    // Long enough for a busy machine to answer all but the check that hangs.
    let limits = Limits::default().handshake_timeout(Duration::from_secs(3));
    let server = serve("tcp@127.0.0.1:0", |builder| {
        builder.limits(limits).authenticate(|credential: Credential| async move {
            match credential.token() {
                Some("slow") => sleep(Duration::from_millis(50)).await,
                Some("hangs") => std::future::pending().await,
                Some("down") => return Err(Status::refused(Code::Unavailable, "the token service is down")),
                Some("panics") => panic!("in a check"),
                _ => return Err(Status::refused(Code::Unauthenticated, "who are you?")),
            }
            Ok(Identity::new("late"))
        })
    })
    .await;
    let with = |token: &str| channel(&server.address, ConnectionOptions::default().token(token));
    for (token, code, text) in [
        ("hangs", Code::DeadlineExceeded, "the handshake was not complete within 3s"),
        ("down", Code::Unavailable, "the token service is down"),
        ("panics", Code::Internal, "the check of the credential panicked"),
        ("other", Code::Unauthenticated, "who are you?"),
    ] {
        assert_refused(who(&with(token)).await, code, Phase::Handshake, text);
    }
    assert_eq!(who(&with("slow")).await.unwrap().0.as_deref(), Some("late"));
}

#[tokio::test]
async fn unauthorized_call_is_refused_before_its_handler_starts() {
    let server = serve("tcp@127.0.0.1:0", |builder| {
        builder
            .authenticate(Tokens::fixed([("web", "token-of-web"), ("ops", "token-of-ops")]).unwrap())
            .layer(AuthorizeLayer::deny_by_default().identity("web", ["T.who"]).identity("ops", ["T.*"]))
    })
    .await;
    let with = |token: &str| channel(&server.address, ConnectionOptions::default().token(token));
    let (web, ops) = (with("token-of-web"), with("token-of-ops"));
    let hang = |channel: &Channel| channel.call::<()>("T.hang", &()).timeout(Duration::from_millis(50));
    assert_eq!(who(&web).await.unwrap().0.as_deref(), Some("web"));
    let denied = hang(&web).timeout(PATIENCE).await.unwrap_err();
    assert_eq!((denied.code(), denied.execution()), (Code::PermissionDenied, Execution::Refused));
    assert!(denied.to_string().contains("`web` may not call `T.hang`"), "{denied}");
    assert_eq!(server.idle.available_permits(), 1);
    assert_eq!(hang(&ops).await.unwrap_err().code(), Code::DeadlineExceeded);
    // Reserved methods are outside of all layers.
    web.call::<serde_json::Value>("farcall.health", &serde_json::json!({})).await.unwrap();
}
