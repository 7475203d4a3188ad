//! The tutorial is true: its code is that of this package, its commands print what it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod snippets;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the chapters show them; the programs of the package have gone on"
)]
mod steps;
mod testing;
mod transcripts;

use std::path::{Path, PathBuf};

/// Returns the chapters in their order, each with its name.
fn chapters() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    let chapter = |file: &PathBuf| {
        let name = file.file_name().expect("it is a file").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(file).expect("it is text"))
    };
    files.iter().map(chapter).collect()
}

/// Returns the blocks of a chapter in this language, as lines.
fn blocks<'a>(chapter: &'a str, language: &str) -> Vec<Vec<&'a str>> {
    let fence = format!("```{language}");
    let mut blocks = Vec::new();
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        if line == fence {
            blocks.push(lines.by_ref().take_while(|line| *line != "```").collect());
        }
    }
    blocks
}
