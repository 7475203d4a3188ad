//! Files of endpoints and of tokens, and instances as JSON.

use farcall_discovery::{Endpoint, Instance, fuzzing};
use farcall_server::Tokens;
use farcall_transport::Address;
use tempfile::NamedTempFile;

use crate::pipes::in_paused_time;

/// A file of endpoints: each endpoint has an address that can be dialed.
pub(crate) fn endpoint_file(data: &[u8]) {
    match fuzzing::endpoint_file(data) {
        Ok(endpoints) => {
            for Endpoint { address, .. } in &endpoints {
                assert_ne!(address.port(), Some(0));
                assert_eq!(&Address::parse(&address.to_string()).unwrap(), address);
            }
        }
        Err(error) => assert!(error.len() < 2_000, "the text of an error has a bound"),
    }
}

/// An instance as servers register it: one that passed its check does so again, and is written and read as the same.
pub(crate) fn instance(data: &[u8]) {
    let Ok(instance) = serde_json::from_slice::<Instance>(data) else { return };
    match instance.check() {
        Ok(checked) => {
            assert_eq!(checked.clone().check().as_ref().ok(), Some(&checked));
            let text = serde_json::to_vec(&checked).unwrap();
            assert_eq!(serde_json::from_slice::<Instance>(&text).unwrap(), checked);
        }
        Err(error) => assert!(error.to_string().len() < 2_000, "the text of an error has a bound"),
    }
}

/// A file of tokens.
pub(crate) fn tokens(data: &[u8]) {
    in_paused_time(async {
        let file = NamedTempFile::new_in(memory()).unwrap();
        std::fs::write(file.path(), data).unwrap();
        match Tokens::file(file.path()) {
            Ok(tokens) => drop(format!("{tokens:?}")),
            Err(error) => assert!(error.to_string().len() < 2_000, "the text of an error has a bound"),
        }
    });
}

/// A directory in memory, where there is one.
fn memory() -> &'static str {
    if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." }
}

pub(crate) fn endpoint_file_seeds() -> Vec<Vec<u8>> {
    [
        "# the two in the east\ntcp@10.0.0.1:7001\n[::1]:7002   # since May\r\n\n10.0.0.1:7001",
        "\u{feff}[\"tcp@10.0.0.1:7001\", {\"address\": \"tls@b.example:1\", \"weight\": 50, \"zone\": \"east\",
          \"version\": \"1.4\", \"metadata\": {\"rack\": \"7\"}, \"state\": \"draining\"}, {\"addr\": \"unix@/a\"}]",
        "[]",
        "[fd00::1]:1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn instance_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"service":"Arith","addr":"tcp@10.0.0.5:7001"}"#,
        r#"{"service":"A.b","id":"x","addr":"10.0.0.5:1","weight":7,"zone":"z","version":"1","metadata":{"k":"v"}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn token_seeds() -> Vec<Vec<u8>> {
    ["# rotated\nbilling 0123456789abcdef\n\nweb  fedcba9876543210\r\nweb 0000000000000000", "a b c\n"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}
