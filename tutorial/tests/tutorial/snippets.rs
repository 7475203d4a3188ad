//! The project that the chapters say to type and to copy: what it consists of, and that it has what it uses.

use std::collections::BTreeSet;
use std::fs;

use crate::project::{Project, chapters, package};

/// Returns the code without what its layout decides.
fn code(text: &str) -> String {
    let code: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    code.replace(",)", ")").replace(",]", "]")
}

/// Returns `true` if the code names the library of this package.
fn uses(text: &str, library: &str) -> bool {
    text.match_indices(library).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + library.len()..];
        let is_path = after.starts_with("::") || after.starts_with(';');
        is_path && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// Returns the packages of a section of this package's manifest, each with the features that it names there.
fn dependencies(section: &str) -> Vec<(String, BTreeSet<String>)> {
    let manifest = fs::read_to_string(package().join("Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let parse = |line: &str| {
        let name = line.split(['.', ' ']).next().unwrap().to_owned();
        let features =
            line.split_once("features = [").map_or("", |(_, list)| list.split(']').next().unwrap());
        (name, features.split('"').skip(1).step_by(2).map(str::to_owned).collect())
    };
    lines.filter(|line| !line.is_empty()).map(parse).collect()
}

#[test]
fn excerpts_are_parts_of_the_files_of_their_chapter() {
    let mut project = Project::default();
    // A chapter shows what it copies later, or what a later one copies.
    let pages = chapters(&package());
    let mut states = Vec::new();
    for (name, chapter) in &pages {
        project.apply(name, chapter);
        states.push(project.files.values().map(|text| code(text)).collect::<Vec<_>>());
    }
    assert!(project.excerpts.len() >= 12, "{}", project.excerpts.len());
    for (name, excerpt) in &project.excerpts {
        let chapter = pages.iter().position(|(page, _)| page == name).unwrap();
        let wanted = code(excerpt);
        let found = states[chapter..].iter().flatten().any(|file| file.contains(&wanted));
        assert!(found, "{name}: no file of the project has\n{excerpt}");
    }
}

#[test]
fn each_package_is_added_before_a_chapter_uses_it() {
    let mut project = Project::default();
    let mut used = BTreeSet::new();
    for (name, chapter) in chapters(&package()) {
        project.apply(&name, &chapter);
        for (package, _) in dependencies("[dependencies]") {
            let library = match package.as_str() {
                "farcall-registry-server" => "registry_server".to_owned(),
                _ => package.replace('-', "_"),
            };
            for (path, _) in project.files.iter().filter(|(_, text)| uses(text, &library)) {
                assert!(project.packages.contains_key(&package), "{name}: {path} uses {package}");
                used.insert(package.clone());
            }
        }
    }
    let added: BTreeSet<_> = project.packages.into_keys().collect();
    assert_eq!(used, added, "what is added is used");
}

#[test]
fn reader_has_the_features_of_this_package() {
    let mut project = Project::default();
    chapters(&package()).iter().for_each(|(name, chapter)| project.apply(name, chapter));
    for (package, features) in
        dependencies("[dependencies]").into_iter().chain(dependencies("[dev-dependencies]"))
    {
        let Some(added) = project.packages.get(&package) else {
            assert_eq!(package, "tempfile", "it is for the tests of the pages alone");
            continue;
        };
        let is_added = |feature: &&String| !added.contains(*feature);
        let lacking: Vec<_> = features.iter().filter(is_added).collect();
        // tokio's feature `full` is all but this one.
        let lacking =
            lacking.into_iter().filter(|&feature| !added.contains("full") || feature == "test-util");
        assert_eq!(lacking.count(), 0, "{package}: the reader adds {added:?}, this package {features:?}");
    }
}
