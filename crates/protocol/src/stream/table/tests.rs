//! Two tables, joined by their messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use bytes::{Buf, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::header::Flags;
use crate::message::MessageDecoder;
use crate::stream::{ITEM_OVERHEAD, StreamWait};

const KIB: usize = 1024;

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counter() -> (Arc<Count>, Waker) {
    let count = Arc::<Count>::default();
    (Arc::clone(&count), Waker::from(count))
}

fn table(window: usize) -> StreamTable {
    let window = StreamWindow::new(window);
    StreamTable::new(StreamSettings::new(Codec::default(), MaxFrameBytes::DEFAULT, window, window))
}

fn tables(window: usize, streams: u64) -> [StreamTable; 2] {
    [(), ()].map(|()| {
        let mut table = table(window);
        (1..=streams).for_each(|seq| table.open(Seq(seq), true));
        table
    })
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn is_ready(table: &mut StreamTable, seq: u64) -> bool {
    table.poll_ready(Seq(seq), &mut context(), Instant::now).is_ready()
}

fn send(table: &mut StreamTable, seq: u64, len: usize) -> bool {
    let ready = table.poll_ready(Seq(seq), &mut context(), Instant::now) == Poll::Ready(Ok(()));
    if ready {
        table.send(Seq(seq), Body::from(Bytes::from(vec![0; len])).into(), false).unwrap();
    }
    ready
}

/// Takes a batch. Returns the length of its last item.
fn take(table: &mut StreamTable, seq: u64) -> Option<usize> {
    let Poll::Ready(Ok(Some(mut items))) = table.poll_items(Seq(seq), &mut context()) else { return None };
    let mut taken = None;
    while let Some(item) = items.take_next() {
        taken = Some(item.body.len());
        if let Some(cost) = items.due() {
            let credit_at = table.consume(Seq(seq), cost, Instant::now);
            items.set_credit_at(credit_at);
        }
    }
    taken
}

/// Takes the messages out of `outbox`: kind, call, and length of the body.
fn messages(outbox: &mut Outbox) -> Vec<(Header, Bytes)> {
    let mut bytes = BytesMut::from(&outbox.copy_to_bytes(outbox.remaining())[..]);
    let decoder = MessageDecoder::new(Codec::default(), MaxFrameBytes::DEFAULT);
    std::iter::from_fn(|| decoder.next(&mut bytes).unwrap())
        .map(|message| (message.header, message.body))
        .collect()
}

/// Takes what `from` writes to `to`. Returns the kinds and calls.
fn pass(from: &mut StreamTable, to: &mut StreamTable) -> Vec<(Kind, u64)> {
    let mut outbox = Outbox::new();
    from.write(&mut outbox);
    let messages = messages(&mut outbox);
    let kinds = messages.iter().map(|(header, _)| (header.kind, header.seq.0)).collect();
    for (header, body) in messages {
        to.receive(&header, body, Instant::now(), |_| true).unwrap();
    }
    kinds
}

#[test]
fn item_arrives_and_its_end_follows() {
    let [mut client, mut server] = tables(KIB, 1);
    assert!(send(&mut client, 1, 10));
    client.end(Seq(1));
    assert_eq!(pass(&mut client, &mut server), [(Kind::Item, 1), (Kind::End, 1)]);
    assert_eq!(take(&mut server, 1), Some(10));
    assert!(matches!(server.poll_items(Seq(1), &mut context()), Poll::Ready(Ok(None))));
    let closed = client.poll_ready(Seq(1), &mut context(), Instant::now);
    assert_eq!(closed, Poll::Ready(Err(StreamClosed::Stopped)));
}

#[test]
fn credit_stop_and_end_go_before_items() {
    let [mut client, mut server] = tables(KIB, 4);
    assert!(send(&mut client, 1, 100));
    assert!(send(&mut client, 2, 100));
    client.end(Seq(2));
    client.stop(Seq(3));
    assert!(send(&mut server, 4, KIB));
    pass(&mut server, &mut client);
    assert_eq!(take(&mut client, 4), Some(KIB));
    let kinds = pass(&mut client, &mut server);
    let expected = [(Kind::Item, 2), (Kind::End, 2), (Kind::Stop, 3), (Kind::Credit, 4), (Kind::Item, 1)];
    assert_eq!(kinds, expected);
}

#[test]
fn outbox_takes_128_kib_of_items_at_most() {
    let mut table = table(usize::MAX);
    for seq in 1..=8 {
        table.open(Seq(seq), true);
        while send(&mut table, seq, 50 * KIB) {}
    }
    assert!(table.queued_bytes() > 512 * KIB);
    let mut outbox = Outbox::new();
    table.write(&mut outbox);
    let written = outbox.remaining();
    assert!(written <= MAX_BUFFERED_ITEMS && written > 64 * KIB, "{written}");
    assert!(table.has_output());
    outbox.advance(written);
    table.write(&mut outbox);
    assert!(outbox.has_remaining());
}

#[test]
fn item_larger_than_all_buffers_passes_an_empty_outbox() {
    let [mut client, mut server] = tables(1, 2);
    assert!(send(&mut client, 1, 1000 * KIB));
    assert!(send(&mut client, 2, 1000 * KIB));
    assert_eq!(pass(&mut client, &mut server), [(Kind::Item, 1)]);
    assert_eq!(pass(&mut client, &mut server), [(Kind::Item, 2)]);
    assert!(!client.has_output());
}

#[test]
fn response_follows_the_items_of_its_stream_and_no_others() {
    let mut server = table(usize::MAX);
    for seq in 1..=3 {
        server.open(Seq(seq), true);
        while send(&mut server, seq, 20 * KIB) {}
    }
    let mut outbox = Outbox::new();
    server.finish(Seq(2), &mut outbox);
    let calls: Vec<u64> = messages(&mut outbox).iter().map(|(header, _)| header.seq.0).collect();
    assert_eq!(calls, [2, 2, 2, 2]);
    assert_eq!(server.len(), 2);
}

#[test]
fn items_that_came_before_the_response_can_still_be_taken() {
    let [mut client, mut server] = tables(KIB, 1);
    assert!(send(&mut server, 1, 5));
    assert!(send(&mut client, 1, 5));
    pass(&mut server, &mut client);
    client.complete(Seq(1));
    assert_eq!(client.queued_bytes(), 0);
    assert_eq!(take(&mut client, 1), Some(5));
    assert!(matches!(client.poll_items(Seq(1), &mut context()), Poll::Ready(Ok(None))));
    let closed = client.poll_ready(Seq(1), &mut context(), Instant::now);
    assert_eq!(closed, Poll::Ready(Err(StreamClosed::Ended)));
    client.remove(Seq(1));
    let removed = client.poll_items(Seq(1), &mut context());
    assert!(matches!(removed, Poll::Ready(Err(StreamClosed::Ended))));
    assert!(client.is_empty());
}

#[test]
fn items_that_come_when_their_call_is_over_are_not_delivered() {
    let mut table = table(KIB);
    table.open(Seq(1), true);
    let item = || ItemBatch::one(Bytes::from_static(b"item"), Flags::NONE);
    table.receive_batch(Seq(1), item()).unwrap();
    assert_eq!(take(&mut table, 1), Some(4));
    table.complete(Seq(1));
    table.receive_batch(Seq(1), item()).unwrap();
    assert_eq!(take(&mut table, 1), None);
}

#[test]
fn peer_that_sends_to_a_call_without_items_is_stopped_once() {
    let [mut client, mut server] = tables(KIB, 1);
    server.open(Seq(1), false);
    for _ in 0..3 {
        assert!(send(&mut client, 1, 10));
    }
    pass(&mut client, &mut server);
    assert_eq!(pass(&mut server, &mut client), [(Kind::Stop, 1)]);
    let closed = client.poll_ready(Seq(1), &mut context(), Instant::now);
    assert_eq!(closed, Poll::Ready(Err(StreamClosed::Stopped)));
}

#[test]
fn messages_of_unknown_calls_are_ignored_and_their_credit_is_checked() {
    let [mut client, mut server] = tables(KIB, 1);
    assert!(send(&mut client, 1, 10));
    server.remove(Seq(1));
    pass(&mut client, &mut server);
    assert!(!server.has_output());
    let (header, body) = {
        let mut outbox = Outbox::new();
        let credit = HeaderRef::new(Kind::Credit, Seq(77));
        outbox.push(&Codec::default(), &credit, &Body::default(), MaxFrameBytes::DEFAULT).unwrap();
        messages(&mut outbox).remove(0)
    };
    let error = server.receive(&header, body, Instant::now(), |_| true).unwrap_err();
    assert!(matches!(error, ProtocolError::InvalidCredit { .. }), "{error}");
}

#[test]
fn item_that_waits_for_credit_expires_and_one_that_does_not_stays() {
    let mut table = table(100);
    table.open(Seq(1), true);
    table.open(Seq(2), true);
    let now = Instant::now();
    for seq in [1, 2] {
        assert!(send(&mut table, seq, 100));
        assert!(table.poll_ready(Seq(seq), &mut context(), || now).is_pending());
    }
    table.stop_waiting(Seq(2));
    let due = now + Duration::from_secs(60);
    assert_eq!(table.check_at(), Some(due));
    assert!(table.expire(due - Duration::from_millis(1)).is_empty());
    assert_eq!(table.expire(due), [Seq(1)]);
    assert_eq!(table.snapshot()[0].waits_for, StreamWait::Credit);
}

#[test]
fn task_is_woken_once_for_many_items() {
    let mut table = table(KIB * KIB);
    let (count, waker) = counter();
    table.register_task(&waker);
    table.open(Seq(1), true);
    for _ in 0..10 {
        assert!(send(&mut table, 1, 1));
    }
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    table.write(&mut Outbox::new());
    table.register_task(&waker);
    assert!(send(&mut table, 1, 1));
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
}

#[test]
fn halves_are_woken_by_what_they_wait_for() {
    let [mut client, mut server] = tables(200, 1);
    let (reader, reader_waker) = counter();
    let (writer, writer_waker) = counter();
    let polled = server.poll_items(Seq(1), &mut Context::from_waker(&reader_waker));
    assert!(polled.is_pending());
    assert!(send(&mut client, 1, 200));
    let polled = client.poll_ready(Seq(1), &mut Context::from_waker(&writer_waker), Instant::now);
    assert!(polled.is_pending());
    pass(&mut client, &mut server);
    assert_eq!(reader.0.load(Ordering::Relaxed), 1);
    assert_eq!(take(&mut server, 1), Some(200));
    assert_eq!(pass(&mut server, &mut client), [(Kind::Credit, 1)]);
    assert!(writer.0.load(Ordering::Relaxed) >= 1);
    assert!(is_ready(&mut client, 1));
}

/// A table with a stream whose window has grown by all that windows may grow by, 3 KiB.
fn grown() -> StreamTable {
    let limits = WindowLimits { initial: StreamWindow::new(KIB), max: StreamWindow::new(64 * KIB) };
    let window = StreamWindow::new(KIB);
    let mut settings = StreamSettings::new(Codec::default(), MaxFrameBytes::DEFAULT, window, window);
    settings.receive_window = limits;
    settings.max_growth = 3 * KIB;
    let mut server = StreamTable::new(settings);
    let mut client = table(KIB);
    server.open(Seq(1), true);
    client.open(Seq(1), true);
    for _ in 0..50 {
        while send(&mut client, 1, 500) {}
        pass(&mut client, &mut server);
        while take(&mut server, 1).is_some() {}
        pass(&mut server, &mut client);
    }
    assert_eq!(server.growth(), 3 * KIB);
    server
}

#[test]
fn growth_of_removed_streams_is_given_back() {
    let mut server = grown();
    server.remove(Seq(1));
    assert_eq!(server.growth(), 0);
}

#[test]
fn growth_of_windows_that_shrink_is_given_back() {
    let mut server = grown();
    let mut growths = vec![server.growth()];
    while let Some(at) = server.check_at() {
        assert!(server.expire(at - Duration::from_millis(1)).is_empty());
        assert_eq!(server.expire(at), []);
        growths.push(server.growth());
    }
    // A check may find that the window was needed after all.
    growths.dedup();
    assert_eq!(growths, [3 * KIB, KIB, 0], "each time by half of the window");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize, u64, usize),
    Take(usize, u64),
    Stop(usize, u64),
    End(u64),
    Pass(usize),
    Remove(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let side = || 0_usize..2;
    let seq = || 1_u64..4;
    prop_oneof![
        10 => (side(), seq(), 0_usize..3000).prop_map(|(side, seq, len)| Step::Send(side, seq, len)),
        10 => (side(), seq()).prop_map(|(side, seq)| Step::Take(side, seq)),
        10 => side().prop_map(Step::Pass),
        1 => (side(), seq()).prop_map(|(side, seq)| Step::Stop(side, seq)),
        1 => seq().prop_map(Step::End),
        1 => seq().prop_map(Step::Remove),
    ]
}

proptest! {
    /// Whatever happens in which order, neither side breaks the protocol, a side holds at most what it granted and one
    /// item more, and nothing is left at the end.
    #[test]
    fn tables_break_no_rule_and_leave_nothing(steps in prop::collection::vec(step(), 0..300)) {
        let mut sides = tables(4 * KIB, 3);
        for step in steps {
            match step {
                Step::Send(side, seq, len) => _ = send(&mut sides[side], seq, len),
                Step::Take(side, seq) => _ = take(&mut sides[side], seq),
                Step::Stop(side, seq) => sides[side].stop(Seq(seq)),
                Step::End(seq) => sides[0].end(Seq(seq)),
                Step::Pass(side) => {
                    let [client, server] = &mut sides;
                    if side == 0 { pass(client, server) } else { pass(server, client) };
                }
                Step::Remove(seq) => sides.iter_mut().for_each(|side| side.remove(Seq(seq))),
            }
            for side in &sides {
                for stream in side.snapshot() {
                    prop_assert!(stream.held < (4 * KIB + 3000 + ITEM_OVERHEAD) as u64, "{:?}", stream);
                }
            }
        }
        for side in &mut sides {
            (1..4).for_each(|seq| side.remove(Seq(seq)));
            prop_assert!(side.is_empty());
            prop_assert_eq!((side.queued_bytes(), side.growth()), (0, 0));
            let mut outbox = Outbox::new();
            side.write(&mut outbox);
            prop_assert!(!outbox.has_remaining() && !side.has_output());
        }
    }
}

#[test]
fn control_that_may_not_go_yet_stays_due_and_an_end_stays_behind_its_items() {
    let [mut sender, _] = tables(64 * KIB, 3);
    assert!(send(&mut sender, 1, 10));
    for seq in 1..=3 {
        sender.end(Seq(seq));
    }
    sender.stop(Seq(1));
    let kinds = |outbox: &mut Outbox| -> Vec<(Kind, u64)> {
        let mut bytes = BytesMut::from(&outbox.copy_to_bytes(outbox.remaining())[..]);
        let decoder = MessageDecoder::new(Codec::default(), MaxFrameBytes::DEFAULT);
        std::iter::from_fn(|| decoder.next(&mut bytes).unwrap())
            .map(|message| (message.header.kind, message.header.seq.0))
            .collect()
    };
    let mut outbox = Outbox::new();
    sender.write_control(&mut outbox, |seq| seq != Seq(2));
    assert_eq!(kinds(&mut outbox), [(Kind::Stop, 1), (Kind::End, 3)]);
    assert!(sender.has_output());
    sender.write(&mut outbox);
    let rest = kinds(&mut outbox);
    assert_eq!(rest.len(), 3, "{rest:?}");
    let position = |wanted| rest.iter().position(|seen| *seen == wanted).unwrap();
    assert!(position((Kind::Item, 1)) < position((Kind::End, 1)));
    assert!(rest.contains(&(Kind::End, 2)));
    assert!(!sender.has_output());
}

#[test]
fn snapshot_and_totals_tell_what_was_sent_and_received() {
    let [mut client, mut server] = tables(1000, 2);
    let waits_for = |table: &StreamTable| table.snapshot_of(Seq(1)).unwrap().waits_for;
    assert_eq!(waits_for(&client), StreamWait::Application);
    assert!(send(&mut client, 1, 100) && send(&mut client, 1, 36));
    let of_client = client.snapshot_of(Seq(1)).unwrap();
    assert_eq!((of_client.sent.items, of_client.sent.bytes, of_client.credit), (2, 136, 1000 - 264));
    assert_eq!((of_client.queued, of_client.waits_for), (client.queued_bytes(), StreamWait::Socket));
    assert!(of_client.queued > 136);
    pass(&mut client, &mut server);
    assert_eq!((client.queued_bytes(), waits_for(&client)), (0, StreamWait::Application));
    let of_server = server.snapshot();
    assert_eq!(of_server.iter().map(|stream| stream.seq).collect::<Vec<_>>(), [Seq(1), Seq(2)]);
    let of_server = of_server[0];
    assert_eq!((of_server.received.items, of_server.received.bytes), (2, 136));
    assert_eq!((of_server.held, of_server.receive_window), (264, 1000));
    assert_eq!(server.totals().received, of_server.received);
    assert_eq!(client.totals().sent, of_client.sent);
    assert!(take(&mut server, 1).is_some() && take(&mut server, 1).is_none());
    assert_eq!(waits_for(&server), StreamWait::Peer);
    assert!(send(&mut client, 1, 1000) && !send(&mut client, 1, 0) && !send(&mut client, 1, 0));
    assert_eq!(
        client.snapshot_of(Seq(1)).map(|stream| (stream.stalls, stream.waits_for)),
        Some((1, StreamWait::Credit))
    );
    assert_eq!((client.totals().stalls, client.snapshot_of(Seq(3))), (1, None));
}

#[test]
fn memory_is_what_was_granted_until_the_peer_has_ended() {
    let [mut client, mut server] = tables(1000, 3);
    server.open(Seq(4), false);
    assert_eq!(server.memory_bytes(), 3000);
    assert!(send(&mut client, 1, 100));
    assert_eq!(client.memory_bytes(), 3000 + client.queued_bytes());
    pass(&mut client, &mut server);
    assert_eq!(server.memory_bytes(), 3000, "it is a part of what was granted");
    client.end(Seq(1));
    pass(&mut client, &mut server);
    assert_eq!(server.memory_bytes(), 2164);
    assert_eq!(take(&mut server, 1), Some(100));
    assert_eq!(server.memory_bytes(), 2000);
    server.stop(Seq(2));
    assert_eq!(server.memory_bytes(), 1000);
    server.complete_all();
    assert_eq!((server.memory_bytes(), server.len()), (0, 4));
    server.remove_all();
    assert!(server.is_empty());
}

#[test]
fn items_for_the_same_process_are_taken_one_by_one() {
    let mut table = table(usize::MAX);
    table.open(Seq(1), true);
    let (writer, waker) = counter();
    (0..3).for_each(|_| assert!(send(&mut table, 1, 30 * KIB)));
    assert!(table.poll_ready(Seq(1), &mut Context::from_waker(&waker), Instant::now).is_pending());
    let before = table.snapshot_of(Seq(1)).unwrap().credit;
    // The writer goes on once half of 64 KiB is free.
    for woken in [0, 1, 1] {
        assert_eq!(table.take_sent().map(|(seq, body)| (seq, body.len())), Some((Seq(1), 30 * KIB)));
        assert_eq!(writer.0.load(Ordering::Relaxed), woken);
    }
    assert_eq!((table.queued_bytes(), table.take_sent().is_none()), (0, true));
    let credit = table.snapshot_of(Seq(1)).unwrap().credit;
    assert_eq!(credit - before, 3 * (30 * KIB + ITEM_OVERHEAD) as u64);
    (1..=3).for_each(|len| assert!(send(&mut table, 1, len)));
    let lengths = std::iter::from_fn(|| table.take_sent().map(|(_, body)| body.len()));
    assert_eq!(lengths.collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(table.queued_bytes(), 0);
}

#[test]
fn items_of_the_same_process_are_delivered_while_there_is_credit() {
    let [mut sender, mut table] = tables(100, 1);
    table.open(Seq(2), false);
    let (feeder, waker) = counter();
    let deliver =
        |table: &mut StreamTable, seq| table.poll_deliver(Seq(seq), &mut Context::from_waker(&waker));
    assert_eq!(deliver(&mut table, 1), Poll::Ready(Ok(())));
    assert_eq!(deliver(&mut table, 2), Poll::Ready(Err(StreamClosed::Stopped)));
    assert_eq!(deliver(&mut table, 3), Poll::Ready(Err(StreamClosed::Ended)));
    assert!(send(&mut sender, 1, 36));
    pass(&mut sender, &mut table);
    assert_eq!(deliver(&mut table, 1), Poll::Pending);
    assert_eq!(take(&mut table, 1), Some(36));
    assert_eq!((feeder.0.load(Ordering::Relaxed), deliver(&mut table, 1)), (1, Poll::Ready(Ok(()))));
    table.stop(Seq(1));
    assert_eq!(deliver(&mut table, 1), Poll::Ready(Err(StreamClosed::Stopped)));
    table.complete(Seq(1));
    assert_eq!(deliver(&mut table, 1), Poll::Ready(Err(StreamClosed::Ended)));
}
