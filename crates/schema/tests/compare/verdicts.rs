//! Pairs of generated types: the verdict, and the outcome of decoding values of one as the other.

use farcall_protocol::Codec;
use farcall_schema::{Document, Type, Verdict, Wire, compare_types};
use fastrand::Rng;
use serde::de::{DeserializeOwned, DeserializeSeed as _};

use crate::dynamic::{Dynamic, Reader};
use crate::generate;

/// The number of pairs, unless `FARCALL_SCHEMA_PAIRS` has another.
const PAIRS: u64 = 4_000;

/// A value of the type that the current thread reads.
struct Read;

thread_local! {
    static READER: std::cell::RefCell<Option<(Document, Type)>> = const { std::cell::RefCell::new(None) };
}

impl<'de> serde::Deserialize<'de> for Read {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        READER.with_borrow(|reader| {
            let (document, ty) = reader.as_ref().expect("set before");
            Reader { document, ty }.deserialize(deserializer).map(|()| Self)
        })
    }
}

fn decode<T: DeserializeOwned>(wire: Wire, body: &[u8]) -> Result<T, String> {
    codec(wire).decode(body).map_err(|error| error.to_string())
}

fn codec(wire: Wire) -> Codec {
    match wire {
        Wire::Json => Codec::Json,
        _ => Codec::MessagePack,
    }
}

/// Returns the first value that is refused.
fn refused(wire: Wire, values: &[Dynamic]) -> Option<(Dynamic, String)> {
    values.iter().find_map(|value| {
        // What cannot be written is refused there.
        let body = codec(wire).encode(value).ok()?;
        decode::<Read>(wire, &body).err().map(|error| (value.clone(), error))
    })
}

fn assert_verdict(seed: u64) -> Verdict {
    let mut rng = Rng::with_seed(seed);
    let document = generate::document();
    let writer = generate::ty(&mut rng, 3);
    let reader = generate::similar(&mut rng, &writer, 3);
    let values = generate::values(&document, &writer, 3);
    READER.set(Some((document.clone(), reader.clone())));
    let mut worst = Verdict::Compatible;
    for wire in Wire::ALL {
        let (verdict, reasons) = compare_types(wire, (&document, &writer), (&document, &reader));
        let outcome = refused(wire, &values);
        match verdict {
            Verdict::Compatible => assert!(
                outcome.is_none(),
                "seed {seed}, {wire}: {writer} as {reader} is said to be compatible\n{writer:?}\n{reader:?}\n{outcome:?}"
            ),
            Verdict::Breaking => assert!(
                outcome.is_some(),
                "seed {seed}, {wire}: {writer} as {reader} is said to break: {reasons:?}\n{writer:?}\n{reader:?}"
            ),
            _ => {}
        }
        worst = worst.max(verdict);
    }
    worst
}

#[test]
fn verdict_equals_what_happens() {
    let pairs = std::env::var("FARCALL_SCHEMA_PAIRS").ok().and_then(|pairs| pairs.parse().ok());
    let mut counts = [0_u64; 3];
    for seed in 0..pairs.unwrap_or(PAIRS) {
        counts[assert_verdict(seed) as usize] += 1;
    }
    println!("{} compatible, {} unknown, {} breaking", counts[0], counts[1], counts[2]);
    // A test of which most pairs were of one kind would prove little.
    let total: u64 = counts.iter().sum();
    assert!(counts[0] > total / 5 && counts[2] > total / 5 && counts[1] < total / 10, "{counts:?}");
}
