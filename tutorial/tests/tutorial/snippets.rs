//! Each piece of code of the chapters stands in a file that is compiled.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{blocks, chapters};

/// Returns all sources of a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the code without what its layout decides. An earlier step stands in a separate module, with other paths.
fn code<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let lines = lines.into_iter().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with("use tea_shop::") && !line.starts_with("use super::"));
    let code: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    code.replace(",)", ")").replace(",]", "]")
}

#[test]
fn code_of_the_chapters_is_compiled() {
    let mut files = Vec::new();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&package.join("src"), &mut files);
    sources(&package.join("tests"), &mut files);
    let files: Vec<_> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let files: Vec<_> = files.iter().map(|file| code(file.lines())).collect();

    let mut seen = 0;
    for (name, chapter) in chapters() {
        for block in blocks(&chapter, "rust") {
            let text = block.join("\n");
            let wanted = code(block);
            assert!(files.iter().any(|file| file.contains(&wanted)), "{name}: no source has\n{text}");
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen}");
}
