//! The fields of spans, and the trace context that is sent and forwarded.

use farcall_client::{Channel, RetryPolicy};
use farcall_context::Inherited;
use farcall_protocol::Code;

use super::support::{LISTENING, PARENT, Sent, Spans, TRACE, chain, make_spans_known, serve, until};

async fn sent(channel: &Channel) -> Sent {
    channel.call("T.sent", &()).await.unwrap()
}

#[tokio::test]
async fn trace_passes_through_handlers_without_a_subscriber() {
    make_spans_known();
    let channel = chain().await;
    let nested = channel.call::<Sent>("T.nested", &());
    let nested = nested.metadata("traceparent", PARENT).metadata("tracestate", "a=b").await.unwrap();
    assert_eq!(nested.traceparent.as_deref(), Some(PARENT));
    assert_eq!(nested.tracestate.as_deref(), Some("a=b"));
}

#[tokio::test]
async fn no_trace_is_sent_without_a_subscriber() {
    make_spans_known();
    let channel = chain().await;
    assert_eq!(sent(&channel).await.traceparent, None);
    // Nor with a subscriber that filters out the spans of calls.
    let (spans, _watch) = Spans::watch("info");
    assert_eq!(channel.call::<Sent>("T.nested", &()).await.unwrap().traceparent, None);
    assert_eq!(spans.ended().iter().map(|seen| seen.name).collect::<Vec<_>>(), ["work"]);
}

#[tokio::test]
async fn client_and_server_spans_of_a_call_share_a_trace() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let address = serve(None).await;
    let sent = sent(&Channel::to(address.clone()).unwrap()).await;
    until("both have ended", || spans.ended().len() == 2).await;

    let (client, server) = (&spans.named("rpc.client")[0], &spans.named("rpc.server")[0]);
    for span in [client, server] {
        assert_eq!(span.get("trace_id"), sent.ids().0);
        assert_eq!(span.get("otel.name"), "T/sent");
        assert_eq!(span.get("rpc.system"), "farcall");
        assert_eq!((span.get("rpc.service"), span.get("rpc.method")), ("T", "sent"));
        assert_eq!((span.get("error.type"), span.get("otel.status_code")), ("", ""));
    }
    assert_eq!((client.get("otel.kind"), server.get("otel.kind")), ("client", "server"));
    assert_eq!(client.get("server.address"), "127.0.0.1");
    assert_eq!(client.get("server.port"), address.port().unwrap().to_string());
    assert_eq!(server.get("client.address"), "127.0.0.1");
    assert_eq!(client.get("farcall.tries"), "", "said only where there was more than one");
    assert!(sent.traceparent.unwrap().ends_with("-01"), "a trace that begins here is sampled");
}

#[tokio::test]
async fn nested_call_is_a_child_of_the_handlers_span() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    let nested: Sent = channel.call("T.nested", &()).start().await.unwrap();
    until("all have ended", || spans.ended().len() == 5).await;
    let parents: Vec<_> = spans.ended().iter().map(|seen| (seen.name, seen.parent)).collect();
    let expected = [
        ("rpc.client", None),
        ("rpc.server", None),
        ("work", Some("rpc.server")),
        ("rpc.client", Some("rpc.server")),
        ("rpc.server", None),
    ];
    assert_eq!(parents, expected);
    for span in spans.ended().iter().filter(|seen| seen.name != "work") {
        assert_eq!(span.get("trace_id"), nested.ids().0);
    }
}

#[tokio::test]
async fn each_hop_has_its_own_span_id() {
    let (_spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    let inherited = Inherited::default().metadata(Some(with_parent(PARENT, None)));
    let first: Sent = inherited.scope(|| channel.call("T.sent", &())).await.unwrap();
    let second: Sent = inherited.scope(|| channel.call("T.nested", &())).await.unwrap();
    assert_eq!((first.ids().0, second.ids().0), (TRACE, TRACE));
    let mut ids = [first.ids().1, second.ids().1, &PARENT[36..52]];
    ids.sort_unstable();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
}

#[tokio::test]
async fn nested_call_without_a_client_span_is_a_child_of_the_server_span() {
    let (spans, _watch) = Spans::watch("info,farcall::server=debug");
    let channel = chain().await;
    let nested = channel.call::<Sent>("T.nested", &()).metadata("traceparent", PARENT).await.unwrap();
    assert_eq!(nested.ids().0, TRACE);
    assert_ne!(nested.traceparent.as_deref(), Some(PARENT), "it is of the server's span");
    assert!(spans.named("rpc.client").is_empty());
}

#[tokio::test]
async fn malformed_traceparent_starts_a_new_trace() {
    let (_spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    for malformed in ["", "00-1-2-00", &PARENT.to_uppercase(), &PARENT.replace("-01", "-01-")] {
        let inherited = Inherited::default().metadata(Some(with_parent(malformed, Some("a=b"))));
        let sent: Sent = inherited.scope(|| channel.call("T.nested", &())).await.unwrap();
        assert_ne!(sent.ids().0, TRACE, "{malformed:?}");
        assert_eq!(sent.tracestate, None, "what was said of another trace");
    }
}

#[tokio::test]
async fn tracestate_is_forwarded_with_its_trace() {
    let (_spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    let inherited = Inherited::default().metadata(Some(with_parent(PARENT, Some("a=b"))));
    let sent: Sent = inherited.scope(|| channel.call("T.nested", &())).await.unwrap();
    assert_eq!((sent.ids().0, sent.tracestate.as_deref()), (TRACE, Some("a=b")));
}

#[tokio::test]
async fn tracestate_without_a_trace_is_not_forwarded() {
    let (_spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    for malformed in ["", "00-1-2-00"] {
        let call = channel.call::<Sent>("T.nested", &()).metadata("traceparent", malformed);
        let sent = call.metadata("tracestate", "a=b").await.unwrap();
        assert_eq!(sent.tracestate, None, "{malformed:?}, {sent:?}");
    }
}

#[tokio::test]
async fn explicit_traceparent_gets_no_tracestate_of_another_trace() {
    let channel = chain().await;
    let other = PARENT.replace(TRACE, &"1".repeat(32));
    for (parent, state) in [(other, None), (PARENT.to_owned(), Some("a=b"))] {
        let inherited = Inherited::default().metadata(Some(with_parent(PARENT, Some("a=b"))));
        let call = inherited.scope(|| channel.call::<Sent>("T.sent", &()).metadata("traceparent", &parent));
        assert_eq!(
            call.await.unwrap(),
            Sent { traceparent: Some(parent), tracestate: state.map(str::to_owned) }
        );
    }
}

#[tokio::test]
async fn explicit_traceparent_is_sent_unchanged() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    let sent = channel.call::<Sent>("T.sent", &()).metadata("traceparent", PARENT).await.unwrap();
    assert_eq!(sent.traceparent.as_deref(), Some(PARENT));
    until("both have ended", || spans.ended().len() == 2).await;
    assert!(spans.ended().iter().all(|seen| seen.get("trace_id") == TRACE));
}

#[tokio::test]
async fn error_is_recorded_in_both_spans() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    channel.call::<String>("T.fail", &()).await.unwrap_err();
    until("both have ended", || spans.ended().len() == 2).await;
    for span in spans.ended() {
        assert_eq!((span.get("error.type"), span.get("otel.status_code")), ("internal", "ERROR"));
        assert!(span.get("otel.status_description").contains("`T.fail` panicked"), "{span:?}");
    }
}

#[tokio::test]
async fn span_of_a_dropped_call_records_cancelled() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    sent(&channel).await;
    drop(channel.call::<()>("T.slow", &()).start());
    until("both have ended", || spans.ended().len() == 4).await;
    let (client, server) = (&spans.named("rpc.client")[1], &spans.named("rpc.server")[1]);
    assert_eq!((client.get("error.type"), client.get("otel.status_code")), ("cancelled", "ERROR"));
    // A cancel is no error of the server.
    assert_eq!((server.get("error.type"), server.get("otel.status_code")), ("cancelled", ""));
}

#[tokio::test]
async fn span_records_the_number_of_tries() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = Channel::builder()
        .to(serve(None).await)
        .retry(RetryPolicy::retry_same().max_attempts(5))
        .build()
        .unwrap();
    // The call has to dial, so that it runs in a separate task, which is within the span, too.
    let answer: String = channel.call("R.refuse", &()).idempotent().start().await.unwrap();
    assert_eq!(answer, "at last");
    until("all have ended", || spans.ended().len() == 4).await;
    assert_eq!(spans.named("rpc.client")[0].get("farcall.tries"), "3");
    assert_eq!(spans.named("rpc.client")[0].get("otel.status_code"), "");
    let attempts: Vec<_> =
        spans.named("rpc.server").iter().map(|seen| seen.get("farcall.attempt").to_owned()).collect();
    assert_eq!(attempts, ["", "2", "3"]);
}

#[tokio::test]
async fn call_that_fails_before_it_is_sent_has_a_span() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    let error = channel.call::<()>("T.sent", &()).metadata("Upper", "a").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(spans.named("rpc.client")[0].get("error.type"), "invalid_argument");
}

#[tokio::test]
async fn one_way_calls_and_broadcasts_have_spans() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    channel.notify("T.sent", &()).await.unwrap();
    channel.call::<Sent>("T.sent", &()).broadcast().await.unwrap();
    channel.call::<String>("T.fail", &()).broadcast().any().await.unwrap_err();
    until("all have ended", || spans.ended().len() == 6).await;
    let clients = spans.named("rpc.client");
    let ends: Vec<_> = clients.iter().map(|seen| seen.get("error.type")).collect();
    assert_eq!(ends, ["", "", "internal"]);
}

#[tokio::test]
async fn errors_before_a_one_way_call_or_broadcast_is_sent_are_recorded() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    channel.call::<()>("T.sent", &()).metadata("Upper", "a").notify().await.unwrap_err();
    channel.call::<()>("T.sent", &()).metadata("Upper", "a").broadcast().each().await.unwrap_err();
    let clients = spans.named("rpc.client");
    let errors: Vec<_> = clients.iter().map(|seen| seen.get("error.type")).collect();
    assert_eq!(errors, ["invalid_argument", "invalid_argument"]);
}

#[tokio::test]
async fn errors_of_all_forms_of_broadcasts_are_recorded() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    channel.call::<String>("T.fail", &()).broadcast().await.unwrap_err();
    channel.call::<String>("T.fail", &()).broadcast().any().await.unwrap_err();
    for span in spans.named("rpc.client") {
        assert_eq!((span.get("error.type"), span.get("otel.status_code")), ("internal", "ERROR"), "{span:?}");
    }
    assert_eq!(spans.named("rpc.client").len(), 2);
}

#[tokio::test]
async fn spawned_task_that_inherits_stays_in_the_trace() {
    let (_spans, _watch) = Spans::watch(LISTENING);
    let channel = chain().await;
    let inherited = Inherited::default().metadata(Some(with_parent(PARENT, None)));
    let spawned = inherited.wrap(async move {
        assert_eq!(Inherited::current().trace_context().unwrap().to_string(), PARENT);
        sent(&channel).await
    });
    assert_eq!(tokio::spawn(spawned).await.unwrap().ids().0, TRACE);
}

fn with_parent(traceparent: &str, tracestate: Option<&str>) -> std::sync::Arc<farcall_protocol::Metadata> {
    let mut metadata = farcall_protocol::Metadata::new();
    metadata.insert("traceparent", traceparent).unwrap();
    if let Some(tracestate) = tracestate {
        metadata.insert("tracestate", tracestate).unwrap();
    }
    metadata.into()
}

#[tokio::test]
async fn span_covers_a_whole_stream_with_events_for_its_first_item_and_its_end() {
    let (spans, _watch) = Spans::watch(LISTENING);
    let channel = Channel::to(serve(None).await).unwrap();
    let mut items = channel.call::<()>("T.stream", &()).exchange::<u8, Sent>().await.unwrap();
    items.send(1).await.unwrap();
    let sent = items.next().await.unwrap().unwrap();
    assert!(spans.named("rpc.client").is_empty(), "it is open");
    items.send(2).await.unwrap();
    assert_eq!(items.next().await.unwrap().unwrap(), sent);
    items.end();
    assert!(items.next().await.is_none());
    until("the client's has ended", || spans.named("rpc.client").len() == 1).await;
    let span = &spans.named("rpc.client")[0];
    assert_eq!((span.get("trace_id"), span.get("otel.name")), (sent.ids().0, "T/stream"));
    assert_eq!((span.get("error.type"), span.get("server.address")), ("", "127.0.0.1"));
    assert_eq!(span.events, ["first item", "end"]);
    until("the server's has ended", || spans.named("rpc.server").len() == 1).await;
    let span = &spans.named("rpc.server")[0];
    assert_eq!((span.get("trace_id"), span.get("otel.name")), (sent.ids().0, "T/stream"));
    let mut events = span.events.clone();
    assert_eq!(events.pop().as_deref(), Some("the stream has ended"), "{events:?}");
    events.sort_unstable();
    assert_eq!(events, ["the first item was received", "the first item was sent"]);
}
