//! [`Method`]: a handler, its statistics, and the judgements if its calls are quick.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use farcall_protocol::ByteStr;
use farcall_protocol::describe::StreamInfo;
use farcall_transport::log::LogThrottle;

use crate::observe::stats::Stats;
use crate::service::handler::Handler;
use crate::service::judgement::{ArgumentSize, Judgement, MAX_QUICK_POLL};

/// A method of the server.
pub(crate) struct Method {
    /// The full name, such as `Arith.multiply`.
    pub(crate) name: String,
    /// The same, for the contexts of calls.
    shared_name: ByteStr,
    pub(crate) handler: Arc<dyn Handler>,
    /// `true` if callers send items.
    pub(crate) takes_items: bool,
    /// `true` if callers get items.
    pub(crate) sends_items: bool,
    /// `true` if calls with the same key are carried out once.
    pub(crate) once: bool,
    pub(crate) stats: Stats,
    /// The position among the methods of the server.
    pub(crate) index: usize,
    /// `true` once a call has needed a task, in a server with an adaptive limit. Never for reserved methods, which are not limited.
    pub(crate) has_tasks: AtomicBool,
    /// `true` if it belongs to the protocol.
    pub(crate) is_reserved: bool,
    judgements: [Judgement; ArgumentSize::COUNT],
    /// The polls of streaming calls, each of which is judged as a call is: one may last for days.
    stream_polls: AtomicU64,
    /// For the lines about panics of the handler, which a caller may cause.
    pub(crate) panic_log: LogThrottle,
}

impl Method {
    /// Creates the method that has `index` among those of the server.
    pub(crate) fn new(
        name: String,
        handler: Arc<dyn Handler>,
        streams: &StreamInfo,
        once: bool,
        index: usize,
        is_reserved: bool,
    ) -> Self {
        let judgements = [const { Judgement::new() }; ArgumentSize::COUNT];
        let shared_name = ByteStr::from(&*name);
        Self {
            name,
            shared_name,
            handler,
            takes_items: streams.takes,
            sends_items: streams.sends,
            once,
            stats: Stats::default(),
            index,
            has_tasks: AtomicBool::new(false),
            is_reserved,
            judgements,
            stream_polls: AtomicU64::new(0),
            panic_log: LogThrottle::new(),
        }
    }

    /// Returns `true` if this is its name.
    #[inline]
    pub(crate) fn is_named(&self, name: &ByteStr) -> bool {
        self.shared_name == *name
    }

    /// Returns its name, for the context of a call.
    #[inline]
    pub(crate) const fn shared_name(&self) -> &ByteStr {
        &self.shared_name
    }

    /// Replaces the name of a call if it keeps the buffer that the request was read into: a call may go on for long, and
    /// other messages share the buffer.
    #[inline]
    pub(crate) fn detach_name(&self, named: &mut ByteStr) {
        if named.is_shared() {
            self.replace_name(named);
        }
    }

    #[inline(never)]
    fn replace_name(&self, named: &mut ByteStr) {
        if **named == *self.name {
            *named = self.shared_name.clone();
        }
    }

    /// Returns `true` if its calls stream.
    pub(crate) const fn streams(&self) -> bool {
        self.takes_items || self.sends_items
    }

    /// Returns the judgement if calls with arguments of this size are quick.
    #[inline]
    pub(crate) fn judgement(&self, size: ArgumentSize) -> &Judgement {
        &self.judgements[size.index()]
    }

    /// Returns the number of calls and of polls of streaming calls: of all that was judged.
    pub(crate) fn judged(&self) -> u64 {
        self.stats.calls() + self.stream_polls.load(Relaxed)
    }

    /// Counts a poll of a streaming call.
    #[inline]
    pub(crate) fn note_stream_poll(&self) {
        self.stream_polls.fetch_add(1, Relaxed);
    }

    /// Records the time of one poll on a thread that runs connections. Returns `true` if it was too long.
    #[inline]
    pub(crate) fn polled(&self, size: ArgumentSize, took: Duration) -> bool {
        let slow = took > MAX_QUICK_POLL;
        if slow {
            self.judgement(size).suspect(self.judged(), took);
        }
        slow
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method").field("name", &self.name).finish_non_exhaustive()
    }
}
