use proptest::prelude::*;

use super::*;

fn addresses(text: &str) -> Vec<String> {
    read(text.as_bytes()).unwrap().into_iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn mistake(bytes: impl AsRef<[u8]>) -> String {
    read(bytes.as_ref()).unwrap_err().to_string()
}

#[test]
fn lines_are_addresses_and_comments() {
    let text = "# the east\r\ntcp@10.0.0.1:7001\r\n\n  10.0.0.2:7001  # new\n#10.0.0.3:7001\n[::1]:7001\nunix@/run/a#b";
    let expected = ["tcp@10.0.0.1:7001", "tcp@10.0.0.2:7001", "tcp@[::1]:7001", "unix@/run/a#b"];
    assert_eq!(addresses(text), expected);
}

#[test]
fn first_line_with_an_ipv6_address_is_no_json() {
    assert_eq!(addresses("[::1]:7001\n"), ["tcp@[::1]:7001"]);
    assert_eq!(addresses("\n [fe80::1%eth0]:7001"), ["tcp@[fe80::1%eth0]:7001"]);
    assert_eq!(addresses("[2001:db8::1]:7001"), ["tcp@[2001:db8::1]:7001"]);
}

#[test]
fn null_is_a_field_that_is_left_out() {
    let nulls =
        r#"{"addr": "a:1", "weight": null, "zone": null, "version": null, "metadata": null, "state": null}"#;
    let list = |object: &str| read(format!("[{object}]").as_bytes()).unwrap();
    assert_eq!(list(nulls), list(r#"{"addr": "a:1"}"#));
}

#[test]
fn json_has_addresses_and_objects() {
    let text = r#"
        ["10.0.0.1:7001",
         {"addr": "tcp@10.0.0.2:7001", "weight": 0},
         {"address": "10.0.0.3:7001", "zone": "east", "version": "1.2", "metadata": {"rack": "4"}, "state": "stale"}]
    "#;
    let list = read(text.as_bytes()).unwrap();
    let third = Endpoint {
        version: Some("1.2".to_owned()),
        metadata: [("rack".to_owned(), "4".to_owned())].into(),
        ..Endpoint::new(Address::parse("10.0.0.3:7001").unwrap())
            .with_zone("east")
            .with_state(AdvertisedState::Stale)
    };
    assert_eq!(list[0], Endpoint::new(Address::parse("10.0.0.1:7001").unwrap()));
    assert_eq!(list[1], Endpoint::new(Address::parse("10.0.0.2:7001").unwrap()).with_weight(0));
    assert_eq!(list[2..], [third]);
}

#[test]
fn escaped_string_is_an_address_too() {
    assert_eq!(addresses(r#"["unix@\/run\/a"]"#), ["unix@/run/a"]);
}

#[test]
fn byte_order_mark_is_skipped() {
    assert_eq!(addresses("\u{feff}10.0.0.1:7001"), ["tcp@10.0.0.1:7001"]);
    assert_eq!(addresses("\u{feff}[\"10.0.0.1:7001\"]"), ["tcp@10.0.0.1:7001"]);
}

#[test]
fn only_an_empty_array_is_an_empty_list() {
    assert_eq!(addresses(" [ ] "), [""; 0]);
    for text in ["", "\n \n", "# none"] {
        assert!(mistake(text).contains("[]"), "{text:?}");
    }
}

#[test]
fn mistake_in_a_line_has_its_place() {
    assert_eq!(
        mistake("10.0.0.1:7001\n  nowhere"),
        "line 2, column 3: address \"nowhere\": the port is missing; write host:port"
    );
    assert!(mistake("10.0.0.1:7001, 10.0.0.2:7001").starts_with("line 1, column 14: "));
    assert_eq!(
        mistake("0.0.0.0:7001"),
        "line 1, column 1: tcp@0.0.0.0:7001 can be listened at, but not dialed"
    );
}

#[test]
fn long_mistake_is_told_by_its_beginning_and_its_place() {
    let long = "x".repeat(1 << 20);
    for (text, end) in [
        (format!(r#"[{{"address": "h:1", "{long}\u001b[2J": 1}}]"#), "line 1 column"),
        (format!(r#"[{{"address": "h:1", "weight": "{long}"}}]"#), "expected u16 at line 1 column"),
        (format!(r#"["{long}"]"#), "at line 1 column"),
        (long.clone(), "column 1: "),
    ] {
        let mistake = mistake(text);
        assert!(mistake.len() < 500 && mistake.contains(end) && !mistake.contains('\u{1b}'), "{mistake}");
    }
}

#[test]
fn mistake_in_json_has_its_place_and_reason() {
    let cases = [
        ("[\n\"10.0.0.1:7001\",", "line 2"), // cut short
        ("[", "line 1"),
        ("[\n\"10.0.0.1:7001\",\n\"nowhere\"]", "the port is missing; write host:port at line 3 column"),
        ("[\n{\"address\": \"10.0.0.1:7001\",\n\"wieght\": 0}]", "unknown field `wieght`"),
        ("[\n{\"address\": \"10.0.0.1:7001\",\n\"wieght\": 0}]", "at line 3 column"),
        ("[{\"address\": \"10.0.0.1:7001\", \"weight\": 70000}]", "70000"),
        ("[{\"address\": \"10.0.0.1:7001\", \"state\": \"odd\"}]", "`draining`"),
        ("[{\"address\": \"10.0.0.1:7001\", \"addr\": \"10.0.0.1:7001\"}]", "duplicate field"),
        ("[{\"weight\": 1}]", "missing field `address`"),
        ("[\n\"10.0.0.1:0\"]", "tcp@10.0.0.1:0 can be listened at, but not dialed at line 2"),
        ("[null]", "an address, or an object with an `address`"),
        ("{\"instances\": []}", "expected an array of endpoints at line 1"),
        ("[\"10.0.0.1:7001\"] []", "trailing characters at line 1 column 19"),
    ];
    for (text, expected) in cases {
        let mistake = mistake(text);
        assert!(mistake.contains(expected), "{text}: {mistake}");
    }
}

#[test]
fn bytes_that_are_no_text_have_their_place() {
    assert_eq!(mistake(b"10.0.0.1:7001\nab\xff"), "line 2, column 3: what follows is not UTF-8");
    assert_eq!(mistake(b"\xff"), "line 1, column 1: what follows is not UTF-8");
}

#[test]
fn list_has_an_end() {
    let line = |n: usize| format!("h{n}:1");
    let lines: Vec<_> = (0..=MAX_ENDPOINTS).map(line).collect();
    assert_eq!(read(lines[1..].join("\n").as_bytes()).unwrap().len(), MAX_ENDPOINTS);
    assert_eq!(mistake(lines.join("\n")), "line 100001: there are more than 100000 addresses");
    let json = serde_json::to_vec(&lines).unwrap();
    assert!(mistake(json).contains("more than 100000 endpoints at line 1"));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]{}\"#: ,a-f0-9@\n\u{e4}\u{feff}]{0,60}") {
        let _ = read(text.as_bytes());
    }
}
