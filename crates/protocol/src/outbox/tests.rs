use proptest::prelude::*;

use super::*;

fn push(outbox: &mut Outbox, seq: u64, body: usize) {
    let header = HeaderRef::new(Kind::Response, Seq(seq));
    outbox
        .push(&Codec::default(), &header, &Bytes::from(vec![seq as u8; body]).into(), MaxFrameBytes::DEFAULT)
        .unwrap();
}

#[test]
fn message_over_the_limit_leaves_the_outbox_unchanged() {
    let mut outbox = Outbox::new();
    push(&mut outbox, 1, 10);
    let before = outbox.remaining();
    let limit = MaxFrameBytes::new(100);
    let header = HeaderRef::new(Kind::Request, Seq(2));
    let error =
        outbox.push(&Codec::default(), &header, &Bytes::from(vec![0; 101]).into(), limit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "body of 101 bytes: the limit is 100 bytes, the receiver's `max_frame_bytes`"
    );
    let name = "m".repeat(200);
    let header = HeaderRef { service_method: &name, ..header };
    let error = outbox.push(&Codec::default(), &header, &Body::default(), limit).unwrap_err();
    assert_eq!(error.part, Part::Header);
    assert_eq!(outbox.remaining(), before);
    assert_eq!(outbox.appended(), before as u64);
}

#[test]
fn large_body_is_not_copied() {
    let mut outbox = Outbox::new();
    let body = Bytes::from(vec![7; MIN_UNCOPIED]);
    let header = HeaderRef::new(Kind::Response, Seq(1));
    outbox.push(&Codec::default(), &header, &body.clone().into(), MaxFrameBytes::DEFAULT).unwrap();
    outbox.advance(outbox.chunk().len());
    assert_eq!(outbox.chunk().as_ptr(), body.as_ptr());
}

#[test]
fn memory_of_a_burst_is_released() {
    let mut outbox = Outbox::new();
    // Fill the buffer almost completely, so that little room is left after the bytes.
    while outbox.remaining() < 1_000_000 || outbox.open.capacity() - outbox.remaining() > MAX_KEPT / 2 {
        push(&mut outbox, 1, 1000);
    }
    outbox.shrink();
    assert!(outbox.remaining() > MAX_KEPT);
    outbox.advance(outbox.remaining() - 1);
    outbox.advance(1);
    outbox.shrink();
    assert_eq!(outbox.open.capacity(), 0);
    // The space before the bytes was released too.
    assert!(!outbox.open.try_reclaim(1));

    for _ in 0..2 {
        push(&mut outbox, 1, 10);
        outbox.advance(outbox.remaining());
        outbox.shrink();
    }
    assert!(outbox.open.try_reclaim(10), "a small buffer is kept");
}

#[test]
fn idle_outbox_has_no_memory_and_keeps_its_position() {
    let mut outbox = Outbox::new();
    for body in [10, MIN_UNCOPIED] {
        push(&mut outbox, 1, body);
        outbox.release();
        assert!(outbox.has_remaining(), "what is left to send is kept");
        outbox.advance(outbox.remaining());
        let appended = outbox.appended();
        outbox.release();
        assert_eq!((outbox.open.capacity(), outbox.closed.capacity()), (0, 0));
        assert!(!outbox.open.try_reclaim(1));
        assert_eq!(outbox.appended(), appended);
    }
}

#[test]
fn burst_as_large_as_the_last_one_is_allocated_at_once() {
    let mut outbox = Outbox::new();
    let burst = |outbox: &mut Outbox, messages: u64| {
        push(outbox, 1, 1000);
        let capacity = outbox.open.capacity();
        for seq in 1..messages {
            push(outbox, seq, 1000);
        }
        outbox.advance(outbox.remaining());
        outbox.shrink();
        capacity
    };
    burst(&mut outbox, 100);
    let capacity = burst(&mut outbox, 100);
    assert!((100_000..120_000).contains(&capacity), "{capacity}");
    burst(&mut outbox, 1);
    let capacity = burst(&mut outbox, 1);
    assert!(capacity < 2000, "a small burst does not get the buffer of a large one: {capacity}");
}

#[cfg(feature = "msgpack")]
#[test]
fn usual_message_is_the_one_that_is_pushed_in_general() {
    // With a marker before each text.
    let sizes = [0, 1, SmallBody::MAX - 1, SmallBody::MAX];
    let bodies = sizes.map(|len| Codec::MessagePack.encode_body(&"x".repeat(len)).unwrap());
    let seqs = [1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];
    let names = [0, 1, 7, 8, 15, 16, 17, 31, 32, 33].map(|len| "m".repeat(len));
    let (mut usual, mut general, mut appended) = (Outbox::new(), Outbox::new(), 0);
    // A buffer that has room.
    push(&mut usual, 1, 1);
    push(&mut general, 1, 1);
    let limit = MaxFrameBytes::DEFAULT;
    for seq in seqs.map(Seq) {
        for (name, body) in names.iter().flat_map(|name| bodies.iter().map(move |body| (name, body))) {
            let kind = if name.is_empty() { Kind::Response } else { Kind::Request };
            let header = HeaderRef { service_method: name, ..HeaderRef::new(kind, seq) };
            general.push(&Codec::MessagePack, &header, body, limit).unwrap();
            let before = usual.appended();
            let is_usual = usual.push_usual(&Codec::MessagePack, (kind, seq, name), body, limit);
            assert_eq!(is_usual, seq.0 <= 0xffff_ffff && name.len() < 32 && body.len() <= SmallBody::MAX);
            if is_usual {
                appended += 1;
            } else {
                assert_eq!(usual.appended(), before);
                usual.push(&Codec::MessagePack, &header, body, limit).unwrap();
            }
            assert_eq!(usual.appended(), general.appended());
        }
    }
    assert_eq!(appended, 8 * 8 * 3);
    let (header, body) = ((Kind::Response, Seq(1), ""), Body::default());
    assert!(!usual.push_usual(&Codec::MessagePack, header, &body, MaxFrameBytes::new(1)), "a limit below it");
    assert_eq!(usual.copy_to_bytes(usual.remaining()), general.copy_to_bytes(general.remaining()));
}

proptest! {
    #[test]
    fn messages_are_moved_whole(
        bodies in proptest::collection::vec(0_usize..20_000, 1..12),
        steps in proptest::collection::vec(1_usize..50_000, 1..12),
    ) {
        let (mut all, mut rest) = (Outbox::new(), Outbox::new());
        let mut ends = vec![0];
        for (seq, body) in bodies.into_iter().enumerate() {
            push(&mut all, seq as u64, body);
            push(&mut rest, seq as u64, body);
            ends.push(all.remaining());
        }
        let whole = all.copy_to_bytes(all.remaining());
        let (mut moved, appended) = (Outbox::new(), rest.appended());
        for step in steps.into_iter().chain([usize::MAX]) {
            let (before, most) = (moved.remaining(), moved.remaining().saturating_add(step));
            rest.move_messages(&mut moved, step);
            let first = ends.iter().copied().find(|end| *end > before).unwrap_or(whole.len());
            let last = ends.iter().copied().filter(|end| *end <= most).max().unwrap_or(0);
            prop_assert_eq!(moved.remaining(), first.max(last));
            prop_assert_eq!(moved.remaining() + rest.remaining(), whole.len());
        }
        prop_assert_eq!(rest.appended(), appended);
        prop_assert_eq!(moved.appended(), appended);
        prop_assert_eq!(moved.copy_to_bytes(moved.remaining()), whole);
    }

    #[test]
    fn sizes_of_writes_do_not_change_the_bytes(
        bodies in proptest::collection::vec((0_usize..20_000, any::<bool>()), 1..12),
        step in 1_usize..9000,
    ) {
        let (mut one, mut first, mut second) = (Outbox::new(), Outbox::new(), Outbox::new());
        for (seq, (body, flush)) in bodies.into_iter().enumerate() {
            push(&mut one, seq as u64, body);
            push(&mut second, seq as u64, body);
            if flush {
                first.append(&mut second);
            }
        }
        first.append(&mut second);
        prop_assert_eq!(first.appended(), one.appended());
        let whole = one.copy_to_bytes(one.remaining());
        let mut taken = Vec::new();
        while first.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = first.chunks_vectored(&mut slices);
            prop_assert!(filled > 0);
            let seen: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            first.advance(seen.len());
            taken.extend(seen);
        }
        prop_assert_eq!(taken, whole);
    }
}
