//! From the name in an address to the socket addresses to try, in the order to try them.
//!
//! The query itself is behind [`Resolve`]; connecting to them is left to `dial::happy_eyeballs`.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

/// The answer to come from a [`Resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Finds the socket addresses of a name.
///
/// The default is [`SystemResolver`]. Another one is set with
/// [`Dialer::resolver`](crate::Dialer::resolver), for a private name service or for a test.
///
/// ```
/// use std::collections::HashMap;
/// use std::io;
/// use std::net::{IpAddr, SocketAddr};
///
/// use farcall_transport::{Address, Dialer, Listener, Resolve, Resolving};
///
/// /// Names from a table.
/// struct Table(HashMap<String, IpAddr>);
///
/// impl Resolve for Table {
///     fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
///         Box::pin(async move {
///             let ip = self.0.get(host).ok_or_else(|| io::Error::other("no such name"))?;
///             Ok(vec![SocketAddr::new(*ip, port)])
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
/// let port = listener.address().port().unwrap_or_default();
///
/// let table = Table(HashMap::from([("arith.internal".to_owned(), IpAddr::from([127, 0, 0, 1]))]));
/// let dialer = Dialer::default().resolver(table);
/// dialer.dial(&Address::parse(&format!("arith.internal:{port}"))?).await?;
/// # Ok(())
/// # }
/// ```
pub trait Resolve: Send + Sync + 'static {
    /// Finds the addresses of `host`, each with the given port.
    ///
    /// `host` is a name in lower case, or an IPv6 address with a zone that is a name; any other
    /// IP address is never resolved. The order within IPv4 and within IPv6 is kept. Dropping
    /// the future cancels the query.
    ///
    /// # Errors
    ///
    /// The name is unknown, or no resolver can be reached. An empty answer is an error too, which
    /// the caller reports.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// Queries the operating system, with `getaddrinfo` on a thread for blocking work.
///
/// A cancelled query keeps its thread until the system answers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// The number of addresses of one name that are tried. One each 250 ms, it is more than the default
/// connect timeout has time for, and it bounds the sockets that one dial can open.
const MAX_ADDRESSES: usize = 64;

/// Orders the addresses of a name for being tried: IPv6 and IPv4 in turn, IPv6 first
/// ([RFC 8305, section 4](https://www.rfc-editor.org/rfc/rfc8305#section-4)), each family in the
/// order in which the resolver gave it.
///
/// Drops duplicates, and unspecified addresses: `0.0.0.0` in a hosts file is there to block a
/// name, but Linux would connect it to this machine.
pub(crate) fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let (v6, v4): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .filter(|address| !address.ip().to_canonical().is_unspecified() && seen.insert(*address))
        .partition(SocketAddr::is_ipv6);

    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::with_capacity(v6.len() + v4.len());
    while v6.len() + v4.len() > 0 {
        ordered.extend(v6.next());
        ordered.extend(v4.next());
    }
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_ipv6_begins() {
        let given = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "[::2]:1", "[::3]:1"]);
        let expected = ["[::2]:1", "10.0.0.1:1", "[::3]:1", "10.0.0.2:1", "10.0.0.3:1"];
        assert_eq!(in_turn(given), addresses(&expected));
    }

    #[test]
    fn duplicate_and_unspecified_addresses_are_dropped() {
        let given = addresses(&["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "10.0.0.1:1"]);
        assert_eq!(in_turn(given), addresses(&["10.0.0.1:1"]));
    }

    #[test]
    fn addresses_beyond_the_maximum_are_dropped() {
        let given = (0..1000).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
        assert_eq!(in_turn(given).len(), MAX_ADDRESSES);
    }

    #[tokio::test]
    async fn system_resolver_finds_localhost() {
        let found = SystemResolver.resolve("localhost", 7).await.unwrap();
        assert!(!found.is_empty());
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
    }

    proptest! {
        #[test]
        fn each_family_keeps_its_order(ports in proptest::collection::vec((any::<bool>(), 0..30u16), 0..40)) {
            let given: Vec<SocketAddr> = ports
                .into_iter()
                .map(|(v6, port)| {
                    if v6 { ([0, 0, 0, 0, 0, 0, 0, 1], port).into() } else { ([127, 0, 0, 1], port).into() }
                })
                .collect();
            let mut seen = HashSet::new();
            let unique: Vec<_> = given.iter().copied().filter(|a| seen.insert(*a)).collect();
            let ordered = in_turn(given);
            for v6 in [false, true] {
                let family = |all: &[SocketAddr]| -> Vec<_> {
                    all.iter().copied().filter(|a| a.is_ipv6() == v6).collect()
                };
                prop_assert_eq!(family(&ordered), family(&unique));
            }
        }
    }
}
