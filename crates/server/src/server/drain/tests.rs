//! A stop ends handlers that wait for it, over connections and for calls in the process.

use std::time::Duration;

use bytes::BytesMut;
use farcall_context::Context;
use farcall_protocol::{
    Body, ClientOffer, Codec, HeaderRef, Kind, MaxFrameBytes, Message, MessageDecoder, Outbox, Seq,
    next_option,
};
use farcall_transport::PeerAddress;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::server::Server;
use crate::server::handle::ServerHandle;
use crate::{Invocation, Limits};

const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(serde::Deserialize)]
struct Nothing {}

/// Serves `T.wait`, which waits until the server drains, and `T.late`, which waits for that after it
/// has started to drain.
fn serve() -> (ServerHandle, JoinHandle<()>) {
    let server = Server::builder()
        .method("T.wait", async |cx: Context, _: Nothing| {
            cx.draining().await;
            "drained"
        })
        .method("T.late", async |cx: Context, _: Nothing| {
            cx.draining().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            cx.draining().await;
            "drained"
        })
        .limits(Limits::default().drain_timeout(DRAIN_TIMEOUT))
        .build()
        .unwrap();
    (server.handle(), tokio::spawn(server.serve()))
}

fn invocation(method: &str) -> Invocation {
    Invocation::new(method, Codec::Json, "{}".into())
}

/// The client's end of a connection.
struct Client {
    stream: DuplexStream,
    codec: Codec,
    input: BytesMut,
    decoder: MessageDecoder,
}

impl Client {
    async fn connect(handle: &ServerHandle) -> Self {
        let (mut stream, far) = duplex(64 * 1024);
        handle.serve_io(far, PeerAddress::Memory);
        let offer = ClientOffer::default().codec(Codec::Json);
        let mut outbox = Outbox::new();
        outbox.push_frame(&offer.encode().unwrap());
        stream.write_all_buf(&mut outbox).await.unwrap();
        let mut input = BytesMut::new();
        let negotiated = loop {
            if let Some(option) = next_option(&mut input).unwrap() {
                break offer.accept_answer(&option).unwrap();
            }
            assert!(stream.read_buf(&mut input).await.unwrap() > 0, "closed in the handshake");
        };
        let decoder = MessageDecoder::new(negotiated.codec.clone(), MaxFrameBytes::DEFAULT);
        Self { stream, codec: negotiated.codec, input, decoder }
    }

    async fn request(&mut self, method: &str) {
        let header = HeaderRef { service_method: method, ..HeaderRef::new(Kind::Request, Seq(1)) };
        let mut outbox = Outbox::new();
        let body = Body::from(bytes::Bytes::from_static(b"{}"));
        outbox.push(&self.codec, &header, &body, MaxFrameBytes::DEFAULT).unwrap();
        self.stream.write_all_buf(&mut outbox).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = self.decoder.next(&mut self.input).unwrap() {
                return message;
            }
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0, "closed");
        }
    }
}

async fn wait_for_one_call(handle: &ServerHandle) {
    for _ in 0..1_000 {
        if handle.in_flight() == 1 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("no call is in flight: {:?}", handle.overview());
}

#[tokio::test(start_paused = true)]
async fn waiting_handler_ends_when_the_server_drains() {
    let (handle, serving) = serve();
    let mut client = Client::connect(&handle).await;
    client.request("T.wait").await;
    wait_for_one_call(&handle).await;
    let stopped_at = Instant::now();
    handle.stop();
    assert_eq!(client.next().await.header.kind, Kind::Goaway);
    let response = client.next().await;
    assert_eq!((response.header.kind, response.header.error.is_none()), (Kind::Response, true));
    assert_eq!(response.body, "\"drained\"");
    drop(client);
    serving.await.unwrap();
    assert!(stopped_at.elapsed() < DRAIN_TIMEOUT / 10, "{:?}", stopped_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn draining_is_ready_at_once_after_the_goaway() {
    let (handle, serving) = serve();
    let mut client = Client::connect(&handle).await;
    client.request("T.late").await;
    wait_for_one_call(&handle).await;
    let stopped_at = Instant::now();
    handle.stop();
    assert_eq!(client.next().await.header.kind, Kind::Goaway);
    assert_eq!(client.next().await.body, "\"drained\"");
    assert_eq!(stopped_at.elapsed().as_secs(), 1, "only the sleep takes time");
    drop(client);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_local_call_ends_when_the_server_drains() {
    let (handle, serving) = serve();
    let invoked = tokio::spawn({
        let handle = handle.clone();
        async move { handle.invoke(invocation("T.wait")).await }
    });
    wait_for_one_call(&handle).await;
    let stopped_at = Instant::now();
    handle.stop();
    assert_eq!(invoked.await.unwrap().body(), "\"drained\"");
    serving.await.unwrap();
    assert!(stopped_at.elapsed() < DRAIN_TIMEOUT / 10, "{:?}", stopped_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_a_drain_timeout_calls_run_to_their_end() {
    let server = Server::builder()
        .method("T.long", async |_: Nothing| tokio::time::sleep(Duration::from_secs(86_400)).await)
        .limits(Limits::default().drain_timeout(None))
        .build()
        .unwrap();
    let (handle, serving) = (server.handle(), tokio::spawn(server.serve()));
    let invoked = tokio::spawn({
        let handle = handle.clone();
        async move { handle.invoke(invocation("T.long")).await }
    });
    wait_for_one_call(&handle).await;
    handle.stop();
    assert_eq!(invoked.await.unwrap().status(), None);
    serving.await.unwrap();
}
