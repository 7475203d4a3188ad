//! [`Trick`]: what a hostile server does instead of serving.

use bytes::Bytes;
use farcall::protocol::stream::encode_credit;
use farcall::protocol::{Code, Codec, Compression, Execution, Flags, Header, HeaderRef, Kind, Seq, Status};
use farcall_test_support::frames::{encode, frame};
use serde_json::json;

use crate::peer::Mutator;

/// A trick of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trick {
    ClosesAtOnce,
    HandshakeSilence,
    HandshakeGarbage,
    HandshakeClaims,
    HandshakeEndless,
    OddTerms,
    GoawayAtOnce,
    AnswersNothing,
    ClaimedFrames,
    ShortByOneByte,
    UnaskedAnswers,
    RepeatedAnswers,
    DeepAnswers,
    LyingCounts,
    LyingErrors,
    LyingCompression,
    Lz4Bombs,
    LargeAnswers,
    PingFlood,
    StreamMessages,
    ItemsBeyondCredit,
    WrongKinds,
    MutatedAnswers,
}

/// The largest body of a client's default limits, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The item that comes beyond all credit, in bytes.
const ITEM: usize = 16 * 1024;

impl Trick {
    pub(super) const ALL: [Self; 23] = [
        Self::ClosesAtOnce,
        Self::HandshakeSilence,
        Self::HandshakeGarbage,
        Self::HandshakeClaims,
        Self::HandshakeEndless,
        Self::OddTerms,
        Self::GoawayAtOnce,
        Self::AnswersNothing,
        Self::ClaimedFrames,
        Self::ShortByOneByte,
        Self::UnaskedAnswers,
        Self::RepeatedAnswers,
        Self::DeepAnswers,
        Self::LyingCounts,
        Self::LyingErrors,
        Self::LyingCompression,
        Self::Lz4Bombs,
        Self::LargeAnswers,
        Self::PingFlood,
        Self::StreamMessages,
        Self::ItemsBeyondCredit,
        Self::WrongKinds,
        Self::MutatedAnswers,
    ];

    const fn description(self) -> (&'static str, &'static str) {
        match self {
            Self::ClosesAtOnce => ("closes-at-once", "closes each connection when it is accepted"),
            Self::HandshakeSilence => ("handshake-silence", "accepts, and sends nothing"),
            Self::HandshakeGarbage => ("handshake-garbage", "answers the Option with what is none"),
            Self::HandshakeClaims => ("handshake-claims", "claims an Option of 4 GiB"),
            Self::HandshakeEndless => ("handshake-endless", "sends an Option of 64 KiB, a byte each 20 ms"),
            Self::OddTerms => ("odd-terms", "accepts with limits of 0, of 2^64 - 1, and of other types"),
            Self::GoawayAtOnce => ("goaway-at-once", "says goaway after each handshake"),
            Self::AnswersNothing => ("answers-nothing", "reads calls, and answers none"),
            Self::ClaimedFrames => ("claimed-frames", "claims a frame of 4 GiB"),
            Self::ShortByOneByte => ("short-by-one-byte", "sends answers of 4 MiB without their last byte"),
            Self::UnaskedAnswers => ("unasked-answers", "answers calls that were not made, without end"),
            Self::RepeatedAnswers => {
                ("repeated-answers", "answers each call rightly, then with something else")
            }
            Self::DeepAnswers => ("deep-answers", "answers with 200,000 nested arrays"),
            Self::LyingCounts => {
                ("lying-counts", "answers with texts, arrays and maps of 4 G elements that are empty")
            }
            Self::LyingErrors => {
                ("lying-errors", "answers with errors of unknown codes, and control bytes in them")
            }
            Self::LyingCompression => {
                ("lying-compression", "says that answers are compressed, which they are not")
            }
            Self::Lz4Bombs => ("lz4-bombs", "answers with 16 KiB of lz4 that are 4 MiB, or claim 4 GiB"),
            Self::LargeAnswers => ("large-answers", "answers each call with 4 MiB"),
            Self::PingFlood => ("ping-flood", "sends pings without end"),
            Self::StreamMessages => {
                ("stream-messages", "sends items, credits and stops of calls that do not stream")
            }
            Self::ItemsBeyondCredit => ("items-beyond-credit", "sends items without end, beyond all credit"),
            Self::WrongKinds => ("wrong-kinds", "sends requests, cancels and ends, which are a client's"),
            Self::MutatedAnswers => ("mutated-answers", "answers with mutated messages"),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        self.description().0
    }

    pub(super) const fn summary(self) -> &'static str {
        self.description().1
    }

    /// Returns `true` if the first answer to each call is right, so that no caller may get another one.
    pub(super) const fn is_truthful(self) -> bool {
        matches!(self, Self::RepeatedAnswers | Self::UnaskedAnswers)
    }

    /// Returns what comes instead of an Option; `None` if the handshake is as it should be.
    pub(super) fn option(self, number: usize) -> Option<Vec<u8>> {
        let term = |name: &str, value: serde_json::Value| {
            let mut option = json!({
                "magic_number": 0xCAFE_BABE_u32, "version": 1, "codec_type": "application/json",
                "max_frame_bytes": 4_194_304, "max_in_flight": 1024, "features": ["streams"],
            });
            option[name] = value;
            frame(option.to_string().as_bytes())
        };
        match self {
            Self::ClosesAtOnce | Self::HandshakeSilence => Some(Vec::new()),
            Self::HandshakeGarbage => Some(match number % 5 {
                0 => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
                1 => vec![0; 64],
                2 => frame(b"{}"),
                3 => frame(b"\xFF\xFE not JSON"),
                _ => frame(&[b'['; 60_000]),
            }),
            Self::HandshakeClaims => Some(vec![0xFF; 64 * 1024]),
            Self::OddTerms => Some(match number % 8 {
                0 => term("max_in_flight", json!(0)),
                1 => term("max_frame_bytes", json!(0)),
                2 => term("max_frame_bytes", json!(u64::MAX)),
                3 => term("max_in_flight", json!(-1)),
                4 => term("stream_window", json!(u64::MAX)),
                5 => term("max_streams", json!("many")),
                6 => term("version", json!(2)),
                _ => term("codec_type", json!("\u{1b}[2J")),
            }),
            _ => None,
        }
    }

    /// Returns bytes that are sent without end after the handshake, if there are such.
    pub(super) fn flood(self, codec: &Codec) -> Option<Vec<u8>> {
        let bare = |kind, seq| encode(codec, &HeaderRef::new(kind, Seq(seq)), Bytes::new());
        match self {
            Self::PingFlood => Some(bare(Kind::Ping, 1).repeat(64)),
            Self::UnaskedAnswers => Some(answer(codec, Seq(1 << 40), &43).repeat(64)),
            _ => None,
        }
    }

    /// Returns bytes that are sent once after the handshake.
    pub(super) fn greeting(self, codec: &Codec, number: usize) -> Vec<u8> {
        let bare = |kind| encode(codec, &HeaderRef::new(kind, Seq(1)), Bytes::new());
        match self {
            Self::GoawayAtOnce => encode(codec, &HeaderRef::new(Kind::Goaway, Seq(0)), Bytes::new()),
            Self::ClaimedFrames => vec![0xFF; 1024],
            Self::WrongKinds => bare([Kind::Request, Kind::Cancel, Kind::End][number % 3]),
            _ => Vec::new(),
        }
    }

    /// Returns what follows a request.
    pub(super) fn answer(self, codec: &Codec, request: &Header, mutator: &mut Mutator) -> Vec<u8> {
        let seq = request.seq;
        let right = || answer(codec, seq, &42);
        match self {
            Self::ShortByOneByte => {
                let mut whole = raw_answer(codec, seq, Flags::NONE, vec![b' '; MAX_BODY - 1024]);
                whole.pop();
                whole
            }
            Self::RepeatedAnswers => [right(), answer(codec, seq, &43), answer(codec, seq, &44)].concat(),
            Self::DeepAnswers => {
                let level = if *codec == Codec::Json { b'[' } else { 0x91 };
                raw_answer(codec, seq, Flags::NONE, vec![level; 200_000])
            }
            Self::LyingCounts => {
                const LIES: [u8; 4] = [0xDB, 0xDD, 0xDF, 0xC6];
                let body = [LIES[mutator.number(LIES.len())], 0xFF, 0xFF, 0xFF, 0xFF];
                raw_answer(codec, seq, Flags::NONE, body.to_vec())
            }
            Self::LyingErrors => {
                let long = "a".repeat(30_000);
                let message = ["\u{1b}[2J\nforged line", "\u{202e}", &long][mutator.number(3)];
                let status = Status::new(Code::Internal, Execution::Done, message);
                let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, seq) };
                let whole = encode(codec, &header, Bytes::new());
                if mutator.number(2) == 0 { mutator.mutate(&whole) } else { whole }
            }
            Self::LyingCompression => raw_answer(codec, seq, Flags::COMPRESSED, b"42".to_vec()),
            Self::Lz4Bombs => {
                let mut body = Compression::Lz4.compress(&vec![0; MAX_BODY]).unwrap_or_default().to_vec();
                if mutator.number(2) == 0 {
                    body.splice(..4.min(body.len()), [0xFF; 4]);
                }
                raw_answer(codec, seq, Flags::COMPRESSED, body)
            }
            Self::LargeAnswers => raw_answer(codec, seq, Flags::NONE, vec![b'1'; MAX_BODY - 1024]),
            Self::StreamMessages => {
                let credit = encode_credit(codec, u64::MAX).map(|body| body.into_bytes()).unwrap_or_default();
                let message = |kind, body: Bytes| encode(codec, &HeaderRef::new(kind, seq), body);
                [
                    message(Kind::Item, vec![b'7'].into()),
                    message(Kind::Credit, credit),
                    message(Kind::Credit, vec![0xC1; 9].into()),
                    message(Kind::Stop, Bytes::new()),
                    right(),
                ]
                .concat()
            }
            Self::ItemsBeyondCredit if request.flags.contains(Flags::STREAMING) => {
                encode(codec, &HeaderRef::new(Kind::Item, seq), vec![b'1'; ITEM]).repeat(8 * 1024)
            }
            Self::MutatedAnswers => mutator.mutate(&right()),
            Self::AnswersNothing | Self::UnaskedAnswers | Self::PingFlood => Vec::new(),
            _ => right(),
        }
    }
}

fn answer(codec: &Codec, seq: Seq, value: &i64) -> Vec<u8> {
    let body = codec.encode(value).expect("a number can be encoded");
    encode(codec, &HeaderRef::new(Kind::Response, seq), body)
}

fn raw_answer(codec: &Codec, seq: Seq, flags: Flags, body: Vec<u8>) -> Vec<u8> {
    encode(codec, &HeaderRef { flags, ..HeaderRef::new(Kind::Response, seq) }, body)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tricks_have_names_of_their_own() {
        let names: HashSet<_> = Trick::ALL.iter().map(|trick| trick.name()).collect();
        assert_eq!(names.len(), Trick::ALL.len());
    }
}
