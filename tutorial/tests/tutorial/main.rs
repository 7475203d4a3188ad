//! The tutorial is true: its code is compiled as its reader types it, its commands print what it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[allow(dead_code, unreachable_pub, reason = "it is compiled; the programs of the package have gone on")]
mod chapters {
    include!(concat!(env!("OUT_DIR"), "/chapters.rs"));
}
mod project;
mod reports;
mod snippets;
mod testing;
mod transcripts;
