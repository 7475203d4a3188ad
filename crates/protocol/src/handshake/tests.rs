use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::code::Code;
use crate::codec::Codec;
use crate::compression::Compression;
use crate::limits::{MAX_OPTION_BYTES, MaxFrameBytes, MaxInFlight, MaxStreams, StreamWindow};
use crate::status::Status;
use crate::stream::SendWindow;

fn consider(change: impl FnOnce(&mut Value)) -> Result<ClientHello, Status> {
    let mut option = json!({
        "magic_number": 3_405_691_582_u32,
        "version": 1,
        "codec_type": "application/json",
    });
    change(&mut option);
    ServerPolicy::default().negotiate(option.to_string().as_bytes())
}

#[test]
fn the_default_option_is_the_vector_of_the_specification() {
    let frame = ClientOffer::default().codec(Codec::MessagePack).encode().unwrap();
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "7b226d616769635f6e756d626572223a333430353639313538322c2276657273696f6e223a312c22636f6465635f\
         74797065223a226170706c69636174696f6e2f6d73677061636b227d"
    );
}

#[test]
fn both_sides_agree_on_the_negotiated_terms() {
    let client = ClientOffer::default()
        .codec(Codec::Json)
        .handle_timeout(Some(Duration::from_secs(3)))
        .compression(Compression::built_in())
        .max_frame_bytes(MaxFrameBytes::new(1000))
        .token(Some("secret".to_owned()));
    let server = ServerPolicy::default()
        .handle_timeout(Some(Duration::from_secs(2)))
        .max_frame_bytes(MaxFrameBytes::new(2000))
        .max_in_flight(MaxInFlight::new(7));
    let asked = server.negotiate(&client.encode().unwrap()).unwrap();
    assert_eq!(asked.token.as_deref(), Some("secret"));
    let negotiated = client.accept_answer(&ServerPolicy::encode_accept(&asked.negotiated)).unwrap();
    assert_eq!(negotiated.codec, Codec::Json);
    assert_eq!(negotiated.handle_timeout, Some(Duration::from_secs(2)));
    assert_eq!(negotiated.compression, Compression::built_in().first().copied());
    assert_eq!(negotiated.max_in_flight.get(), 7);
    assert_eq!((negotiated.send_limit.get(), negotiated.receive_limit.get()), (2000, 1000));
    assert_eq!((asked.negotiated.send_limit.get(), asked.negotiated.receive_limit.get()), (1000, 2000));
}

#[test]
fn refusal_names_the_refused_field() {
    let message = |change: fn(&mut Value)| consider(change).unwrap_err().message;
    assert_eq!(
        message(|option| option["magic_number"] = 1.into()),
        "magic_number `1`: 3405691582 is required"
    );
    assert_eq!(
        message(|option| option["magic_number"] = Value::Null),
        "magic_number is missing: 3405691582 is required"
    );
    assert_eq!(message(|option| option["version"] = 9.into()), "version `9`: this server speaks 1");
    assert_eq!(
        message(|option| option["codec_type"] = "application/\u{7}xml".into()),
        "codec_type `application/\\u{7}xml`: this server speaks application/msgpack, application/json"
    );
    assert!(message(|option| *option = json!([])).starts_with("Option: "));
}

#[test]
fn unknown_fields_are_ignored_and_null_is_absent() {
    let asked = consider(|option| {
        option["colour"] = "green".into();
        option["features"] = json!(["streams"]);
        option["compression"] = Value::Null;
        option["handle_timeout_ms"] = 0.into();
    });
    let negotiated = asked.unwrap().negotiated;
    assert_eq!((negotiated.compression, negotiated.handle_timeout), (None, None));
    assert_eq!(negotiated.send_limit, MaxFrameBytes::DEFAULT);
}

#[test]
fn refusal_carries_the_reason_and_the_supported_codecs() {
    let server = ServerPolicy::default();
    let refusal = server.encode_refusal(&Status::refused(Code::Unauthenticated, "token is missing"));
    let error = ClientOffer::default().accept_answer(&refusal).unwrap_err();
    assert_eq!(
        error.to_string(),
        "refused: unauthenticated (refused): token is missing \
         (it speaks application/msgpack, application/json)"
    );
    let refusal: Value = serde_json::from_slice(&refusal).unwrap();
    assert_eq!(refusal["version"], 1);
}

#[test]
fn answer_with_a_term_that_was_not_requested_is_an_error() {
    let answer = json!({"magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/cbor"});
    let error = ClientOffer::default().accept_answer(answer.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "the answer's codec_type `application/cbor` is not what was asked for");
    assert!(ClientOffer::default().accept_answer(b"HTTP/1.1 400 Bad Request").is_err());
}

#[test]
fn token_that_does_not_fit_is_refused_by_the_client() {
    let terms = ClientOffer::default().token(Some("x".repeat(5000)));
    assert!(matches!(terms.encode(), Err(HandshakeError::OptionTooLarge { size }) if size > 5000));
    assert!(!format!("{terms:?}").contains("xxx"));
}

#[test]
fn option_as_an_array_of_fields_is_refused() {
    let fields = br#"[3405691582,1,"application/json",null,null,null,null,null]"#;
    let refusal = ServerPolicy::default().negotiate(fields).unwrap_err();
    assert_eq!(refusal.message, "Option: invalid type: sequence, expected an object at line 1 column 0");
    let fields = br#"[3405691582,1,"application/msgpack",null,null,null,null,null,null]"#;
    assert!(matches!(ClientOffer::default().accept_answer(fields), Err(HandshakeError::Malformed { .. })));
}

#[test]
fn refusal_never_exceeds_the_limit_of_an_option() {
    let refusal =
        ServerPolicy::default().encode_refusal(&Status::refused(Code::Internal, "\u{1}".repeat(1024)));
    assert!(refusal.len() <= MAX_OPTION_BYTES, "{} bytes", refusal.len());
    let error = ClientOffer::default().accept_answer(&refusal).unwrap_err();
    assert!(matches!(error, HandshakeError::Refused { status, .. } if status.message.len() == 512));
}

#[test]
fn text_of_the_server_is_escaped_in_errors() {
    let mut answer =
        json!({"magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/json"});
    answer["compression"] = "\u{1b}[2J".into();
    let terms = ClientOffer::default().codec(Codec::Json);
    let error = terms.accept_answer(answer.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), r"the answer's compression `\u{1b}[2J` is not what was asked for");
}

#[test]
fn streams_are_agreed_if_both_sides_have_them() {
    let (client_window, server_window) = (StreamWindow::CLIENT_DEFAULT, StreamWindow::new(10_000));
    let policy = StreamPolicy::new(server_window, MaxStreams::new(7));
    let with = (ClientOffer::default().streams(client_window), ServerPolicy::default().streams(policy));
    let without = (ClientOffer::default(), ServerPolicy::default());
    let agree = |client: &ClientOffer, server: &ServerPolicy| {
        let hello = server.negotiate(&client.encode().unwrap()).unwrap();
        let answer = ServerPolicy::encode_accept(&hello.negotiated);
        (client.accept_answer(&answer).unwrap().streams, hello.negotiated.streams)
    };
    let (client, server) = agree(&with.0, &with.1);
    assert_eq!(client, Some(StreamTerms::new(server_window, client_window, MaxStreams::new(7))));
    assert_eq!(server, Some(StreamTerms::new(client_window, server_window, MaxStreams::new(7))));
    assert_eq!(agree(&with.0, &without.1), (None, None));
    assert_eq!(agree(&without.0, &with.1), (None, None));
}

#[test]
fn absent_stream_window_is_64_kib() {
    let client = ClientOffer::default().codec(Codec::Json).streams(StreamWindow::DEFAULT);
    let option: Value = serde_json::from_slice(&client.encode().unwrap()).unwrap();
    assert_eq!((&option["features"], &option["stream_window"]), (&json!(["streams"]), &Value::Null));
    let answer = json!({
        "magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/json", "features": ["streams"],
    });
    let negotiated = client.accept_answer(answer.to_string().as_bytes()).unwrap();
    assert_eq!(
        negotiated.streams,
        Some(StreamTerms::new(StreamWindow::DEFAULT, StreamWindow::DEFAULT, MaxStreams::DEFAULT))
    );
    let error = ClientOffer::default().codec(Codec::Json).accept_answer(answer.to_string().as_bytes());
    assert_eq!(error.unwrap_err().to_string(), "the answer's features `streams` is not what was asked for");
}

#[test]
fn stated_window_of_0_lets_nothing_be_sent() {
    let closed = |terms: Option<StreamTerms>| {
        let window = SendWindow::new(terms.expect("both have streams").send_window);
        (window.limit(), window.is_open())
    };
    let policy = ServerPolicy::default()
        .codecs(vec![Codec::Json])
        .streams(StreamPolicy::new(StreamWindow::DEFAULT, MaxStreams::DEFAULT));
    let option = json!({
        "magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/json", "features": ["streams"],
        "stream_window": 0,
    })
    .to_string();
    let hello = policy.negotiate(option.as_bytes()).unwrap();
    assert_eq!(closed(hello.negotiated.streams), (0, false));
    let client = ClientOffer::default().codec(Codec::Json).streams(StreamWindow::DEFAULT);
    let negotiated = client.accept_answer(option.as_bytes()).unwrap();
    assert_eq!(closed(negotiated.streams), (0, false));
}

#[test]
fn limits_of_0_are_those_of_an_option_without_them() {
    let policy = ServerPolicy::default().codecs(vec![Codec::Json]);
    let option = |limits: &str| {
        format!(r#"{{"magic_number": 3405691582, "version": 1, "codec_type": "application/json"{limits}}}"#)
    };
    let client = ClientOffer::default().codec(Codec::Json);
    for limits in ["", r#", "max_frame_bytes": 0, "max_in_flight": 0"#] {
        let hello = policy.negotiate(option(limits).as_bytes()).unwrap();
        assert_eq!(hello.negotiated.send_limit, MaxFrameBytes::DEFAULT);
        let negotiated = client.accept_answer(option(limits).as_bytes()).unwrap();
        assert_eq!(negotiated.send_limit, MaxFrameBytes::DEFAULT);
        assert_eq!(negotiated.max_in_flight, MaxInFlight::DEFAULT);
    }
}

#[test]
fn refusal_without_a_message_has_that_of_its_code() {
    let client = ClientOffer::default().codec(Codec::Json);
    for refusal in [r#"{"error":{"code":"unavailable"}}"#, r#"{"error":{"code":"unavailable","message":""}}"#]
    {
        let error = client.accept_answer(refusal.as_bytes()).unwrap_err();
        assert!(error.to_string().ends_with("unavailable"), "{error}");
    }
}

#[test]
fn integers_may_be_written_in_any_notation() {
    let policy = ServerPolicy::default()
        .codecs(vec![Codec::Json])
        .streams(StreamPolicy::new(StreamWindow::DEFAULT, MaxStreams::DEFAULT));
    let option = r#"{
        "magic_number": 3.405691582e9, "version": 1.0, "codec_type": "application/json", "features": ["streams"],
        "max_frame_bytes": 1e6, "handle_timeout_ms": 5000.0, "stream_window": 7E2, "connect_timeout_ms": null
    }"#;
    let hello = policy.negotiate(option.as_bytes()).unwrap();
    assert_eq!(hello.negotiated.send_limit.get(), 1_000_000);
    assert_eq!(hello.negotiated.handle_timeout, Some(Duration::from_secs(5)));
    assert_eq!(hello.negotiated.streams.map(|terms| terms.send_window.get()), Some(700));
    let client = ClientOffer::default().codec(Codec::Json).streams(StreamWindow::DEFAULT);
    let answer = option
        .replace("\"max_frame_bytes\"", "\"max_in_flight\": 2.0, \"max_streams\": 3e0, \"max_frame_bytes\"");
    let negotiated = client.accept_answer(answer.as_bytes()).unwrap();
    assert_eq!(negotiated.max_in_flight.get(), 2);
    assert_eq!(negotiated.streams.map(|terms| terms.max_streams.get()), Some(3));
    let refused = policy.negotiate(option.replace("1.0", "1.5").as_bytes()).unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
}

#[test]
fn store_with_an_empty_name_is_none() {
    let client = ClientOffer::default().codec(Codec::Json);
    let answered = |store: Value| {
        let answer = json!({
            "magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/json", "once_store": store,
        });
        client.accept_answer(answer.to_string().as_bytes()).unwrap().once_store
    };
    assert_eq!([Value::Null, json!("")].map(&answered), [None, None]);
    assert_eq!(answered(json!("s")).as_deref(), Some("s"));
    let policy = ServerPolicy::default().once_store(Arc::from(""));
    let negotiated = policy.negotiate(&client.encode().unwrap()).unwrap().negotiated;
    let option: Value = serde_json::from_slice(&ServerPolicy::encode_accept(&negotiated)).unwrap();
    assert_eq!(option.get("once_store"), None);
}
