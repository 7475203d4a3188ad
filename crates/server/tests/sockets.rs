//! Behaviour of real sockets: closing, and a process without file descriptors.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::process::Command;

use farcall_protocol::{ClientOffer, Code};
use farcall_transport::{Dialer, Stream};
use serde_json::json;
use support::{Raw, builder, millis, none, secs, stage};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;

async fn dial(address: &str) -> Raw<Stream> {
    let stream = Dialer::default().dial(&address.parse().unwrap()).await.unwrap();
    Raw::shake(stream, &ClientOffer::default()).await.unwrap()
}

#[tokio::test]
async fn server_serves_and_stops_over_tcp_and_unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("unix@{}/t.sock", directory.path().display());
    let stage = stage();
    // An address that only this test uses: another test that binds port 0 may get the port once it is free.
    let host = if cfg!(target_os = "linux") { "127.7.7.7" } else { "127.0.0.1" };
    let server = builder(&stage).listen(format!("tcp@{host}:0")).listen(&path[..]).bind().await.unwrap();
    let addresses: Vec<_> = server.addresses().map(ToString::to_string).collect();
    assert_eq!(addresses[1], path);
    let handle = server.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve_until(stopped));
    let mut clients = Vec::new();
    for address in &addresses {
        let mut client = dial(address).await;
        assert_eq!(client.call("T.echo", json!({"text": address})).await.value(), address[..]);
        clients.push(client);
    }
    assert_eq!(handle.connections(), 2);
    stop.send(()).unwrap();
    for client in &mut clients {
        client.assert_goaway(1, Code::Unavailable).await;
        client.assert_closed().await;
    }
    drop(clients);
    timeout(secs(60), serving).await.unwrap().unwrap();
    assert_eq!(handle.connections(), 0);
    // The listener is closed.
    assert!(Dialer::default().dial(&addresses[0].parse().unwrap()).await.is_err());
    assert!(!directory.path().join("t.sock").exists());
}

#[tokio::test]
async fn last_answers_survive_a_close_with_unread_input() {
    // A close with unread input is a reset, which destroys what the peer has not read yet.
    use bytes::Bytes;
    use farcall_protocol::{HeaderRef, Kind, Seq};
    use tokio::io::AsyncWriteExt;
    let stage = stage();
    let server = builder(&stage).listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().to_string();
    tokio::spawn(server.serve());
    for _ in 0..20 {
        let mut client = dial(&address).await;
        client.request("T.big", json!({"n": 100_000})).await;
        client.goaway().await;
        let pong = client.encode(&HeaderRef::new(Kind::Pong, Seq(1)), Bytes::new());
        for _ in 0..20 {
            // The server may have closed by now; that is the case under test.
            let _ = client.frames.stream.write_all(&pong.repeat(1000)).await;
        }
        client.response().await.value();
    }
}

#[tokio::test]
async fn other_tasks_run_while_many_connections_come() {
    let stage = stage();
    let server = builder(&stage).listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().socket_addr().unwrap();
    // They wait in the queue of the listener.
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let handle = server.handle();
    tokio::spawn(server.serve());
    let mut turns = Vec::new();
    while handle.connections() < clients.len() {
        let before = handle.connections();
        yield_now().await;
        turns.push(handle.connections() - before);
    }
    // The other task may have had two turns in between.
    assert!(turns.iter().all(|accepted| *accepted <= 2 * 16), "{turns:?}");
}

/// The test below runs this one in a child process with few file descriptors.
#[tokio::test]
#[ignore = "only as a child of the test below"]
async fn child_process_with_few_descriptors() {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let stage = stage();
    let server = builder(&stage).listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().socket_addr().unwrap();
    let handle = server.handle();
    tokio::spawn(server.serve());
    let mut first = dial(&format!("tcp@{address}")).await;
    for _ in 0..3 {
        // Each connection takes two descriptors, one at each end, until none is left.
        let mut held = Vec::new();
        while let Ok(stream) = TcpStream::connect(address).await {
            held.push(stream);
        }
        // Meanwhile the server's task has found that it cannot accept.
        for _ in 0..10 {
            first.call("T.echo", json!({"text": "still here"})).await.value();
        }
        drop(held);
        let mut client = timeout(secs(60), dial(&format!("tcp@{address}"))).await.unwrap();
        client.call("T.count", none()).await.value();
        while handle.connections() > 2 {
            tokio::time::sleep(millis(10)).await;
        }
    }
    println!("accepted again");
}

#[test]
fn server_accepts_again_once_descriptors_are_free() {
    let this = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -n 40 && exec "$0" --ignored --exact child_process_with_few_descriptors --nocapture"#,
        ])
        .arg(this)
        .output()
        .unwrap();
    let (out, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("accepted again"), "{out}{log}");
    assert_eq!(log.matches("accepting pauses").count(), 1, "{log}");
    assert!(log.contains("out of resources"), "{log}");
}
