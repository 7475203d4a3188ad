//! The cases that the recommendation defines, and arbitrary text.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tracing::field::{Empty, Field};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Metadata, Subscriber};

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

#[test]
fn ids_are_shown_in_hexadecimal() {
    let context = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-00")).unwrap();
    assert_eq!(format!("{:?}", context.trace_id()), format!("TraceId({TRACE})"));
    assert_eq!(format!("{:?}", context.span_id()), format!("SpanId({SPAN})"));
    assert_eq!(TraceId::from_bytes(context.trace_id().to_bytes()), Some(context.trace_id()));
    assert_eq!(SpanId::from_bytes(context.span_id().to_bytes()), Some(context.span_id()));
}

/// A subscriber that notes the values that are recorded in spans.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            self.0.lock().unwrap().push(format!("{field}={value:?}"));
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A tracing system that gives all spans one id, and notes the parents that it is told.
struct OneSpan(Arc<Mutex<Vec<String>>>);

fn span_of_system() -> TraceContext {
    TraceContext::parse(&format!("00-{}-{SPAN}-01", TRACE.replace('0', "1"))).unwrap()
}

impl Propagator for OneSpan {
    fn adopt(&self, _: &Span, parent: TraceContext, state: &str) {
        self.0.lock().unwrap().push(format!("{parent} {state}"));
    }

    fn identify(&self, span: &Span) -> Option<(TraceContext, String)> {
        is_seen(span).then(|| (span_of_system(), "state=of-system".to_owned()))
    }
}

// One test, since a propagator is that of the process: all that join traces are here.
#[test]
fn span_has_the_ids_of_the_tracing_system_or_else_random_ones() {
    let parent = TraceContext::parse(&format!("00-{TRACE}-{SPAN}-00")).unwrap();
    let recorder = Recorder::default();
    let joined = |remote| {
        with_default(recorder.clone(), || {
            let span = tracing::info_span!("call", trace_id = Empty);
            assert!(is_seen(&span));
            join(&span, Some(parent), "a=b", remote)
        })
    };
    assert!(!is_seen(&Span::none()));
    let (child, state) = joined(true);
    assert_eq!((child.trace_id(), child.is_sampled(), state.as_str()), (parent.trace_id(), false, "a=b"));
    assert_ne!(child.span_id(), parent.span_id());
    let (root, state) = join(&Span::none(), None, "a=b", true);
    assert!(root.trace_id() != parent.trace_id() && state.is_empty(), "a state belongs to its trace");

    let adopted = Arc::new(Mutex::new(Vec::new()));
    assert!(set_propagator(OneSpan(Arc::clone(&adopted))));
    assert!(!set_propagator(OneSpan(Arc::default())), "the first one stays");
    let of_system = (span_of_system(), "state=of-system".to_owned());
    assert_eq!((joined(false), joined(true)), (of_system.clone(), of_system));
    assert_eq!(*adopted.lock().unwrap(), [format!("{parent} a=b")], "a parent in this process is known");
    let (unseen, _) = join(&Span::none(), Some(parent), "a=b", false);
    assert_eq!(unseen.trace_id(), parent.trace_id());
    let of_system = format!("trace_id={}", span_of_system().trace_id());
    let recorded = recorder.0.lock().unwrap();
    assert_eq!(*recorded, [format!("trace_id={TRACE}"), of_system.clone(), of_system]);
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
