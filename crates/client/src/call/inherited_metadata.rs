//! The metadata that a call has from the handler that makes it.

use farcall_context::Inherited;
use farcall_context::trace::{TRACESTATE, TraceContext};
use farcall_protocol::Metadata;
use farcall_protocol::metadata::{CRITICALITY, RESERVED_PREFIX, TRACEPARENT};

/// Merges inherited metadata, and the call's place in its trace, below the call's own metadata.
pub(super) fn merge(inherited: &mut Inherited, own: &mut Option<Box<Metadata>>) {
    if inherited.metadata.is_none() && inherited.trace.is_none() {
        return;
    }
    let (metadata, trace) = (inherited.metadata.take(), inherited.trace.take());
    let mut merged = metadata.as_deref().cloned().unwrap_or_default();
    merged.retain(|key, _| !key.starts_with(RESERVED_PREFIX) || key == CRITICALITY);
    let trace = trace.as_deref().copied();
    let named = own.as_deref().and_then(|own| own.get(TRACEPARENT));
    if named.is_some() || trace.is_some() {
        let sent = named.map_or(trace, TraceContext::parse);
        let received = merged.get(TRACEPARENT).and_then(TraceContext::parse);
        if received.is_none()
            || received.map(|received| received.trace_id()) != sent.map(|sent| sent.trace_id())
        {
            // The state of one trace is not valid for another.
            merged.remove(TRACESTATE);
        }
    }
    if let Some(trace) = trace {
        merged.insert(TRACEPARENT, trace.to_string()).expect("the key is well formed");
    }
    for (key, value) in own.take().map(|own| *own).unwrap_or_default() {
        // The key was checked when it was set.
        let _ = merged.insert(key, value);
    }
    *own = (!merged.is_empty()).then(|| Box::new(merged));
}
