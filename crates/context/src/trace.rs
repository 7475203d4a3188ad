//! Traces: which one a call belongs to, as W3C's Trace Context writes it, and who gives spans their ids.
//!
//! Spans themselves are [`tracing`]'s. They have no ids that another process would understand, so that a
//! call's span is given some here: those that a tracing system has for it, where a [`Propagator`] is
//! installed that knows, else new ones.

mod method_name;

use std::fmt;
use std::sync::OnceLock;

use tracing::Span;
use tracing::field::display;
use tracing::subscriber::NoSubscriber;

pub use self::method_name::MethodName;

/// The metadata key under which a tracing system's own remarks on a trace travel.
pub const TRACESTATE: &str = "tracestate";

/// A trace: all that is done, by however many processes, for one thing that was asked. Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A step of a trace. Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// A step of a trace as other processes know it: what `traceparent` says, of the
/// [Trace Context](https://www.w3.org/TR/trace-context/) recommendation, level 1.
///
/// ```
/// use farcall_context::trace::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context = TraceContext::parse(text).expect("it is well formed");
/// assert_eq!(context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), text);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    sampled: bool,
}

/// The length of a `traceparent` of version 00, and the least of any other.
const LENGTH: usize = 55;

impl TraceId {
    /// The id of these bytes; `None` if all are zero, which stands for no trace.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The bytes, the first of the text first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// The id of these bytes; `None` if all are zero, which stands for no span.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The bytes, the first of the text first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    fn random() -> Self {
        Self(fastrand::u64(1..).to_be_bytes())
    }
}

impl TraceContext {
    /// A step of a trace; `sampled` says that whoever is above it may have recorded it.
    #[must_use]
    pub const fn new(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Self {
        Self { trace_id, span_id, sampled }
    }

    /// The first step of a trace that begins here, sampled.
    #[must_use]
    pub fn root() -> Self {
        Self::new(TraceId(fastrand::u128(1..).to_be_bytes()), SpanId::random(), true)
    }

    /// A further step of the same trace, sampled if this one is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: SpanId::random(), ..*self }
    }

    /// What the value of `traceparent` says, of version 00 or of a later one as far as it can be
    /// understood.
    ///
    /// `None` if it is malformed, upper case and zero ids included: whoever gets such a value is to
    /// begin a new trace.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Bytes, since what a peer sends may have a character across any of the borders.
        let (known, rest) = text.as_bytes().split_at_checked(LENGTH)?;
        let [version] = hex(&known[..2])?;
        // What later versions add stands behind a further dash.
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let dashes = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        if !ends || !dashes {
            return None;
        }
        let trace_id = TraceId::from_bytes(hex(&known[3..35])?)?;
        let span_id = SpanId::from_bytes(hex(&known[36..52])?)?;
        let [flags] = hex(&known[53..])?;
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The step.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Returns `true` if it may have been recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.sampled
    }
}

/// So many bytes of twice as many lower-case digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

impl fmt::Display for TraceContext {
    /// As the value of `traceparent`, of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// A tracing system that spans are recorded for, and that has ids of its own for them.
pub trait Propagator: Send + Sync + 'static {
    /// Makes `parent`, a span of another process or task, the parent of `span`, which was just made.
    /// `state` is the trace's `tracestate`, as it came; empty where there is none.
    fn adopt(&self, span: &Span, parent: TraceContext, state: &str);

    /// What `span` is to other processes, and its `tracestate`, which may be empty. `None` if the
    /// system does not record it: the subscriber in force has none of its layers.
    fn identify(&self, span: &Span) -> Option<(TraceContext, String)>;
}

static PROPAGATOR: OnceLock<Box<dyn Propagator>> = OnceLock::new();

/// Installs what knows the ids of spans, for the whole process. False where another was installed
/// before, which stays: a process has one.
pub fn set_propagator(propagator: impl Propagator) -> bool {
    PROPAGATOR.set(Box::new(propagator)).is_ok()
}

/// Returns `true` if somebody listens to `span`. Beside those that are disabled, nobody does to one of a thread
/// without a subscriber where another thread has one of its own: those are enabled, and lost.
#[must_use]
pub fn is_seen(span: &Span) -> bool {
    let lost = span.with_subscriber(|(_, subscriber)| subscriber.is::<NoSubscriber>());
    lost == Some(false)
}

/// Joins `span`, which was just made and is enabled, to the trace of `parent`, and records the trace's
/// id in its field `trace_id`. Returns what the span is to other processes, and its `tracestate`.
///
/// `remote` says that nothing in this process is the span's parent, so that `parent` has to be.
pub fn join(span: &Span, parent: Option<TraceContext>, state: &str, remote: bool) -> (TraceContext, String) {
    let identified = PROPAGATOR.get().and_then(|propagator| {
        if let Some(parent) = parent.filter(|_| remote) {
            propagator.adopt(span, parent, state);
        }
        propagator.identify(span)
    });
    let (context, state) = identified.unwrap_or_else(|| match parent {
        Some(parent) => (parent.child(), state.to_owned()),
        None => (TraceContext::root(), String::new()),
    });
    span.record("trace_id", display(context.trace_id));
    (context, state)
}

#[cfg(test)]
mod tests;
