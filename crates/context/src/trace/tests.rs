//! The cases that the recommendation defines, and arbitrary text.

use proptest::prelude::*;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn sampled(text: &str) -> Option<bool> {
    TraceContext::parse(text).map(|context| context.is_sampled())
}

#[test]
fn version_00_has_four_fields_and_nothing_else() {
    let text = format!("00-{TRACE}-{SPAN}-01");
    let context = TraceContext::parse(&text).unwrap();
    assert_eq!(context.trace_id().to_string(), TRACE);
    assert_eq!(context.span_id().to_string(), SPAN);
    assert_eq!(context.to_string(), text);
    assert_eq!(sampled(&format!("00-{TRACE}-{SPAN}-00")), Some(false));
    for more in ["-", "-01", "0", " "] {
        assert_eq!(TraceContext::parse(&format!("{text}{more}")), None, "{more:?}");
    }
}

#[test]
fn sampled_is_the_only_flag_that_is_read_and_written() {
    assert_eq!(sampled(&format!("00-{TRACE}-{SPAN}-fe")), Some(false));
    let context = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-ff")).unwrap();
    assert_eq!(context.to_string(), format!("00-{TRACE}-{SPAN}-01"));
}

#[test]
fn fields_of_version_00_are_read_from_later_versions() {
    let known = format!("-{TRACE}-{SPAN}-01");
    for text in [format!("01{known}"), format!("cc{known}-what-the-future-brings"), format!("fe{known}-")] {
        let context = TraceContext::parse(&text).unwrap();
        assert_eq!(context.to_string(), format!("00{known}"), "{text}");
    }
    assert_eq!(TraceContext::parse(&format!("01{known}.more")), None, "added fields follow a dash");
    assert_eq!(TraceContext::parse(&format!("ff{known}")), None, "there is no such version");
}

#[test]
fn ids_of_only_zeros_are_refused() {
    let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
    assert_eq!(TraceContext::parse(&format!("00-{no_trace}-{SPAN}-01")), None);
    assert_eq!(TraceContext::parse(&format!("00-{TRACE}-{no_span}-01")), None);
    assert_eq!((TraceId::from_bytes([0; 16]), SpanId::from_bytes([0; 8])), (None, None));
}

#[test]
fn malformed_text_is_refused() {
    let good = format!("00-{TRACE}-{SPAN}-01");
    for text in ["", "00", "00-1-2-00", &good[..54], &good.to_uppercase(), &format!(" {}", &good[1..])] {
        assert_eq!(TraceContext::parse(text), None, "{text:?}");
    }
    for at in 0..good.len() {
        for wrong in ["g", "A", "_", "-", "ä"] {
            let mut text = good.clone();
            text.replace_range(at..=at, wrong);
            // `ä` takes two bytes; drop one at the end to keep the length.
            text.truncate(text.len() - (wrong.len() - 1) * usize::from(at + 1 < good.len()));
            assert!(text == good || TraceContext::parse(&text).is_none(), "{text:?}");
        }
    }
}

#[test]
fn child_shares_the_trace_and_sampling_of_its_parent() {
    let parent = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-00")).unwrap();
    let child = parent.child();
    assert_eq!((child.trace_id(), child.is_sampled()), (parent.trace_id(), false));
    assert_ne!(child.span_id(), parent.span_id());
    assert_ne!(TraceContext::root().trace_id(), TraceContext::root().trace_id());
    assert!(TraceContext::root().is_sampled());
}

proptest! {
    #[test]
    fn context_survives_formatting_and_parsing(trace in 1_u128.., span in 1_u64.., sampled in any::<bool>()) {
        let trace = TraceId::from_bytes(trace.to_be_bytes()).unwrap();
        let context = TraceContext::new(trace, SpanId::from_bytes(span.to_be_bytes()).unwrap(), sampled);
        prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
    }

    #[test]
    fn parsing_any_text_never_panics_and_formatting_restores_it(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-0[01].{0,3}|.*") {
        if let Some(context) = TraceContext::parse(&text) {
            prop_assert_eq!(&context.to_string()[2..], &text[2..LENGTH]);
        }
    }
}
