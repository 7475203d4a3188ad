//! The bounds of what an API server may send.

/// The maximum length of a page of a list or of a watch's line, in bytes. One slice has 1.5 MiB at most, as every object of
/// Kubernetes.
pub(crate) const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// The most slices of one service: with 100 endpoints in each, as many endpoints as are used.
pub(crate) const MAX_SLICES: usize = 10_000;
/// The most bytes of JSON that the slices of one service may have together: five times what 100,000 pods take.
pub(crate) const MAX_SERVICE_BYTES: usize = 256 * 1024 * 1024;
/// The multiple of the time for an answer that all pages of a list may take: 2 minutes by default.
pub(crate) const LIST_TIME_FACTOR: u32 = 12;
/// The longest name of a service, in bytes: that of a label's value.
pub(crate) const MAX_SERVICE_NAME: usize = 63;
/// The most endpoints of one service: as many as from the other sources.
pub(crate) const MAX_ENDPOINTS: usize = 100_000;
/// The longest token, and the longest namespace in a file, in bytes.
pub(crate) const MAX_TOKEN_BYTES: u64 = 64 * 1024;
/// The most bytes of certificates in a file.
pub(crate) const MAX_ROOTS_BYTES: u64 = 1024 * 1024;
