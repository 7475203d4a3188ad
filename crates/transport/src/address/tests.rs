//! Texts that are addresses, texts that are not, and the errors of these.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    Address::parse(text).unwrap().to_string()
}

fn refusal(text: &str) -> String {
    Address::parse(text).unwrap_err().to_string()
}

#[test]
fn bare_host_and_port_means_tcp() {
    assert_eq!(canonical("10.0.0.3:7001"), "tcp@10.0.0.3:7001");
    assert_eq!(canonical("tcp@10.0.0.3:7001"), "tcp@10.0.0.3:7001");
}

#[test]
fn every_scheme_parses() {
    for scheme in Scheme::ALL {
        let place = if scheme == Scheme::Unix { "/run/a.sock" } else { "example.org:1" };
        let address = Address::parse(&format!("{scheme}@{place}")).unwrap();
        assert_eq!(address.scheme(), scheme);
    }
}

#[test]
fn equal_places_are_equal_addresses() {
    let same = ["[::1]:080", "tcp@[0:0::1]:80", "[::0001]:80"];
    let parsed: HashSet<Address> = same.iter().map(|text| Address::parse(text).unwrap()).collect();
    assert_eq!(parsed.len(), 1);
    assert_eq!(canonical("Example.ORG.:80"), "tcp@example.org.:80");
}

#[test]
fn the_parts_of_an_address_can_be_asked_for() {
    let net = Address::parse("tls@[fe80::1%3]:443").unwrap();
    assert_eq!((net.host(), net.port(), net.path()), (Some("fe80::1%3"), Some(443), None));
    assert_eq!(net.socket_addr(), Some("[fe80::1%3]:443".parse().unwrap()));

    let file = Address::unix("/run/ä.sock").unwrap();
    assert_eq!((file.host(), file.port()), (None, None));
    assert_eq!(file.path(), Some(Path::new("/run/ä.sock")));
    assert_eq!(file.socket_addr(), None);
}

#[test]
fn socket_address_survives_being_an_address() {
    for text in ["127.0.0.1:1", "[::1]:0", "[fe80::1%7]:9", "[::ffff:1.2.3.4]:5"] {
        let socket: SocketAddr = text.parse().unwrap();
        let address = Address::tcp(socket);
        assert_eq!(address.socket_addr(), Some(socket));
        assert_eq!(Address::parse(&address.to_string()), Ok(address));
    }
}

#[test]
fn zone_with_a_name_is_left_to_the_resolver() {
    let address = Address::parse("[fe80::1%eth0]:1").unwrap();
    assert_eq!(address.socket_addr(), None);
    assert_eq!(address.to_string(), "tcp@[fe80::1%eth0]:1");
}

#[test]
fn port_0_and_wildcard_addresses_are_unspecified() {
    for text in ["a:0", "0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1", "[::%1]:1"] {
        assert!(Address::parse(text).unwrap().is_unspecified(), "{text}");
    }
    for text in ["a:1", "10.0.0.1:1", "[::1]:1", "unix@/a"] {
        assert!(!Address::parse(text).unwrap().is_unspecified(), "{text}");
    }
}

#[test]
fn port_can_be_replaced_where_there_is_one() {
    for (text, expected) in
        [("a:0", "tcp@a:7001"), ("tls@[::1]:1", "tls@[::1]:7001"), ("unix@/a:1", "unix@/a:1")]
    {
        assert_eq!(Address::parse(text).unwrap().with_port(7001).to_string(), expected);
    }
}

#[test]
fn refusal_says_what_and_where() {
    let known = "tcp, unix, tls, http, connect, https, ws, wss";
    let ports = "it must be a number from 0 to 65535";
    for (text, expected) in [
        ("", "the address is empty; write host:port or scheme@where".to_owned()),
        ("a b:1", r#"address "a b:1": ' ' at byte 1 is not allowed"#.to_owned()),
        ("a:1,b:1", r#"address "a:1,b:1": ',' at byte 3 is not allowed"#.to_owned()),
        ("a\n:1", r#"address "a\n:1": '\n' at byte 1 is not allowed"#.to_owned()),
        ("udp@a:1", format!(r#"address "udp@a:1": unknown scheme "udp"; known are {known}"#)),
        ("@a:1", format!(r#"address "@a:1": unknown scheme ""; known are {known}"#)),
        (":1", r#"address ":1": the host is empty"#.to_owned()),
        ("a", r#"address "a": the port is missing; write host:port"#.to_owned()),
        ("a:", r#"address "a:": the port is missing; write host:port"#.to_owned()),
        ("[::1]", r#"address "[::1]": the port is missing; write host:port"#.to_owned()),
        ("a:+1", format!(r#"address "a:+1": bad port "+1"; {ports}"#)),
        ("a:65536", format!(r#"address "a:65536": bad port "65536"; {ports}"#)),
        ("unix@run/a", r#"address "unix@run/a": the path of a unix address must begin with /"#.to_owned()),
        ("::1:80", r#"address "::1:80": bad host "::1": an IPv6 address must be in brackets"#.to_owned()),
        ("grpc://a:1", format!(r#"address "grpc://a:1": unknown scheme "grpc"; known are {known}"#)),
    ] {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn host_is_a_name_or_an_ip_address() {
    let long_label = format!("{}.org:1", "a".repeat(64));
    let long_name = format!("{}:1", ["a"; 128].join("."));
    for (text, expected) in [
        ("fe80::1%eth0:1", HostErrorKind::NoBrackets),
        ("1:2:3:4:5:6:7:8:1", HostErrorKind::NoBrackets),
        ("a:1:2", HostErrorKind::Colon),
        ("//a:1", HostErrorKind::Character),
        ("bücher.de:1", HostErrorKind::Character),
        ("user@a:1", HostErrorKind::Character),
        ("a..b:1", HostErrorKind::EmptyLabel),
        (".a:1", HostErrorKind::EmptyLabel),
        (".:1", HostErrorKind::EmptyLabel),
        ("127.1:1", HostErrorKind::NotIpv4),
        ("256.1.1.1:1", HostErrorKind::NotIpv4),
        ("0x7f000001:1", HostErrorKind::NotIpv4),
        ("1.2.3.4.:1", HostErrorKind::NotIpv4),
        ("[1.2.3.4]:1", HostErrorKind::NotIpv6),
        ("[]:1", HostErrorKind::NotIpv6),
        ("[::1%]:1", HostErrorKind::NotIpv6),
        ("[::1", HostErrorKind::Brackets),
        ("[::1]80", HostErrorKind::Brackets),
        (&long_label, HostErrorKind::TooLong),
        (&long_name, HostErrorKind::TooLong),
    ] {
        // A scheme in front, so that an `@` in the text belongs to the host.
        match Address::parse(&format!("tcp@{text}")) {
            Err(AddressError::BadHost { kind, .. }) => assert_eq!(kind, expected, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn url_is_refused_with_the_address_that_is_meant() {
    for (url, instead) in [
        ("tcp://host:7001", "tcp@host:7001"),
        ("TCP://host:7001", "tcp@host:7001"),
        ("http://127.0.0.1:80", "http@127.0.0.1:80"),
        ("http://127.0.0.1:80/", "http@127.0.0.1:80"),
        ("https://user:secret@shop.example/_farcall_?a#b", "https@shop.example:443"),
        ("ws://shop.example", "ws@shop.example:80"),
        ("tls://shop.example", "tls@shop.example:PORT"),
        ("tls://[::1]", "tls@[::1]:PORT"),
        ("tcp://[::1]:7001", "tcp@[::1]:7001"),
        ("tcp@http://host:80", "http@host:80"),
        ("tcp:host:7001", "tcp@host:7001"),
        ("tcp:[::1]:7001", "tcp@[::1]:7001"),
        ("unix:///run/a.sock", "unix@/run/a.sock"),
        ("unix:/run/a.sock", "unix@/run/a.sock"),
    ] {
        let expected = format!("try {instead:?}");
        assert!(refusal(url).ends_with(&expected), "{url}: {}", refusal(url));
        if !instead.ends_with("PORT") {
            assert!(Address::parse(instead).is_ok(), "{instead}");
        }
    }
    // A host may be called like a scheme, and a path may contain a URL.
    for (text, canonical) in
        [("http:80", "tcp@http:80"), ("tcp@tls:443", "tcp@tls:443"), ("unix@/a://b", "unix@/a://b")]
    {
        assert_eq!(Address::parse(text).unwrap().to_string(), canonical);
    }
}

#[test]
fn address_that_is_too_long_is_refused() {
    let text = format!("{}:1", "a".repeat(511));
    assert_eq!(Address::parse(&text), Err(AddressError::TooLong { len: 513, limit: 512 }));

    let path = format!("/{}", "a".repeat(106));
    assert!(Address::unix(&path).is_ok());
    let error = Address::unix(format!("{path}a")).unwrap_err();
    assert!(matches!(error, AddressError::PathTooLong { len: 108, limit: 107, .. }));
}

#[test]
fn path_that_is_not_utf8_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let error = Address::unix(OsStr::from_bytes(b"/run/\xff")).unwrap_err();
    assert!(matches!(error, AddressError::PathNotUtf8 { .. }));
}

#[test]
fn serde_sees_a_string() {
    let address = Address::parse("a:1").unwrap();
    assert_eq!(serde_json::to_string(&address).unwrap(), r#""tcp@a:1""#);
    assert_eq!(serde_json::from_str::<Address>(r#""a:1""#).unwrap(), address);
    let error = serde_json::from_str::<Address>(r#""a""#).unwrap_err();
    assert!(error.to_string().contains("the port is missing"), "{error}");
}

#[test]
fn anything_that_names_an_address_can_be_handed_over() {
    fn take(address: impl TryInto<Address, Error: Into<AddressError>>) -> Address {
        address.try_into().map_err(Into::into).unwrap()
    }
    let address = take("127.0.0.1:1");
    let text = "127.0.0.1:1".to_owned();
    assert_eq!(take(&text), address);
    assert_eq!(take(text), address);
    assert_eq!(take(&address), address);
    assert_eq!(take(SocketAddr::from(([127, 0, 0, 1], 1))), address);
    assert_eq!(take(address.clone()), address);
}

/// Texts made of the pieces that addresses are made of, so that many of them parse.
fn address_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("tcp@"),
        Just("unix@"),
        Just("wss@"),
        Just("/"),
        Just("["),
        Just("]"),
        Just(":"),
        Just("::1"),
        Just("%"),
        Just("."),
        Just("1"),
        Just("80"),
        Just("127.0.0.1"),
        Just("Host"),
        Just("ä"),
        Just(","),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn well_formed() -> impl Strategy<Value = String> {
    let net = prop_oneof![Just("tcp"), Just("tls"), Just("http"), Just("wss")];
    let host = prop_oneof![
        "[a-zA-Z][a-zA-Z0-9_-]{0,10}(\\.[a-z]{1,5}){0,3}\\.?",
        any::<Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        (any::<Ipv6Addr>(), "[a-z0-9]{1,5}").prop_map(|(ip, zone)| format!("[{ip}%{zone}]")),
    ];
    prop_oneof![
        (net, host, any::<u16>()).prop_map(|(scheme, host, port)| format!("{scheme}@{host}:{port}")),
        "/[a-zA-Z0-9_./@:-]{1,100}".prop_map(|path| format!("unix@{path}")),
    ]
}

/// Any text at all, control characters among it, and longer than an address may be.
fn anything() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..200).prop_map(String::from_iter)
}

/// Whatever parses must come back the same from its own text.
fn check(text: &str) {
    if let Ok(address) = Address::parse(text) {
        assert_eq!(Address::parse(&address.to_string()), Ok(address));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in anything()) {
        check(&text);
    }

    #[test]
    fn address_like_text_round_trips_if_it_parses(text in address_like()) {
        check(&text);
    }

    #[test]
    fn well_formed_address_round_trips(text in well_formed()) {
        let address = Address::parse(&text).unwrap();
        prop_assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
    }

    #[test]
    fn refusal_has_one_short_line(text in anything()) {
        if let Err(error) = Address::parse(&text) {
            let message = error.to_string();
            prop_assert!(!message.chars().any(char::is_control));
            prop_assert!(message.len() < 4096);
        }
    }
}
