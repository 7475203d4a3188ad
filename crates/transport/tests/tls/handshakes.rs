//! The trust between both sides.

use farcall_transport::{
    Alpn, DialErrorKind, Dialer, ListenError, Listener, TlsClient, TlsErrorKind, TlsServer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, timeout};

use super::authority::Authority;
use super::{PATIENCE, dial_fault, fault, listen, meet, open, parse, server, trusting};

#[tokio::test]
async fn a_trusted_server_is_spoken_to_and_both_know_what_was_agreed() {
    let authority = Authority::new("ca");
    let (near, far) = open(&server(&authority.sign(&["127.0.0.1"])), &trusting(&authority)).await;
    for stream in [&near, &far] {
        let info = stream.tls().unwrap();
        assert_eq!((info.version, info.alpn.as_deref(), info.resumed), ("TLSv1.3", Some("farcall/1"), false));
    }
    assert!(near.tls().unwrap().certificate.as_ref().unwrap().has_name("127.0.0.1"));
    assert_eq!(far.tls().unwrap().certificate, None);
}

#[tokio::test]
async fn a_server_of_a_stranger_is_refused() {
    let listener = listen(&server(&Authority::new("theirs").sign(&["127.0.0.1"]))).await;
    let (near, far) = meet(&listener, &trusting(&Authority::new("ours"))).await;
    let text = near.as_ref().unwrap_err().to_string();
    let address = listener.address();
    assert_eq!(
        text,
        format!("connecting to {address}: its certificate is signed by nobody who is trusted here")
    );
    assert_eq!(dial_fault(near), TlsErrorKind::UnknownIssuer);
    let why = "it does not trust who signed the certificate of this side".to_owned();
    assert_eq!(fault(far), TlsErrorKind::Refused { why });
}

#[tokio::test]
async fn a_server_of_a_stranger_is_refused_by_whoever_trusts_the_system_too() {
    let listener = listen(&server(&Authority::new("theirs").sign(&["127.0.0.1"]))).await;
    let client = TlsClient::builder().roots_pem(Authority::new("ours").pem).system_roots().build();
    // A machine may be without roots of its own.
    let Ok(client) = client else { return };
    let (near, _) = meet(&listener, &client).await;
    assert_eq!(dial_fault(near), TlsErrorKind::UnknownIssuer);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&authority.sign_expired(&["127.0.0.1"]))).await;
    let (near, far) = meet(&listener, &trusting(&authority)).await;
    let text = near.as_ref().unwrap_err().to_string();
    assert!(text.contains(": its certificate expired ") && text.ends_with(" s ago"), "{text}");
    assert!(matches!(dial_fault(near), TlsErrorKind::Expired { .. }));
    let why = "the certificate of this side has expired".to_owned();
    assert_eq!(fault(far), TlsErrorKind::Refused { why });
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_unless_that_is_the_name_wanted() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&authority.sign(&["shop.example", "10.0.0.1"]))).await;
    let (near, far) = meet(&listener, &trusting(&authority)).await;
    let text = near.as_ref().unwrap_err().to_string();
    let wanted = r#"its certificate is for "shop.example, 10.0.0.1", not for "127.0.0.1""#;
    assert!(text.ends_with(wanted), "{text}");
    assert!(matches!(dial_fault(near), TlsErrorKind::WrongName { .. }));
    assert!(matches!(fault(far), TlsErrorKind::Refused { .. }));

    let client = TlsClient::builder().roots_pem(&*authority.pem).server_name("shop.example");
    let (near, far) = meet(&listener, &client.build().unwrap()).await;
    near.unwrap();
    assert_eq!(far.unwrap().tls().unwrap().server_name.as_deref(), Some("shop.example"));
}

#[tokio::test]
async fn a_client_shows_its_certificate_to_a_server_that_asks() {
    let authority = Authority::new("ca");
    let pair = authority.sign(&["127.0.0.1"]);
    let tls = TlsServer::builder()
        .certificate_pem(&*pair.chain, &*pair.key)
        .client_roots_pem(&*authority.pem)
        .build()
        .unwrap();
    let own = authority.sign_uri("spiffe://example/billing");
    let client =
        TlsClient::builder().roots_pem(&*authority.pem).certificate_pem(&*own.chain, &*own.key).build();
    let (_near, far) = open(&tls, &client.unwrap()).await;
    let certificate = far.tls().unwrap().certificate.clone().unwrap();
    assert_eq!(certificate.name().as_deref(), Some("spiffe://example/billing"));
    assert_eq!(certificate.common_name.as_deref(), Some("somebody"));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_required_and_told_why() {
    let authority = Authority::new("ca");
    let pair = authority.sign(&["127.0.0.1"]);
    let required =
        TlsServer::builder().certificate_pem(&*pair.chain, &*pair.key).client_roots_pem(&*authority.pem);
    let listener = listen(&required.clone().build().unwrap()).await;
    // Again and again, as what tells it may be lost where the server closes carelessly.
    for _ in 0..3 {
        let (near, far) = meet(&listener, &trusting(&authority)).await;
        assert_eq!(fault(far), TlsErrorKind::NoCertificate);
        let read = timeout(PATIENCE, near.unwrap().read_u8()).await.unwrap();
        let why = "it wants a certificate of this side, and got none".to_owned();
        assert_eq!(fault(read), TlsErrorKind::Refused { why });
    }
    let optional = required.client_certificate_optional().build().unwrap();
    let (_near, far) = open(&optional, &trusting(&authority)).await;
    assert_eq!(far.tls().unwrap().certificate, None);
}

#[tokio::test]
async fn a_client_with_a_certificate_of_a_stranger_is_refused() {
    let authority = Authority::new("ca");
    let pair = authority.sign(&["127.0.0.1"]);
    let own = Authority::new("theirs").sign(&["eve.example"]);
    let tls = TlsServer::builder()
        .certificate_pem(&*pair.chain, &*pair.key)
        .client_roots_pem(&*authority.pem)
        .client_certificate_optional();
    let client =
        TlsClient::builder().roots_pem(&*authority.pem).certificate_pem(&*own.chain, &*own.key).build();
    let (near, far) = meet(&listen(&tls.build().unwrap()).await, &client.unwrap()).await;
    assert_eq!(fault(far), TlsErrorKind::UnknownIssuer);
    let read = timeout(PATIENCE, near.unwrap().read_u8()).await.unwrap();
    assert!(matches!(fault(read), TlsErrorKind::Refused { .. }));
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_not_spoken_to() {
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
        format!("connecting to {address}: it does not speak TLS")
    );
    assert_eq!(dial_fault(dialed), TlsErrorKind::NotTls);

    let closing = async { drop(listener.accept().await) };
    let (dialed, ()) = tokio::join!(dialer.dial(&address), closing);
    assert!(matches!(dial_fault(dialed), TlsErrorKind::Closed | TlsErrorKind::Io { .. }));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = parse(&format!("tls@{}", listener.local_addr().unwrap()));
    let limit = Duration::from_millis(100);
    let dialer = Dialer::default().tls(trusting(&Authority::new("ca"))).connect_timeout(limit);
    let error = timeout(PATIENCE, dialer.dial(&address)).await.unwrap().unwrap_err();
    let said = "it accepted the connection, and did not complete the TLS handshake within 100 ms";
    assert_eq!(error.to_string(), format!("connecting to {address}: {said}"));
    assert!(matches!(error.reason(), DialErrorKind::TlsTimeout { .. }));
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_is_refused_and_a_silent_one_holds_up_nobody() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&authority.sign(&["127.0.0.1"]))).await;
    let to = listener.address().socket_addr().unwrap();
    let _silent = TcpStream::connect(to).await.unwrap();
    let (_held, _) = listener.accept().await.unwrap();

    for said in [&b"\0\0\0\x4a{\"magic_number\""[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut plain = TcpStream::connect(to).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        plain.write_all(said).await.unwrap();
        let heard = async {
            let mut heard = Vec::new();
            plain.read_to_end(&mut heard).await.unwrap();
            drop(plain);
            heard
        };
        let (heard, read) = timeout(PATIENCE, async { tokio::join!(heard, far.read_u8()) }).await.unwrap();
        assert_eq!(fault(read), TlsErrorKind::NotTls);
        assert_eq!(heard.first(), Some(&21), "an alert");
        // It stays refused.
        assert_eq!(fault(far.write_all(b"!").await), TlsErrorKind::NotTls);
    }
    let (near, far) = meet(&listener, &trusting(&authority)).await;
    near.unwrap();
    far.unwrap();
}

#[tokio::test]
async fn peer_with_another_protocol_inside_is_refused() {
    let authority = Authority::new("ca");
    let tls = server(&authority.sign(&["127.0.0.1"]));
    let client = trusting(&authority);
    for (ours, theirs) in [(Alpn::Farcall, Alpn::Http1), (Alpn::Http1, Alpn::Farcall)] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let mut far = tls.accept(far, theirs);
        let (near, far) = tokio::join!(client.connect(near, "127.0.0.1", ours), far.read_u8());
        assert_eq!(near.unwrap_err(), TlsErrorKind::NotFarcall);
        assert_eq!(fault(far), TlsErrorKind::NotFarcall);
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
async fn a_session_is_resumed() {
    let authority = Authority::new("ca");
    let listener = listen(&server(&authority.sign(&["127.0.0.1"]))).await;
    let client = trusting(&authority);
    for resumed in [false, true] {
        let (near, far) = meet(&listener, &client).await;
        let mut near = near.unwrap();
        // The ticket comes before what the server says.
        assert_eq!(near.read_u8().await.unwrap(), b'!');
        assert_eq!(near.tls().unwrap().resumed, resumed);
        assert_eq!(far.unwrap().tls().unwrap().resumed, resumed);
        assert!(near.tls().unwrap().certificate.is_some());
    }
}

#[tokio::test]
async fn an_encrypted_address_is_not_listened_at_without_a_certificate() {
    let error = Listener::bind(&parse("tls@127.0.0.1:0")).await.unwrap_err();
    assert!(matches!(error, ListenError::NoCertificate { .. }), "{error:?}");
    let said = "listening at tls@127.0.0.1:0: it needs a certificate, and none is set";
    assert_eq!(error.to_string(), said);
}
