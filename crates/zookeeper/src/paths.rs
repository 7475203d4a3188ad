//! The paths of services and instances.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The name of the service without a name, the plain list of servers.
const PLAIN_LIST: &str = "~";
/// The characters of an id that are written as they are.
const ID: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b'-')
    .remove(b'@')
    .remove(b':')
    .remove(b'[')
    .remove(b']');

/// Returns the path of a service's node.
pub(crate) fn service_path(prefix: &str, service: &str) -> String {
    format!("{prefix}/{}", if service.is_empty() { PLAIN_LIST } else { service })
}

/// Returns the service of a node below the prefix.
pub(crate) fn service_of(node: &str) -> &str {
    if node == PLAIN_LIST { "" } else { node }
}

/// Returns the name of an instance's node, for the registrar with this number.
pub(crate) fn node_name(id: &str, number: u64) -> String {
    format!("{}#{number:016x}", utf8_percent_encode(id, ID))
}

/// Returns the id of a node. One that was created by hand may have no number.
pub(crate) fn id_of(node: &str) -> String {
    let id = node.rsplit_once('#').map_or(node, |(id, _)| id);
    percent_decode_str(id).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_part_of_a_path() {
        for id in ["tcp@10.0.0.1:7001", "unix@/run/a.sock", "é # %", "tcp@[::1]:1"] {
            let name = node_name(id, 7);
            assert!(!name.contains('/'), "{name}");
            assert_eq!(id_of(&name), id);
        }
        assert_eq!(node_name("tcp@10.0.0.1:7001", 255), "tcp@10.0.0.1:7001#00000000000000ff");
        assert_eq!(id_of("by-hand"), "by-hand");
        assert_eq!((service_path("/p", ""), service_of("~")), ("/p/~".to_owned(), ""));
        assert_eq!((service_path("/p", "Arith"), service_of("Arith")), ("/p/Arith".to_owned(), "Arith"));
    }
}
