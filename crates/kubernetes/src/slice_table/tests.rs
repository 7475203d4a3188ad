use serde_json::{Value, json};

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "for `json!`")]
fn slice(name: &str, kind: &str, ports: Value, endpoints: Value) -> Slice {
    let slice =
        json!({"metadata": {"name": name}, "addressType": kind, "ports": ports, "endpoints": endpoints});
    serde_json::from_value(slice).unwrap()
}

fn table(slices: Vec<Slice>) -> SliceTable {
    let mut table = SliceTable::default();
    table.replace(slices);
    table
}

fn selection() -> Selection {
    Selection { scheme: Scheme::Tcp, port: None, zone: None }
}

fn rpc() -> Value {
    json!([{"name": "rpc", "port": 7001, "protocol": "TCP"}])
}

/// The addresses and states, in the order of addresses.
fn told(table: &SliceTable, selection: &Selection) -> Vec<(String, AdvertisedState)> {
    let endpoints = table.endpoints(selection).unwrap();
    endpoints.into_iter().map(|endpoint| (endpoint.address.to_string(), endpoint.state)).collect()
}

fn is(address: &str, state: AdvertisedState) -> (String, AdvertisedState) {
    (format!("tcp@{address}"), state)
}

use AdvertisedState::{Draining, Stale, Up};

#[test]
fn several_slices_are_one_list() {
    let mut table = table(vec![
        slice("a", "IPv4", rpc(), json!([{"addresses": ["10.0.0.1"]}])),
        slice("b", "IPv4", json!([{"name": "rpc", "port": 7002}]), json!([{"addresses": ["10.0.0.2"]}])),
    ]);
    assert_eq!(told(&table, &selection()), [is("10.0.0.1:7001", Up), is("10.0.0.2:7002", Up)]);
    table.put(slice("a", "IPv4", rpc(), json!([{"addresses": ["10.0.0.3"]}])));
    assert_eq!(told(&table, &selection()), [is("10.0.0.2:7002", Up), is("10.0.0.3:7001", Up)]);
    table.delete(&slice("b", "IPv4", Value::Null, Value::Null));
    assert_eq!((told(&table, &selection()), table.len()), (vec![is("10.0.0.3:7001", Up)], 1));
}

#[test]
fn conditions_are_states() {
    let conditions = |number: u8, conditions: Value| json!({"addresses": [format!("10.0.0.{number}")], "conditions": conditions});
    let table = table(vec![slice(
        "a",
        "IPv4",
        rpc(),
        json!([
            conditions(1, json!({"ready": true, "serving": true, "terminating": false})),
            conditions(2, json!({})),
            conditions(3, Value::Null),
            conditions(4, json!({"ready": false, "serving": true, "terminating": true})),
            conditions(5, json!({"ready": false, "serving": false, "terminating": true})),
            conditions(6, json!({"ready": false})),
            // A service that publishes what is not ready.
            conditions(7, json!({"ready": true, "serving": false, "terminating": false})),
        ]),
    )]);
    let expected = [
        is("10.0.0.1:7001", Up),
        is("10.0.0.2:7001", Up),
        is("10.0.0.3:7001", Up),
        is("10.0.0.4:7001", Draining),
        is("10.0.0.7:7001", Up),
    ];
    assert_eq!(told(&table, &selection()), expected);
}

#[test]
fn terminating_pods_are_called_if_there_are_no_others() {
    let terminating = json!([
        {"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": false, "terminating": true}},
    ]);
    let table = table(vec![slice("a", "IPv4", rpc(), terminating)]);
    assert_eq!(told(&table, &selection()), [is("10.0.0.1:7001", Stale)]);
}

#[test]
fn port_is_chosen_by_its_name() {
    let ports = json!([
        {"name": "metrics", "port": 9000, "protocol": "TCP"}, {"name": "rpc", "port": 7001},
        {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "any", "port": null},
    ]);
    let several = table(vec![slice("a", "IPv4", ports, json!([{"addresses": ["10.0.0.1"]}]))]);
    let named = |name: &str| Selection { port: Some(name.to_owned()), ..selection() };
    assert_eq!(told(&several, &named("rpc")), [is("10.0.0.1:7001", Up)]);
    let error =
        |table: &SliceTable, selection: &Selection| table.endpoints(selection).unwrap_err().to_string();
    assert_eq!(
        error(&several, &named("udp")),
        "no port of the service is named `udp`; there are `metrics`, `rpc`"
    );
    assert_eq!(
        error(&several, &selection()),
        "the service has several ports, `metrics`, `rpc`: say which one"
    );
    let none = table(vec![slice("a", "IPv4", Value::Null, json!([{"addresses": ["10.0.0.1"]}]))]);
    assert_eq!(error(&none, &selection()), "the service has no TCP port");
    // Slices without endpoints have no ports.
    let empty = table(vec![slice("a", "IPv4", Value::Null, Value::Null)]);
    assert_eq!(told(&empty, &named("rpc")), []);
    let unnamed = table(vec![slice("a", "IPv4", json!([{"port": 1}]), json!([{"addresses": ["10.0.0.1"]}]))]);
    assert_eq!(told(&unnamed, &selection()), [is("10.0.0.1:1", Up)]);
}

#[test]
fn pod_of_both_families_is_one_endpoint() {
    let pod = |address: &str, uid: &str| json!([{"addresses": [address], "targetRef": {"kind": "Pod", "name": "p", "uid": uid}}]);
    let table = table(vec![
        slice("four", "IPv4", rpc(), pod("10.0.0.1", "u1")),
        slice("six", "IPv6", rpc(), pod("fd00::1", "u1")),
        slice("six-only", "IPv6", rpc(), pod("fd00::2", "u2")),
    ]);
    assert_eq!(told(&table, &selection()), [is("10.0.0.1:7001", Up), is("[fd00::2]:7001", Up)]);
}

#[test]
fn endpoint_in_two_slices_is_listed_once() {
    let ready = json!([{"addresses": ["10.0.0.1"]}]);
    let terminating = json!([{"addresses": ["10.0.0.1"], "conditions": {"serving": true, "terminating": true, "ready": false}}]);
    let slices = [slice("a", "IPv4", rpc(), terminating), slice("b", "IPv4", rpc(), ready)];
    assert_eq!(told(&table(slices.into()), &selection()), [is("10.0.0.1:7001", Up)]);
}

#[test]
fn zones_and_pods_are_described() {
    let endpoint = json!([{
        "addresses": ["10.0.0.1", "10.0.0.9"], "zone": "eu-1a", "nodeName": "n1",
        "targetRef": {"kind": "Pod", "name": "arith-7", "uid": "u1"},
    }]);
    let table = table(vec![slice("a", "IPv4", rpc(), endpoint)]);
    let selection = Selection { scheme: Scheme::Tls, ..selection() };
    let endpoints = table.endpoints(&selection).unwrap();
    let expected = Endpoint::new("tls@10.0.0.1:7001".parse().unwrap())
        .with_zone("eu-1a")
        .with_metadata("pod", "arith-7")
        .with_metadata("node", "n1");
    assert_eq!(endpoints, [expected]);
}

#[test]
fn hints_count_if_all_endpoints_have_them_and_one_is_for_the_zone() {
    let endpoint = |number: u8, zones: &[&str]| {
        let zones: Vec<_> = zones.iter().map(|name| json!({"name": name})).collect();
        json!({"addresses": [format!("10.0.0.{number}")], "hints": {"forZones": zones}})
    };
    let states = |endpoints: Value, zone: Option<&str>| {
        let table = table(vec![slice("a", "IPv4", rpc(), endpoints)]);
        let selection = Selection { zone: zone.map(str::to_owned), ..selection() };
        told(&table, &selection).into_iter().map(|(_, state)| state).collect::<Vec<_>>()
    };
    let all = || json!([endpoint(1, &["a"]), endpoint(2, &["b"]), endpoint(3, &["a", "b"])]);
    assert_eq!(states(all(), Some("a")), [Up, Stale, Up]);
    assert_eq!(states(all(), Some("c")), [Up, Up, Up], "no hint is for it");
    assert_eq!(states(all(), None), [Up, Up, Up]);
    assert_eq!(states(json!([endpoint(1, &["b"]), endpoint(2, &[])]), Some("b")), [Up, Up], "one has none");
}

#[test]
fn what_cannot_be_dialed_is_left_out() {
    let endpoints = json!([
        {"addresses": []}, {"addresses": null}, {"addresses": ["0.0.0.0"]}, {"addresses": ["nonsense"]},
        {"addresses": ["10.0.0.1"]},
    ]);
    let table = table(vec![
        slice("a", "IPv4", rpc(), endpoints),
        slice("b", "FQDN", rpc(), json!([{"addresses": ["db.example"]}, {"addresses": ["no host"]}])),
    ]);
    assert_eq!(told(&table, &selection()), [is("10.0.0.1:7001", Up), is("db.example:7001", Up)]);
}

#[test]
fn port_that_is_none_costs_the_others_nothing() {
    for port in [json!(0), json!(65_536), json!(-1), json!(1.5), json!("7001"), json!(null), json!([])] {
        let ports = json!([{"name": "rpc", "port": port}]);
        let table = table(vec![
            slice("a", "IPv4", ports, json!([{"addresses": ["10.0.0.1"]}])),
            slice("b", "IPv4", rpc(), json!([{"addresses": ["10.0.0.2"]}])),
        ]);
        assert_eq!(told(&table, &selection()), [is("10.0.0.2:7001", Up)]);
    }
}

#[test]
fn bytes_and_number_are_those_of_the_slices_that_are_there() {
    let sized = |name: &str, bytes| Slice { bytes, ..slice(name, "IPv4", rpc(), json!([])) };
    let mut table = table(vec![sized("a", 100), sized("b", 200), sized("b", 50)]);
    assert_eq!((table.bytes(), table.len()), (150, 2));
    table.put(sized("a", 7));
    assert_eq!((table.bytes(), table.len()), (57, 2));
    table.delete(&sized("a", 1000));
    table.delete(&sized("c", 1000));
    assert_eq!((table.bytes(), table.len()), (50, 1));
    table.replace(Vec::new());
    assert_eq!((table.bytes(), table.len()), (0, 0));
}
