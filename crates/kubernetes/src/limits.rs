//! The bounds of what an API server may send.

/// The maximum length of a page of a list or of a watch's line, in bytes. One slice has 1.5 MiB at most, as every object of
/// Kubernetes.
pub(crate) const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// The most slices of one service: with 100 endpoints in each, as many endpoints as are used.
pub(crate) const MAX_SLICES: usize = 10_000;
/// The most endpoints of one service: as many as from the other sources.
pub(crate) const MAX_ENDPOINTS: usize = 100_000;
/// The longest token, and the longest namespace in a file, in bytes.
pub(crate) const MAX_TOKEN_BYTES: u64 = 64 * 1024;
/// The most bytes of certificates in a file.
pub(crate) const MAX_ROOTS_BYTES: u64 = 1024 * 1024;
