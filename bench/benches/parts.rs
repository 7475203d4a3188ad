//! The parts of a call, each alone: `cargo bench`. For comparing one version of a part with another.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use divan::Bencher;
use divan::counter::ItemsCount;
use farcall::Channel;
use farcall::protocol::Codec;
use farcall_discovery::{Balancer, Candidate, Candidates, Endpoint, LeastLoaded, PickRequest, RoundRobin};
use farcall_instructions::session;
use farcall_protocol::{HeaderRef, Kind, MaxFrameBytes, MessageDecoder, Outbox, Seq};
use farcall_transport::Address;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

fn main() {
    divan::main();
}

const CODECS: [&str; 2] = ["MessagePack", "JSON"];
/// The number of messages in a batch, as with 64 calls in flight.
const BATCH: usize = 64;

fn codec(name: &str) -> Codec {
    if name == "JSON" { Codec::Json } else { Codec::MessagePack }
}

#[derive(Serialize, Deserialize)]
struct Multiply {
    a: i64,
    b: i64,
}

fn push(outbox: &mut Outbox, codec: &Codec, n: u64) {
    let body = codec.encode_body(&Multiply { a: n as i64, b: 7 }).expect("two integers encode");
    let header = HeaderRef { service_method: "Arith.multiply", ..HeaderRef::new(Kind::Request, Seq(n)) };
    outbox.push(codec, &header, &body, MaxFrameBytes::default()).expect("it is small");
}

/// Requests into the outgoing bytes.
#[divan::bench(args = CODECS)]
fn encode(bencher: Bencher, name: &str) {
    let codec = codec(name);
    let mut outbox = Outbox::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        (1..=BATCH as u64).for_each(|n| push(&mut outbox, &codec, n));
        let written = outbox.remaining();
        outbox.advance(written);
    });
}

/// Requests out of what a read brought, arguments included.
#[divan::bench(args = CODECS)]
fn decode(bencher: Bencher, name: &str) {
    let codec = codec(name);
    let mut outbox = Outbox::new();
    (1..=BATCH as u64).for_each(|n| push(&mut outbox, &codec, n));
    let bytes: Bytes = outbox.copy_to_bytes(outbox.remaining());
    let decoder = MessageDecoder::new(codec.clone(), MaxFrameBytes::default());
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| BytesMut::from(&*bytes)).bench_local_refs(
        |buffer| {
            while let Some(message) = decoder.next(buffer).expect("it was encoded") {
                let arguments: Multiply = codec.decode_arguments(&message.body).expect("they were encoded");
                black_box(arguments);
            }
        },
    );
}

/// Picks one of `n` endpoints; the program's `pick` compares all balancers.
#[divan::bench(args = [3, 100], types = [RoundRobin, LeastLoaded])]
fn pick<B: Balancer + Default>(bencher: Bencher, endpoints: u64) {
    let candidate = |id| {
        let address = Address::parse(&format!("tcp@10.0.0.{}:7001", id + 1)).expect("it is one");
        Candidate::new(id, Arc::new(Endpoint::new(address)), Arc::default())
    };
    let usable: Arc<[Candidate]> = (0..endpoints).map(candidate).collect();
    let picker = B::default().picker(&Candidates::new(Arc::clone(&usable), usable));
    bencher.bench(|| picker.pick(&PickRequest::new(None, &[])));
}

/// Makes `n` concurrent calls, each of which acquires a slot and releases it, through the client's public API:
/// with a server and a pipe in memory, in one thread.
#[divan::bench(args = [1, 64, 1000])]
fn slot(bencher: Bencher, in_flight: i64) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it has a runtime");
    let connection = runtime.block_on(session::connection(Codec::MessagePack)).expect("it is in memory");
    let channel = Channel::from(connection);
    bencher.counter(ItemsCount::new(in_flight as usize)).bench_local(|| {
        let calls = (0..in_flight).map(|a| channel.call::<i64>("Arith.multiply", &Multiply { a, b: 7 }));
        for product in runtime.block_on(join_all(calls.map(IntoFuture::into_future))) {
            black_box(product.expect("it multiplies"));
        }
    });
}
