//! Trace contexts of calls in the format of W3C Trace Context, and the source of the ids of spans.
//!
//! Spans themselves belong to [`tracing`]. They have no ids that are valid across processes, so this module
//! assigns ids to a call's span: those of a tracing system if a [`Propagator`] for it is installed, else
//! random ones.

mod method_name;

use std::fmt;
use std::sync::OnceLock;

use tracing::Span;
use tracing::field::display;
use tracing::subscriber::NoSubscriber;

pub use self::method_name::MethodName;

/// The metadata key of the vendor-specific state of a trace.
pub const TRACESTATE: &str = "tracestate";

/// The id of a trace: all work, in any number of processes, for one original request. Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span, which is one operation of a trace. Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// The identification of a span across processes: the content of `traceparent`, as defined by the
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

/// The length in bytes of a `traceparent` of version 00, and the minimum of any later version.
const LENGTH: usize = 55;

impl TraceId {
    /// Creates an id from these bytes; `None` if all are zero, which means "no trace".
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// Returns the bytes, in the order of the text.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// Creates an id from these bytes; `None` if all are zero, which means "no span".
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// Returns the bytes, in the order of the text.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    fn random() -> Self {
        Self(fastrand::u64(1..).to_be_bytes())
    }
}

impl TraceContext {
    /// Creates the context of a span; `sampled` means that the caller may have recorded the trace.
    #[must_use]
    pub const fn new(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Self {
        Self { trace_id, span_id, sampled }
    }

    /// Creates the root span of a new trace, sampled.
    #[must_use]
    pub fn root() -> Self {
        Self::new(TraceId(fastrand::u128(1..).to_be_bytes()), SpanId::random(), true)
    }

    /// Creates another span of the same trace, sampled if this one is.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: SpanId::random(), ..*self }
    }

    /// Parses the value of `traceparent`, of version 00, or the part of a later version that version 00
    /// defines.
    ///
    /// `None` if it is malformed, which includes upper case and zero ids: the receiver of such a value must
    /// start a new trace.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Split bytes, not text: a peer may send a multi-byte character across a boundary.
        let (known, rest) = text.as_bytes().split_at_checked(LENGTH)?;
        let [version] = hex(&known[..2])?;
        // Later versions append fields after another dash.
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

    /// Returns the id of the trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// Returns the id of the span.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Returns `true` if the caller may have recorded the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.sampled
    }
}

/// Decodes `N` bytes from `2 * N` lower-case hexadecimal digits.
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
    /// Formats the value of `traceparent`, of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// A tracing system that records spans and assigns them ids.
pub trait Propagator: Send + Sync + 'static {
    /// Makes `parent`, a span of another process or task, the parent of the new span `span`. `state` is the
    /// `tracestate` as received; empty if there is none.
    fn adopt(&self, span: &Span, parent: TraceContext, state: &str);

    /// Returns the context of `span` for other processes, and its `tracestate`, which may be empty. `None` if
    /// the system does not record it, because the current subscriber has no layer of the system.
    fn identify(&self, span: &Span) -> Option<(TraceContext, String)>;
}

static PROPAGATOR: OnceLock<Box<dyn Propagator>> = OnceLock::new();

/// Installs the propagator of the whole process. Returns `false` if one was installed before; that one
/// stays.
pub fn set_propagator(propagator: impl Propagator) -> bool {
    PROPAGATOR.set(Box::new(propagator)).is_ok()
}

/// Returns `true` if a subscriber records `span`.
///
/// An enabled span is not always recorded: on a thread without a subscriber, `tracing` enables spans if
/// another thread has a subscriber, and then drops them.
#[must_use]
pub fn is_seen(span: &Span) -> bool {
    let dropped = span.with_subscriber(|(_, subscriber)| subscriber.is::<NoSubscriber>());
    dropped == Some(false)
}

/// Joins `span`, which is new and enabled, to the trace of `parent`, and records the id of the trace in its
/// field `trace_id`. Returns the context of the span for other processes, and its `tracestate`.
///
/// `remote` means that the span has no parent in this process, so that `parent` becomes its parent.
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
