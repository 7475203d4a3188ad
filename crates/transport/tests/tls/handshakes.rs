//! The trust between both sides.

use farcall_test_support::pki::{Authority, Certificate};
use farcall_test_support::wait::within_patience;
use farcall_transport::{
    Alpn, DialErrorKind, Dialer, ListenError, Listener, TlsClient, TlsErrorKind, TlsServer,
};
use rcgen::{DnType, SanType, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Duration;

use super::{dial_error, listen, meet, open, parse, server, tls_error, trusting};

#[tokio::test]
async fn both_sides_know_what_the_handshake_negotiated() {
    let authority = Authority::new("ca");
    let (near, far) = open(&server(&authority.issue(&["127.0.0.1"])), &trusting(&authority)).await;
    for stream in [&near, &far] {
        let info = stream.tls().unwrap();
        assert_eq!((info.version, info.alpn.as_deref(), info.resumed), ("TLSv1.3", Some("farcall/1"), false));
    }
    assert!(near.tls().unwrap().certificate.as_ref().unwrap().has_name("127.0.0.1"));
    assert_eq!(far.tls().unwrap().certificate, None);
}

#[tokio::test]
async fn server_certificate_of_unknown_authority_is_refused() {
    let listener = listen(&server(&Authority::new("theirs").issue(&["127.0.0.1"]))).await;
    let (near, far) = meet(&listener, &trusting(&Authority::new("ours"))).await;
    let text = near.as_ref().unwrap_err().to_string();
    let address = listener.address();
    assert_eq!(
        text,
        format!("connecting to {address}: its certificate is signed by no authority that is trusted here")
    );
    assert_eq!(dial_error(near), TlsErrorKind::UnknownIssuer);
    let reason = "it does not trust who signed the certificate of this side".to_owned();
    assert_eq!(tls_error(far), TlsErrorKind::Refused { reason });
}

#[tokio::test]
async fn server_certificate_of_unknown_authority_is_refused_with_system_roots_too() {
    let listener = listen(&server(&Authority::new("theirs").issue(&["127.0.0.1"]))).await;
    let client = TlsClient::builder().roots_pem(Authority::new("ours").certificate).system_roots().build();
    // The machine may have no roots.
    let Ok(client) = client else { return };
    let (near, _) = meet(&listener, &client).await;
    assert_eq!(dial_error(near), TlsErrorKind::UnknownIssuer);
}

/// Issues a certificate that expired in 2001.
fn issue_expired(authority: &Authority, names: &[&str]) -> Certificate {
    authority.issue_with(names, |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    })
}

#[tokio::test]
async fn expired_certificate_is_refused() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&issue_expired(&authority, &["127.0.0.1"]))).await;
    let (near, far) = meet(&listener, &trusting(&authority)).await;
    let text = near.as_ref().unwrap_err().to_string();
    assert!(text.contains(": its certificate expired ") && text.ends_with(" s ago"), "{text}");
    assert!(matches!(dial_error(near), TlsErrorKind::Expired { .. }));
    let reason = "the certificate of this side has expired".to_owned();
    assert_eq!(tls_error(far), TlsErrorKind::Refused { reason });
}

#[tokio::test]
async fn certificate_for_another_name_is_refused_unless_the_client_expects_that_name() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&authority.issue(&["shop.example", "10.0.0.1"]))).await;
    let (near, far) = meet(&listener, &trusting(&authority)).await;
    let text = near.as_ref().unwrap_err().to_string();
    let wanted = r#"its certificate is for "shop.example, 10.0.0.1", not for "127.0.0.1""#;
    assert!(text.ends_with(wanted), "{text}");
    assert!(matches!(dial_error(near), TlsErrorKind::WrongName { .. }));
    assert!(matches!(tls_error(far), TlsErrorKind::Refused { .. }));

    let client = TlsClient::builder().roots_pem(&*authority.certificate).server_name("shop.example");
    let (near, far) = meet(&listener, &client.build().unwrap()).await;
    near.unwrap();
    assert_eq!(far.unwrap().tls().unwrap().server_name.as_deref(), Some("shop.example"));
}

#[tokio::test]
async fn server_that_requires_certificates_sees_the_clients() {
    let authority = Authority::new("ca");
    let pair = authority.issue(&["127.0.0.1"]);
    let tls = TlsServer::builder()
        .certificate_pem(&*pair.chain, &*pair.key)
        .client_roots_pem(&*authority.certificate)
        .build()
        .unwrap();
    let own = authority.issue_with(&[], |params| {
        params.subject_alt_names = vec![SanType::URI("spiffe://example/billing".try_into().unwrap())];
        params.distinguished_name.push(DnType::CommonName, "billing");
    });
    let client = TlsClient::builder()
        .roots_pem(&*authority.certificate)
        .certificate_pem(&*own.chain, &*own.key)
        .build();
    let (_near, far) = open(&tls, &client.unwrap()).await;
    let certificate = far.tls().unwrap().certificate.clone().unwrap();
    assert_eq!(certificate.name().as_deref(), Some("spiffe://example/billing"));
    assert_eq!(certificate.common_name.as_deref(), Some("billing"));
}

#[tokio::test]
async fn client_without_required_certificate_is_refused_with_the_reason() {
    let authority = Authority::new("ca");
    let pair = authority.issue(&["127.0.0.1"]);
    let required = TlsServer::builder()
        .certificate_pem(&*pair.chain, &*pair.key)
        .client_roots_pem(&*authority.certificate);
    let listener = listen(&required.clone().build().unwrap()).await;
    // Several times, since the alert may be lost if the server closes too early.
    for _ in 0..3 {
        let (near, far) = meet(&listener, &trusting(&authority)).await;
        assert_eq!(tls_error(far), TlsErrorKind::NoCertificate);
        let read = within_patience("the refusal", near.unwrap().read_u8()).await;
        let reason = "it wants a certificate of this side, and got none".to_owned();
        assert_eq!(tls_error(read), TlsErrorKind::Refused { reason });
    }
    let optional = required.client_certificate_optional().build().unwrap();
    let (_near, far) = open(&optional, &trusting(&authority)).await;
    assert_eq!(far.tls().unwrap().certificate, None);
}

#[tokio::test]
async fn client_certificate_of_unknown_authority_is_refused() {
    let authority = Authority::new("ca");
    let pair = authority.issue(&["127.0.0.1"]);
    let own = Authority::new("theirs").issue(&["eve.example"]);
    let tls = TlsServer::builder()
        .certificate_pem(&*pair.chain, &*pair.key)
        .client_roots_pem(&*authority.certificate)
        .client_certificate_optional();
    let client = TlsClient::builder()
        .roots_pem(&*authority.certificate)
        .certificate_pem(&*own.chain, &*own.key)
        .build();
    let (near, far) = meet(&listen(&tls.build().unwrap()).await, &client.unwrap()).await;
    assert_eq!(tls_error(far), TlsErrorKind::UnknownIssuer);
    let read = within_patience("the refusal", near.unwrap().read_u8()).await;
    assert!(matches!(tls_error(read), TlsErrorKind::Refused { .. }));
}

#[tokio::test]
async fn dial_fails_if_the_server_does_not_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = parse(&format!("tls@{}", listener.local_addr().unwrap()));
    let dialer = Dialer::default().tls(trusting(&Authority::new("ca")));
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"\0\0\0\x02{}").await.unwrap();
        stream
    };
    let (dialed, _stream) = tokio::join!(dialer.dial(&address), plain);
    assert_eq!(
        dialed.as_ref().unwrap_err().to_string(),
        format!("connecting to {address}: it does not speak TLS: try `tcp@`")
    );
    assert_eq!(dial_error(dialed), TlsErrorKind::NotTls);

    let closing = async { drop(listener.accept().await) };
    let (dialed, ()) = tokio::join!(dialer.dial(&address), closing);
    assert!(matches!(dial_error(dialed), TlsErrorKind::Closed | TlsErrorKind::Io { .. }));
}

#[tokio::test]
async fn silent_server_is_given_up_after_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = parse(&format!("tls@{}", listener.local_addr().unwrap()));
    let limit = Duration::from_millis(100);
    let dialer = Dialer::default().tls(trusting(&Authority::new("ca"))).connect_timeout(limit);
    let error = within_patience("the dial is given up", dialer.dial(&address)).await.unwrap_err();
    let reason = "it accepted the connection, and did not complete the TLS handshake within 100 ms";
    assert_eq!(error.to_string(), format!("connecting to {address}: {reason}"));
    assert!(matches!(error.reason(), DialErrorKind::TlsTimeout { .. }));
}

#[tokio::test]
async fn client_without_tls_is_refused_and_silent_client_delays_no_other() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&authority.issue(&["127.0.0.1"]))).await;
    let to = listener.address().socket_addr().unwrap();
    let _silent = TcpStream::connect(to).await.unwrap();
    let (_held, _) = listener.accept().await.unwrap();

    for request in [&b"\0\0\0\x4a{\"magic_number\""[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut plain = TcpStream::connect(to).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        plain.write_all(request).await.unwrap();
        let receive = async {
            let mut received = Vec::new();
            plain.read_to_end(&mut received).await.unwrap();
            drop(plain);
            received
        };
        let (received, read) =
            within_patience("the refusal", async { tokio::join!(receive, far.read_u8()) }).await;
        assert_eq!(tls_error(read), TlsErrorKind::NotTls);
        assert_eq!(received.first(), Some(&21), "an alert");
        // It stays refused.
        assert_eq!(tls_error(far.write_all(b"!").await), TlsErrorKind::NotTls);
    }
    let (near, far) = meet(&listener, &trusting(&authority)).await;
    near.unwrap();
    far.unwrap();
}

#[tokio::test]
async fn peer_with_another_application_protocol_is_refused() {
    let authority = Authority::new("ca");
    let tls = server(&authority.issue(&["127.0.0.1"]));
    let client = trusting(&authority);
    for (ours, theirs) in [(Alpn::Farcall, Alpn::Http1), (Alpn::Http1, Alpn::Farcall)] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut far = tls.accept(far, theirs);
        let (near, far) = tokio::join!(client.connect(near, "127.0.0.1", ours), far.read_u8());
        assert_eq!(near.unwrap_err(), TlsErrorKind::NotFarcall);
        assert_eq!(tls_error(far), TlsErrorKind::NotFarcall);
    }
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut far = tls.accept(far, Alpn::FarcallOrHttp1);
    let (near, read) = tokio::join!(
        async {
            let mut near = client.connect(near, "127.0.0.1", Alpn::Http1).await.unwrap();
            near.write_all(b"!").await.unwrap();
            near
        },
        far.read_u8()
    );
    assert_eq!(read.unwrap(), b'!');
    assert_eq!(near.tls().unwrap().alpn.as_deref(), Some("http/1.1"));
}

#[tokio::test]
async fn session_is_resumed() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&authority.issue(&["127.0.0.1"]))).await;
    let client = trusting(&authority);
    for resumed in [false, true] {
        let (near, far) = meet(&listener, &client).await;
        let mut near = near.unwrap();
        // The session ticket arrives before the first byte.
        assert_eq!(near.read_u8().await.unwrap(), b'!');
        assert_eq!(near.tls().unwrap().resumed, resumed);
        assert_eq!(far.unwrap().tls().unwrap().resumed, resumed);
        assert!(near.tls().unwrap().certificate.is_some());
    }
}

#[tokio::test]
async fn listening_at_an_encrypted_address_needs_a_certificate() {
    let error = Listener::bind(&parse("tls@127.0.0.1:0")).await.unwrap_err();
    assert!(matches!(error, ListenError::NoCertificate { .. }), "{error:?}");
    let expected = "listening at tls@127.0.0.1:0: it needs a certificate, and none is set";
    assert_eq!(error.to_string(), expected);
}
