//! [`Project`]: what a reader has typed and copied, chapter by chapter. Compiling it is left to `build.rs` and to
//! `main.rs`, running it to `transcripts.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of this repository, as the reader's commands name it.
const CLONE: &str = "../farcall/";

/// The reader's project.
#[derive(Debug, Default)]
pub(crate) struct Project {
    /// The files, by their paths in the project.
    pub(crate) files: BTreeMap<String, String>,
    /// The packages that were added, each with the features that were named.
    pub(crate) packages: BTreeMap<String, BTreeSet<String>>,
    /// The pieces of code that belong into no named file, each with its chapter: they are parts of files.
    pub(crate) excerpts: Vec<(String, String)>,
}

impl Project {
    /// Does what a chapter says.
    pub(crate) fn apply(&mut self, name: &str, chapter: &str) {
        for block in blocks(chapter) {
            match block.language {
                "rust" => match block.file() {
                    Some(file) => drop(self.files.insert(file.to_owned(), block.text())),
                    None => self.excerpts.push((name.to_owned(), block.text())),
                },
                "sh" => block.lines.iter().for_each(|line| self.run(line)),
                _ => {}
            }
        }
    }

    /// Does what a command does to the project, if it is one of those that the chapters use for that.
    fn run(&mut self, command: &str) {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["cargo", "add", ..] => self.add(&words[2..]),
            ["cp", from, to] => {
                let from = from.strip_prefix(CLONE).expect("copies are from the repository");
                for file in copied(&repository().join(from)) {
                    let name = file.file_name().expect("it is a file").to_string_lossy();
                    self.files.insert(format!("{to}{name}"), fs::read_to_string(&file).expect("it is there"));
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, words: &[&str]) {
        let mut features = BTreeSet::new();
        let mut names = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--features" => {
                    let list = words.next().expect("features follow");
                    features.extend(list.split(',').map(str::to_owned));
                }
                "--path" => drop(words.next()),
                "--dev" => {}
                name => names.push(name.to_owned()),
            }
        }
        for name in names {
            self.packages.entry(name).or_default().extend(features.iter().cloned());
        }
    }
}

/// Returns the files that the last argument but one of `cp` means: one, or `*.rs` of a folder.
fn copied(from: &Path) -> Vec<PathBuf> {
    if from.file_name().is_some_and(|name| name == "*.rs") {
        let folder = fs::read_dir(from.parent().expect("it has a folder")).expect("it is there");
        folder.map(|entry| entry.expect("it can be read").path()).collect()
    } else {
        vec![from.to_owned()]
    }
}

/// Returns the file that the line before a block names as the block's, as in "Write `src/bin/buy.rs`:".
fn file_before(line: &str) -> Option<&str> {
    // In prose the file may be the subject of the sentence: "`src/lib.rs` becomes:".
    let mut words = line.strip_suffix(':')?.split('`').skip(1).step_by(2);
    words.find(|word| (word.starts_with("src/") || word.starts_with("tests/")) && word.ends_with(".rs"))
}

/// A block of code of a chapter.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// The language, such as `rust`.
    pub(crate) language: &'a str,
    /// The last line of text before it.
    pub(crate) before: &'a str,
    /// The lines.
    pub(crate) lines: Vec<&'a str>,
}

impl Block<'_> {
    /// Returns the file that it is, if it is a whole one.
    pub(crate) fn file(&self) -> Option<&str> {
        file_before(self.before)
    }

    pub(crate) fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// Returns the blocks of a chapter in their order.
pub(crate) fn blocks(chapter: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = chapter.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let lines = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language, before, lines });
            before = "";
        } else if !line.is_empty() {
            before = line;
        }
    }
    blocks
}

/// Returns the folder of this package.
pub(crate) fn package() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it").into()
}

fn repository() -> PathBuf {
    package().join("..")
}

/// Returns the pages in the order in which they are read, each with its name.
pub(crate) fn chapters(package: &Path) -> Vec<(String, String)> {
    let folder = package.join("../docs/tutorial");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    // The README makes the package.
    files.sort_by_key(|file| (!file.ends_with("README.md"), file.clone()));
    let chapter = |file: &PathBuf| {
        let name = file.file_name().expect("it is a file").to_string_lossy().into_owned();
        (name, fs::read_to_string(file).expect("it is text"))
    };
    files.iter().map(chapter).collect()
}
