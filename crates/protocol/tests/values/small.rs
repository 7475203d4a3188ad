//! Numbers at the end of their bytes.

use farcall_protocol::{Codec, DecodeError};

#[test]
fn numbers_are_decoded_alike_at_the_end_and_before_others() {
    let edges = (0..64).flat_map(|bit| [-1, 0, 1].map(|step| (1_i128 << bit) + step));
    for number in edges.filter_map(|number| u64::try_from(number).ok()) {
        let body = Codec::MessagePack.encode(&number).unwrap();
        assert_eq!(Codec::MessagePack.decode::<u64>(&body), Ok(number));
        for behind in [0, 8, 9] {
            let list = vec![number; behind + 1];
            let body = Codec::MessagePack.encode(&list).unwrap();
            assert_eq!(Codec::MessagePack.decode::<Vec<u64>>(&body), Ok(list));
        }
    }
    // In longer forms than they need, and cut short.
    for (body, number) in [(&[0xcc, 7][..], 7), (&[0xcd, 0, 7], 7), (&[0xce, 0, 0, 1, 0], 256)] {
        assert_eq!(Codec::MessagePack.decode::<u64>(body), Ok(number));
        let cut = Codec::MessagePack.decode::<u64>(&body[..body.len() - 1]);
        assert!(matches!(cut, Err(DecodeError::Truncated { .. })), "{cut:?}");
    }
}
