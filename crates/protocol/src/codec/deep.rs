//! Stack for decoding values that nest deep, so that no bytes overflow the stack of a thread, which would abort the
//! process.
//!
//! How much stack a level takes depends on the type, and is many times more in a debug build: an untagged enum
//! with a few arrays takes 20 KB. So the levels are counted first. A value of few levels, as most are, is
//! decoded where it is. Any other gets, for each of its levels, as much stack as a level of such a value may take of
//! a thread's.

use crate::limits::MAX_DEPTH;

/// The number of levels that are decoded on the stack of the thread.
pub(super) const SHALLOW: usize = if cfg!(debug_assertions) { 1 } else { 8 };
/// The stack that a thread has by default, in bytes.
const THREAD_STACK: usize = 2 * 1024 * 1024;
/// The stack for each level of a deep value, in bytes: 32 MiB in all in a release build. It is reserved, and takes
/// memory only where it is used.
const LEVEL_STACK: usize = THREAD_STACK / SHALLOW;
/// The largest JSON, in bytes, that is scanned for its levels: for more of it, another stack is cheaper.
#[cfg(feature = "json")]
const MAX_SCANNED: usize = 8 * 1024;

/// Calls `decode` with enough stack for a value of `levels`.
#[inline]
pub(super) fn with_stack<R>(levels: usize, decode: impl FnOnce() -> R) -> R {
    if levels <= SHALLOW { decode() } else { with_another_stack(levels, decode) }
}

#[cold]
#[inline(never)]
fn with_another_stack<R>(levels: usize, decode: impl FnOnce() -> R) -> R {
    // What nests deeper is refused on the way.
    stacker::grow((levels.min(MAX_DEPTH) + 1) * LEVEL_STACK, decode)
}

/// Returns a number of levels that the JSON text `body` does not exceed.
#[cfg(feature = "json")]
#[inline]
pub(super) fn json_levels(body: &[u8]) -> usize {
    // Each level takes two bytes.
    if body.len() <= 2 * SHALLOW { body.len() / 2 } else { count_json_levels(body) }
}

#[cfg(feature = "json")]
#[inline(never)]
fn count_json_levels(body: &[u8]) -> usize {
    // `[` and `{` differ in one bit. Those in strings count too, which may only make it more.
    let opened = body.iter().filter(|byte| **byte | 0x20 == b'{').count();
    if opened <= SHALLOW || body.len() > MAX_SCANNED { opened } else { scan_json_levels(body) }
}

/// Returns the number of levels of a JSON text; of text that is malformed, no less than a parser enters.
#[cfg(feature = "json")]
fn scan_json_levels(body: &[u8]) -> usize {
    let (mut levels, mut deepest) = (0_usize, 0);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                levels += 1;
                deepest = deepest.max(levels);
            }
            b']' | b'}' => levels = levels.saturating_sub(1),
            b'"' => loop {
                match bytes.next() {
                    // The byte after it is part of the string, whatever it is.
                    Some(b'\\') => {
                        bytes.next();
                    }
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    deepest
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), r#"[\[\]{}"\\a]{0,8}"#.prop_map(Value::String)];
        leaf.prop_recursive(12, 60, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((r#"[\[{"\\]{0,3}"#, inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn levels_of_json_are_counted(value in values()) {
            let text = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(scan_json_levels(&text), levels(&value));
            prop_assert!(json_levels(&text) >= levels(&value));
        }

        #[test]
        fn any_bytes_are_scanned_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(json_levels(&bytes) <= bytes.len());
        }
    }
}
