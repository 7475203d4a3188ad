//! Layers around streaming calls, and what is shown of streams.

use std::sync::{Arc, Mutex};

use farcall_client::{Channel, Next, Request, interceptor};
use farcall_protocol::Code;

use crate::peer::terms;
use crate::support::{Listener, Peer};

#[tokio::test]
async fn layer_sees_a_stream_as_one_call() {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&seen);
    let layer = interceptor(move |mut request: Request, next: Next| {
        let log = Arc::clone(&log);
        async move {
            assert!(request.is_streaming());
            log.lock().unwrap().push("request".to_owned());
            request.set_metadata("tenant", "blue");
            let outcome = next.call(request).await;
            let shown = outcome.as_ref().map_or_else(
                |error| error.code().name().to_owned(),
                |response| response.decode::<u64>().unwrap().to_string(),
            );
            log.lock().unwrap().push(shown);
            outcome
        }
    });
    let listener = Listener::bind().await;
    let channel = Channel::builder().to(&*listener.address).layer(layer).build().unwrap();
    let call = channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>();
    let opening = tokio::spawn(async move { call.await });
    let mut peer = Peer::accept(listener.accept_mute().await, &terms(64 * 1024, 16)).await;
    let request = peer.request().await;
    assert_eq!(request.header.metadata.unwrap().get("tenant"), Some("blue"));
    let seq = request.header.seq;
    let mut numbers = opening.await.unwrap().unwrap();
    peer.item(seq, &1).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    assert_eq!(*seen.lock().unwrap(), ["request"]);
    peer.answer(seq, &1).await;
    assert!(numbers.next().await.is_none());
    assert_eq!(*seen.lock().unwrap(), ["request", "1"]);
}

#[tokio::test]
async fn request_that_a_layer_passes_on_twice_at_once_is_refused() {
    let layer = interceptor(|request: Request, next: Next| async move {
        let _first = next.clone().call(request.clone());
        let (first, second) = tokio::join!(next.clone().call(request.clone()), next.call(request));
        first.and(second)
    });
    let listener = Listener::bind().await;
    let channel = Channel::builder().to(&*listener.address).layer(layer).build().unwrap();
    let call = channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>();
    let opening = tokio::spawn(async move { call.await });
    let mut peer = Peer::accept(listener.accept_mute().await, &terms(64 * 1024, 16)).await;
    let seq = peer.receiving().await;
    let mut numbers = opening.await.unwrap().unwrap();
    peer.answer(seq, &1).await;
    let error = numbers.next().await.unwrap().unwrap_err();
    assert_error!(error.rpc().unwrap(), Internal, NotSent, Prepare);
}

#[tokio::test]
async fn panic_of_a_layer_ends_the_stream() {
    let layer = interceptor(|request: Request, next: Next| async move {
        assert!(!request.is_streaming(), "requested by the test");
        next.call(request).await
    });
    let channel = Channel::builder().to("tcp@127.0.0.1:1").layer(layer).build().unwrap();
    let error = channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn open_streams_are_shown_and_counted() {
    let listener = Listener::bind().await;
    let channel = Channel::to(&*listener.address).unwrap();
    let call = channel.call::<u64>("Feed.echo", &()).exchange::<u64, u64>();
    let opening = tokio::spawn(async move { call.await });
    let mut peer = Peer::accept(listener.accept_mute().await, &terms(1000, 16)).await;
    let seq = peer.streaming().await;
    let mut echo = opening.await.unwrap().unwrap();
    echo.send(1).await.unwrap();
    peer.take::<u64>().await;
    for number in 0..3 {
        peer.item(seq, &number).await;
    }
    echo.next().await.unwrap().unwrap();
    farcall_test_support::wait::until("the items are there", || {
        channel.metrics().streams.items_received == 3
    })
    .await;
    let overview = channel.overview();
    let [stream] = &overview.streams[..] else { panic!("{overview:?}") };
    assert_eq!((&*stream.method, stream.endpoint.as_deref()), ("Feed.echo", Some(&*listener.address)));
    assert_eq!((stream.items_received, stream.items_sent), (3, 1));
    assert_eq!((stream.window, stream.held, stream.credit), (256 * 1024, 2 * 65, 1000 - 65));
    drop(echo);
    farcall_test_support::wait::until("it is gone", || channel.metrics().streams.open == 0).await;
    let metrics = channel.metrics().streams;
    assert_eq!((metrics.opened, metrics.items_received, metrics.items_sent), (1, 3, 1));
    assert!(channel.overview().streams.is_empty());
}
