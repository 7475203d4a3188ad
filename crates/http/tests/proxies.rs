//! Connections through a forward proxy, opened with `CONNECT`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_client::RetryPolicy;
use farcall_test_support::http;
use farcall_test_support::loopback::refusing_address;
use farcall_transport::Dialer;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{PATIENCE, World, channel_with};

/// A forward proxy for one user, `me` with the password `p@ss`.
struct Proxy {
    place: String,
    carried: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    async fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let carried = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&carried);
        let accepting = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(client, Arc::clone(&counted)));
            }
        });
        Proxy { place, carried, accepting }
    }
}

async fn carry(mut client: TcpStream, carried: Arc<AtomicUsize>) {
    let head = http::read_head(&mut client).await.unwrap();
    if !head.headers.contains("Proxy-Authorization: Basic bWU6cEBzcw==\r\n") {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 7\r\n\r\nwho are";
        return client.write_all(refusal.as_bytes()).await.unwrap();
    }
    assert_eq!(head.method, "CONNECT");
    // Only the proxy can resolve this name.
    let place = head.path.replace("calc.internal", "127.0.0.1");
    let Ok(mut server) = TcpStream::connect(place).await else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno server is there").await.unwrap();
    };
    carried.fetch_add(1, Ordering::SeqCst);
    client.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n").await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

fn dialer(proxy: &str) -> Dialer {
    Dialer::default().proxy(proxy).unwrap()
}

#[tokio::test]
async fn every_network_scheme_dials_through_a_proxy() {
    let proxy = Proxy::start().await;
    for (index, scheme) in ["tcp", "http", "connect", "ws", "https", "wss"].into_iter().enumerate() {
        let world = World::new(scheme).await;
        let dialer = dialer(&format!("http://me:p%40ss@{}", proxy.place));
        let port = world.place.rsplit(':').next().unwrap();
        let channel = channel_with(&format!("{scheme}@calc.internal:{port}"), dialer);
        let echoed = channel.call::<String>("Echo.echo", &json!({"text": scheme}));
        assert_eq!(timeout(PATIENCE, echoed).await.unwrap().unwrap(), scheme);
        assert_eq!(proxy.carried.load(Ordering::SeqCst), index + 1);
    }
}

/// Returns the error of a call through a proxy.
async fn failure(proxy: &str, place: &str) -> String {
    let channel = channel_with(&format!("http@{place}"), dialer(proxy));
    let call = channel.call::<String>("Echo.echo", &json!({"text": ""})).retry(RetryPolicy::fail_fast());
    timeout(PATIENCE, call).await.unwrap().unwrap_err().to_string()
}

#[tokio::test]
async fn errors_name_the_proxy_and_never_the_password() {
    let proxy = Proxy::start().await;
    let refusing = refusing_address();

    let wrong = failure(&format!("http://me:secret@{}", proxy.place), "127.0.0.1:9").await;
    let expected = format!(
        "through the proxy http://{}: it answered 407 Proxy Authentication Required: who are",
        proxy.place
    );
    assert!(wrong.contains(&expected) && !wrong.contains("secret"), "{wrong}");

    let no_server = failure(&format!("http://me:p%40ss@{}", proxy.place), &refusing.to_string()).await;
    assert!(no_server.contains("it answered 502 Bad Gateway: no server is there"), "{no_server}");

    let no_proxy = failure(&format!("http://me:secret@{refusing}"), "127.0.0.1:9").await;
    assert!(no_proxy.contains(&format!("through the proxy http://{refusing}: ")), "{no_proxy}");
    assert!(!no_proxy.contains("secret"), "{no_proxy}");
}
