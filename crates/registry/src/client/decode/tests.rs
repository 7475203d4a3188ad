//! Well-formed lists and events are decoded, malformed ones are refused.

use proptest::prelude::*;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};

use super::*;

const LIST: &str = r#"{"epoch":"e1","rev":7,"instances":[
    {"service":"S","id":"a","addr":"tcp@10.0.0.1:7001","weight":50,"zone":"z","state":"up","rev":3,
     "registered_at":"2031-04-05T06:07:08.009Z","ttl_ms":300000,"unheard":{"of":1}},
    {"service":"S","id":"b","addr":"tcp@10.0.0.2:7001","weight":0,"state":"stale"}]}"#;

fn decode_simple(body: &str, headers: &[(&'static str, &'static str)]) -> Result<InstanceList, String> {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect();
    let body = body.as_bytes().to_vec();
    simple_list(&FullResponse { status: StatusCode::OK, headers, body, proxy: None })
}

#[test]
fn full_list_has_all_fields_of_its_instances() {
    let list = full_list(LIST.as_bytes(), "S").unwrap();
    assert_eq!((list.epoch.as_deref(), list.rev), (Some("e1"), Some(7)));
    assert!(!list.warming);
    let (a, b) = (&list.endpoints["a"], &list.endpoints["b"]);
    assert_eq!((a.weight, a.zone.as_deref(), a.state), (50, Some("z"), AdvertisedState::Up));
    assert_eq!((b.weight, b.state, b.is_drained()), (0, AdvertisedState::Stale, true));
}

#[test]
fn deep_unknown_fields_fit_the_stack() {
    let nested = format!("{}7{}", r#"{"a":["#.repeat(60), "]}".repeat(60));
    let list = LIST.replace(r#"{"of":1}"#, &nested);
    let read = move || full_list(list.as_bytes(), "S").map(|list| list.endpoints.len());
    // As much as a thread has by default.
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(read).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(2));
}

#[test]
fn one_malformed_instance_refuses_the_list_and_is_named() {
    for (from, to, reason) in [
        ("tcp@10.0.0.2:7001", "tcp@0.0.0.0:7001", "instance `b`: addr `tcp@0.0.0.0:7001`"),
        ("tcp@10.0.0.2:7001", "nowhere", "instance 1 (`b`): address \"nowhere\""),
        (r#""weight":0"#, r#""weight":70000"#, "instance 1 (`b`): invalid value: integer `70000`"),
        (r#""stale""#, r#""asleep""#, "instance 1 (`b`): unknown variant `asleep`"),
        (r#""service":"S","id":"b""#, r#""service":"T","id":"b""#, "instance `b` is of another service, `T`"),
        (r#""zone":"z""#, r#""zone":"a zone""#, "instance `a`: zone"),
        (r#""e1""#, r#""""#, "the epoch"),
        (r#""rev":7,"#, "", "missing field `rev`"),
        (r#""instances":["#, r#""instances":[[]],"more":["#, "instance 0"),
    ] {
        let error = full_list(LIST.replace(from, to).as_bytes(), "S").unwrap_err();
        assert!(error.contains(reason), "{to}: {error}");
    }
}

#[test]
fn body_that_is_not_a_list_is_described() {
    for (body, reason) in [
        ("", "the answer is empty"),
        (" \n", "the answer is empty"),
        ("<!doctype html><title>Sign in</title>", "the answer is HTML"),
        (&LIST[..LIST.len() / 2], "the answer ends early"),
        ("null", "not what was asked for"),
        ("{}", "not what was asked for"),
        ("\u{0}\u{1}", "not what was asked for"),
    ] {
        let error = full_list(body.as_bytes(), "S").unwrap_err();
        assert!(error.contains(reason), "{body}: {error}");
        let error = decode_simple(body, &[]).unwrap_err();
        assert!(error.contains(reason) || body.starts_with('{'), "{body}: {error}");
    }
}

#[test]
fn simple_list_is_an_array_of_addresses() {
    let list = decode_simple(
        r#"["10.0.0.1:7001", "tls@b.example:7001"]"#,
        &[(SERVER_COUNT, "2"), (WARMING, "1"), (EPOCH, "e1")],
    )
    .unwrap();
    assert!(list.warming);
    assert_eq!((list.epoch.as_deref(), list.rev), (Some("e1"), None));
    let ids: Vec<_> = list.endpoints.keys().collect();
    assert_eq!(ids, ["tcp@10.0.0.1:7001", "tls@b.example:7001"]);
    assert_eq!(decode_simple("[]", &[]).unwrap().endpoints.len(), 0);
}

#[test]
fn simple_list_with_one_malformed_address_is_refused() {
    for (body, count, reason) in [
        (r#"["10.0.0.1:7001"]"#, "2", "the list has 1 addresses, and its header counts 2"),
        (r#"["10.0.0.1:7001", "10.0.0.2:0"]"#, "2", "address 1: addr `tcp@10.0.0.2:0`: port 0"),
        (r#"["10.0.0.1:7001,10.0.0.2:7001"]"#, "1", "address 0"),
        (r#"[7001]"#, "1", "not what was asked for"),
    ] {
        let error = decode_simple(body, &[(SERVER_COUNT, count)]).unwrap_err();
        assert!(error.contains(reason), "{body}: {error}");
    }
}

#[test]
fn changes_are_decoded() {
    let data = br#"{"epoch":"e1","rev":8,"service":"S","instance":
        {"service":"S","id":"a","addr":"tcp@10.0.0.1:7001","state":"draining"}}"#;
    let (position, change) = put(data, "S").unwrap();
    assert_eq!(position.rev, 8);
    assert!(matches!(change, Change::Put { id, endpoint } if id == "a" && endpoint.is_drained()));
    assert!(put(data, "T").unwrap_err().contains("another service"));

    let data = br#"{"epoch":"e1","rev":9,"service":"S","id":"a","cause":"unheard-of"}"#;
    assert_eq!(delete(data, "S").unwrap().1, Change::Delete { id: "a".to_owned() });
    assert!(delete(data, "T").unwrap_err().contains("another service"));
}

proptest! {
    #[test]
    fn truncated_list_is_refused(end in 0..LIST.len()) {
        prop_assert!(full_list(&LIST.as_bytes()[..end], "S").is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = full_list(&body, "S");
        let _ = put(&body, "S");
        let _ = delete(&body, "S");
    }
}
