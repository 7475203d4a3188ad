use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use hickory_resolver::proto::rr::{RData, Record};

use super::*;
use crate::endpoint::AdvertisedState;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn srv(priority: u16, weight: u16, port: u16, target: &str, ttl: u32) -> Record {
    Record::from_rdata(name("_f._tcp.x."), ttl, RData::SRV(SRV::new(priority, weight, port, name(target))))
}

fn a(host: &str, address: [u8; 4], ttl: u32) -> Record {
    Record::from_rdata(name(host), ttl, RData::A(A::new(address[0], address[1], address[2], address[3])))
}

/// The addresses, weights and states of endpoints.
fn told(endpoints: &[Endpoint]) -> Vec<String> {
    let state = |endpoint: &Endpoint| if endpoint.state == AdvertisedState::Up { "" } else { " later" };
    endpoints.iter().map(|e| format!("{} {}{}", e.address, e.weight, state(e))).collect()
}

#[test]
fn weights_priorities_ports_and_addresses_make_endpoints() {
    let answers = [
        srv(20, 0, 7003, "c.x.", 60),
        srv(10, 30, 7001, "A.x.", 60),
        srv(10, 0, 7002, "b.x.", 20),
        srv(10, 30, 7001, "a.x.", 60),
        srv(10, 5, 0, "a.x.", 60),
    ];
    let v6 = Record::from_rdata(name("b.x."), 60, RData::AAAA(AAAA(std::net::Ipv6Addr::LOCALHOST)));
    let additionals = [
        a("a.x.", [10, 0, 0, 1], 5),
        a("a.x.", [10, 0, 0, 2], 60),
        v6,
        a("c.x.", [10, 0, 0, 3], 60),
        a("other.x.", [10, 0, 0, 9], 1),
    ];
    let Answered { records, ttl, addresses } = records::read(&answers, &additionals);
    assert_eq!(ttl, Duration::from_secs(5), "a record that is not needed says nothing");
    assert_eq!(
        told(&records::by_address(Scheme::Ws, &records, &addresses)),
        ["ws@10.0.0.1:7001 15", "ws@10.0.0.2:7001 15", "ws@[::1]:7002 1", "ws@10.0.0.3:7003 100 later"],
    );
    assert_eq!(
        told(&records::by_name(Scheme::Tls, &records)),
        ["tls@a.x:7001 30", "tls@b.x:7002 1", "tls@c.x:7003 100 later"],
    );
}

#[test]
fn undialable_addresses_and_the_root_are_left_out() {
    let answers = [srv(1, 1, 7001, "a.x.", 60), srv(0, 0, 0, ".", 60)];
    let additionals = [a("a.x.", [0, 0, 0, 0], 60), a("a.x.", [10, 0, 0, 1], 60)];
    let Answered { records, addresses, .. } = records::read(&answers, &additionals);
    assert!(!records::says_none(&records));
    assert_eq!(told(&records::by_address(Scheme::Tcp, &records, &addresses)), ["tcp@10.0.0.1:7001 1"]);
    assert!(records::says_none(&records::read(&answers[1..], &[]).records));
}

#[test]
fn endless_answer_is_cut_short() {
    let answers: Vec<_> = (1..=2000).map(|port| srv(1, 1, port, "a.x.", 60)).collect();
    let addresses: Vec<_> = (0..255).map(|n| a("a.x.", [10, 0, 0, n], 60)).collect();
    let Answered { records, addresses, .. } = records::read(&answers, &addresses);
    let endpoints = records::by_address(Scheme::Tcp, &records, &addresses);
    assert_eq!(endpoints.len(), 1024);
    assert!(endpoints.capacity() <= 2048, "{} were made", endpoints.capacity());
}

#[test]
fn text_that_is_no_name_is_refused_with_a_sentence() {
    for (text, said) in [
        ("", "it is empty"),
        (".", "it is empty"),
        ("srv@", "it is empty"),
        ("_f._tcp.x:7001", "the records tell the port"),
        ("_f._tcp.x y", "it contains ' '"),
        ("unix@_f._tcp.x", "`unix` is no scheme"),
        ("ftp@_f._tcp.x", "`ftp` is no scheme"),
        ("srv@srv@x", "it contains '@'"),
        ("a..b", "is no name of DNS"),
    ] {
        let error = SrvDiscovery::new(text).map(|source| source.describe()).unwrap_err().to_string();
        assert!(error.contains(said), "{text:?}: {error}");
    }
    let long = "a".repeat(64);
    assert!(SrvDiscovery::new(&long).is_err());
    for (text, scheme) in
        [("x", Scheme::Tcp), ("srv@_f._tcp.x", Scheme::Tcp), ("wss@_f._tcp.x.", Scheme::Wss)]
    {
        assert_eq!(SrvDiscovery::new(text).unwrap().scheme, scheme);
    }
}
