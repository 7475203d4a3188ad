//! The bounds of what etcd may send.

/// The maximum length of an answer, in bytes. A key with the largest value that etcd takes (1.5 MiB) fits
/// several times; callers that request many keys request pages.
pub(crate) const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
