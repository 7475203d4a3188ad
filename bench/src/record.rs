//! The record of the scenario that is mostly decoding: a struct of 50 strings, 4 KiB in all. Its form is each peer's own; the
//! names of its fields and their texts are here.

use serde::{Deserialize, Serialize};

/// The number of fields.
const FIELDS: usize = 50;
/// The bytes of all texts together.
pub(crate) const RECORD_BYTES: u64 = 4096;

/// Calls a macro with the fields of the record, each with its number in Protocol Buffers.
macro_rules! with_record_fields {
    ($define:ident) => {
        $define! {
            f00 = "1", f01 = "2", f02 = "3", f03 = "4", f04 = "5", f05 = "6",
            f06 = "7", f07 = "8", f08 = "9", f09 = "10", f10 = "11", f11 = "12",
            f12 = "13", f13 = "14", f14 = "15", f15 = "16", f16 = "17", f17 = "18",
            f18 = "19", f19 = "20", f20 = "21", f21 = "22", f22 = "23", f23 = "24",
            f24 = "25", f25 = "26", f26 = "27", f27 = "28", f28 = "29", f29 = "30",
            f30 = "31", f31 = "32", f32 = "33", f33 = "34", f34 = "35", f35 = "36",
            f36 = "37", f37 = "38", f38 = "39", f39 = "40", f40 = "41", f41 = "42",
            f42 = "43", f43 = "44", f44 = "45", f45 = "46", f46 = "47", f47 = "48",
            f48 = "49", f49 = "50",
        }
    };
}
pub(crate) use with_record_fields;

/// Returns the texts of the fields, which differ.
pub(crate) fn texts() -> impl Iterator<Item = &'static str> {
    const LETTERS: &str = concat!(
        "abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz ",
        "abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz abcdefghijklmnopqrstuvwxyz ",
    );
    (0..FIELDS).map(|field| {
        let (least, longer) = (RECORD_BYTES as usize / FIELDS, RECORD_BYTES as usize % FIELDS);
        &LETTERS[field..field + least + usize::from(field < longer)]
    })
}

macro_rules! define {
    ($($field:ident = $number:tt,)+) => {
        /// The record of the peers that encode what serde describes.
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) struct Record {
            $($field: String,)+
        }

        impl Record {
            /// Creates a record, as a caller does that has the texts from elsewhere.
            pub(crate) fn new() -> Self {
                let mut texts = texts();
                let mut next = || texts.next().unwrap_or_default().to_owned();
                Self { $($field: next(),)+ }
            }

            /// Returns the number of bytes in all strings.
            pub(crate) const fn bytes(&self) -> u64 {
                (0 $(+ self.$field.len())+) as u64
            }
        }
    };
}
with_record_fields!(define);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_the_length_that_is_said_and_differ() {
        assert_eq!(Record::new().bytes(), RECORD_BYTES);
        let mut texts: Vec<_> = texts().collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), FIELDS);
    }
}
