//! Addresses, proxies of the environment, and the ids of traces.

use farcall_context::trace::TraceContext;
use farcall_protocol::Metadata;
use farcall_transport::{Address, Proxy, Scheme, fuzzing};

const SCHEMES: [Scheme; 8] = [
    Scheme::Tcp,
    Scheme::Tls,
    Scheme::Unix,
    Scheme::Http,
    Scheme::Https,
    Scheme::Connect,
    Scheme::Ws,
    Scheme::Wss,
];

/// An address: what was read is written so that it is read as the same, also with another port or scheme.
pub(crate) fn address(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let address = match Address::parse(&text) {
        Ok(address) => address,
        Err(error) => return drop(error.to_string()),
    };
    assert_same(&address);
    assert_same(&address.clone().with_port(7001));
    for scheme in SCHEMES {
        // Of a path there is only one scheme, and of a host all others.
        if (scheme == Scheme::Unix) == address.path().is_some() {
            assert_same(&address.clone().with_scheme(scheme));
        }
    }
    let _ = (address.socket_addr(), address.is_unspecified(), address.host(), address.port());
}

fn assert_same(address: &Address) {
    let text = address.to_string();
    let again = Address::parse(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(&again, address, "{text:?}");
}

/// Lines: a proxy, the exceptions, and an address.
pub(crate) fn proxy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let (proxy, exceptions, address) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    if let Ok(proxy) = Proxy::parse(proxy) {
        assert_same(proxy.address());
        let _ = format!("{proxy:?}");
    }
    let variable = |name: &str| match name {
        "http_proxy" | "HTTPS_PROXY" => Some(proxy.to_owned()),
        "no_proxy" => Some(exceptions.to_owned()),
        _ => None,
    };
    if let Ok(address) = Address::parse(address) {
        let _ = fuzzing::proxy_for(&address, variable);
    }
    for fixed in ["http@a.example:80", "https@[fd00::1%eth0]:443", "ws@10.1.2.3:1"] {
        let _ = fuzzing::proxy_for(&Address::parse(fixed).unwrap(), variable);
    }
}

/// Lines: a trace, and pairs of metadata.
pub(crate) fn trace(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    if let Some(trace) = lines.next().and_then(TraceContext::parse) {
        assert_eq!(TraceContext::parse(&trace.to_string()), Some(trace), "{trace}");
        let _ = trace.child();
    }
    let mut metadata = Metadata::new();
    for line in lines {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if metadata.insert(key, value).is_ok() {
            assert_eq!(metadata.get(key), Some(value));
        }
    }
    let pairs: Vec<_> = metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    for (key, value) in &pairs {
        assert_eq!(metadata.remove(key).as_ref(), Some(value), "{key:?}");
    }
    assert!(metadata.is_empty());
}

pub(crate) fn address_seeds() -> Vec<Vec<u8>> {
    [
        "tcp@127.0.0.1:7001",
        "tls@[::1]:7001",
        "https@host.example",
        "ws@[fe80::1%eth0]:80",
        "unix@/tmp/a%20socket",
        "connect@a-b.example.:65535",
        "10.0.0.5:1",
        "tcp@xn--bcher-kva.example:1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn proxy_seeds() -> Vec<Vec<u8>> {
    [
        "http://user:p%40ss@proxy.example:3128/\n.example, 10.0.0.0/8,*.b,[fd00::1]:1\nhttp@10.1.2.3:1",
        "proxy.example:1\n*\nws@a.example:1",
        "http://[::1]\nfd00::/128 0.0.0.0/0\nhttps@[fd00::1]:1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn trace_seeds() -> Vec<Vec<u8>> {
    [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntenant=blue\nfarcall-trace=x",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more\na=\na=b\n=c",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
