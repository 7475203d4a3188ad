//! Writes the project of the tutorial as it stands at the end of each chapter, as modules that a test compiles.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "tests/tutorial/project.rs"]
mod project;

use project::{Project, chapters, package};

fn main() {
    println!("cargo::rerun-if-changed=../docs/tutorial");
    println!("cargo::rerun-if-changed=src");
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    let mut project = Project::default();
    let mut modules = String::new();
    let mut seen = BTreeSet::new();
    for (name, chapter) in chapters(&package()) {
        project.apply(&name, &chapter);
        // Chapters without a new file repeat the project of the one before.
        if project.files.contains_key("src/lib.rs") && seen.insert(format!("{:?}", project.files)) {
            let number = name.split('-').next().expect("a split has a first part");
            write(&project, &format!("chapter_{number}"), Path::new(&out), &mut modules);
        }
    }
    fs::write(Path::new(&out).join("chapters.rs"), modules).expect("the folder is cargo's");
}

/// Writes the sources of the project, with the paths of a module in place of those of a package.
fn write(project: &Project, name: &str, out: &Path, modules: &mut String) {
    let root = format!("crate::chapters::{name}::");
    let mut programs = String::new();
    writeln!(modules, "pub mod {name} {{").expect("a String takes all");
    for (path, text) in project.files.iter().filter(|(path, _)| path.starts_with("src/")) {
        if path == "src/lib.rs" {
            continue;
        }
        let file = out.join(name).join(path);
        fs::create_dir_all(file.parent().expect("it has a folder")).expect("the folder is cargo's");
        let text = text.replace("crate::", &root).replace("tea_shop::", &root);
        fs::write(&file, text).expect("the folder is cargo's");
        let stem = file.file_stem().expect("it is a file").to_string_lossy().replace('-', "_");
        let module = format!("#[path = {file:?}] pub mod {stem};");
        if path.starts_with("src/bin/") {
            programs.push_str(&module);
        } else if project.files["src/lib.rs"].contains(&format!("pub mod {stem};")) {
            // One that `lib.rs` does not name is not compiled, so that what uses it does not compile either.
            modules.push_str(&module);
        }
    }
    writeln!(modules, "pub mod bin {{ {programs} }} }}").expect("a String takes all");
}
