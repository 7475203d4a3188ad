//! [`Keys`]: which key of etcd an instance has.

use farcall_discovery::Instance;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// The characters that stay as they are in a key; `/` and those that are special to shells are escaped.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'-')
    .remove(b'@')
    .remove(b':')
    .remove(b'[')
    .remove(b']');

/// The form of the service `""`, the plain list of servers. No other can have that name.
const PLAIN_LIST: &str = "~";

/// The keys of one service: `/farcall/v1/{service}/{id}`.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    service: String,
    directory: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str, service: &str) -> Self {
        let segment = if service.is_empty() { PLAIN_LIST } else { service };
        Self { service: service.to_owned(), directory: format!("{prefix}/{segment}/") }
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// The key of the instance of this id.
    pub(crate) fn key(&self, id: &str) -> String {
        format!("{}{}", self.directory, utf8_percent_encode(id, ENCODED))
    }

    /// The id in a key, if it is one of this service's.
    pub(crate) fn id(&self, key: &[u8]) -> Option<String> {
        let id = key.strip_prefix(self.directory.as_bytes())?;
        let id = percent_decode(id).decode_utf8().ok()?;
        (!id.is_empty()).then(|| id.into_owned())
    }

    /// Returns the service of a key below the same prefix, if its instances can have such a key, and the first key behind
    /// all of this service, or of no service.
    pub(crate) fn service_at(&self, key: &[u8]) -> (Option<String>, Vec<u8>) {
        let rest = key.strip_prefix(self.root().as_bytes()).unwrap_or_default();
        let Some(slash) = rest.iter().position(|byte| *byte == b'/') else {
            return (None, [key, b"\0"].concat());
        };
        let mut next = key[..key.len() - rest.len() + slash].to_vec();
        next.push(b'/' + 1);
        let segment = std::str::from_utf8(&rest[..slash]).ok();
        let service = segment.filter(|segment| !segment.is_empty());
        let service = service.map(|segment| if segment == PLAIN_LIST { "" } else { segment });
        let service = service.filter(|service| Instance::check_service(service).is_ok());
        (service.map(str::to_owned), next)
    }

    /// Returns the part that the keys of all services begin with.
    pub(crate) fn root(&self) -> &str {
        let segment = self.directory[..self.directory.len() - 1].rfind('/');
        segment.map_or("", |slash| &self.directory[..=slash])
    }

    /// Returns the first key after those of all services.
    pub(crate) fn root_end(&self) -> Vec<u8> {
        after(self.root())
    }

    /// Returns the first possible key.
    pub(crate) fn start(&self) -> &[u8] {
        self.directory.as_bytes()
    }

    /// The first key after all of them, as etcd's ranges want it.
    pub(crate) fn end(&self) -> Vec<u8> {
        after(&self.directory)
    }
}

/// Returns the first key after all below a directory.
fn after(directory: &str) -> Vec<u8> {
    let mut end = directory.to_owned().into_bytes();
    // The last byte is a slash, so that the next greater one exists.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_one_segment_and_gives_the_id_back() {
        let keys = Keys::new("/farcall/v1", "Arith");
        for (id, key) in [
            ("tcp@10.0.0.5:7001", "/farcall/v1/Arith/tcp@10.0.0.5:7001"),
            ("tcp@[::1]:7001", "/farcall/v1/Arith/tcp@[::1]:7001"),
            ("unix@/run/a.sock", "/farcall/v1/Arith/unix@%2Frun%2Fa.sock"),
            ("100%", "/farcall/v1/Arith/100%25"),
            ("mëre", "/farcall/v1/Arith/m%C3%ABre"),
        ] {
            assert_eq!(keys.key(id), key);
            assert_eq!(keys.id(key.as_bytes()).as_deref(), Some(id));
        }
    }

    #[test]
    fn key_of_no_service_hides_none_behind_it() {
        let keys = Keys::new("/p", "");
        for (key, service, next) in [
            (&b"/p/Arith/a"[..], Some("Arith"), &b"/p/Arith0"[..]),
            (b"/p/Arith/", Some("Arith"), b"/p/Arith0"),
            (b"/p/~/a", Some(""), b"/p/~0"),
            (b"/p//a", None, b"/p/0"),
            (b"/p/lonely", None, b"/p/lonely\0"),
            (b"/p/\x1b[2J/a", None, b"/p/\x1b[2J0"),
            (b"/p/\xff/a", None, b"/p/\xff0"),
        ] {
            assert_eq!(keys.service_at(key), (service.map(str::to_owned), next.to_vec()), "{key:?}");
            assert!(key < next);
        }
    }

    #[test]
    fn the_service_without_a_name_is_a_tilde() {
        assert_eq!(Keys::new("/p", "").key("a"), "/p/~/a");
    }

    #[test]
    fn keys_of_others_have_no_id() {
        let keys = Keys::new("/farcall/v1", "Arith");
        for key in
            ["/farcall/v1/Arith2/a", "/farcall/v1/Arith", "/farcall/v1/Arith/", "/farcall/v1/Arith/%FF"]
        {
            assert_eq!(keys.id(key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn the_range_has_the_service_and_nothing_else() {
        let keys = Keys::new("/farcall/v1", "Arith");
        let within = |key: &str| (keys.start()..&keys.end()).contains(&key.as_bytes());
        assert!(within("/farcall/v1/Arith/a") && within("/farcall/v1/Arith/\u{10ffff}"));
        assert!(
            !within("/farcall/v1/Arith2/a")
                && !within("/farcall/v1/Arith0")
                && !within("/farcall/v1/Aritg/a")
        );
    }
}
