//! [`Project`]: the files of a new service, made of the templates in `templates/service`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::name::Names;
use crate::failure::Failure;

/// The files of a project and their templates. Cargo leaves folders with a `Cargo.toml` out of a package, so that
/// templates of manifests have another name, and so have those whose names begin with a dot.
const FILES: [(&str, &str); 20] = [
    (".dockerignore", include_str!("../../../templates/service/dockerignore")),
    (".gitignore", include_str!("../../../templates/service/gitignore")),
    ("Cargo.toml", include_str!("../../../templates/service/Cargo.toml.in")),
    ("Dockerfile", include_str!("../../../templates/service/Dockerfile")),
    ("README.md", include_str!("../../../templates/service/README.md")),
    ("api/Cargo.toml", include_str!("../../../templates/service/api/Cargo.toml.in")),
    ("api/src/lib.rs", include_str!("../../../templates/service/api/src/lib.rs")),
    ("client/Cargo.toml", include_str!("../../../templates/service/client/Cargo.toml.in")),
    ("client/src/main.rs", include_str!("../../../templates/service/client/src/main.rs")),
    ("client/src/settings.rs", include_str!("../../../templates/service/client/src/settings.rs")),
    ("deploy/config.toml", include_str!("../../../templates/service/deploy/config.toml")),
    ("deploy/my-service.service", include_str!("../../../templates/service/deploy/my-service.service")),
    ("rustfmt.toml", include_str!("../../../templates/service/rustfmt.toml")),
    ("server/Cargo.toml", include_str!("../../../templates/service/server/Cargo.toml.in")),
    ("server/src/greeter.rs", include_str!("../../../templates/service/server/src/greeter.rs")),
    ("server/src/lib.rs", include_str!("../../../templates/service/server/src/lib.rs")),
    ("server/src/main.rs", include_str!("../../../templates/service/server/src/main.rs")),
    ("server/src/process.rs", include_str!("../../../templates/service/server/src/process.rs")),
    ("server/src/settings.rs", include_str!("../../../templates/service/server/src/settings.rs")),
    ("server/tests/loopback.rs", include_str!("../../../templates/service/server/tests/loopback.rs")),
];

/// The place that a project has farcall from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// crates.io, in the version of this command.
    Published,
    /// The folder of the crate `farcall`.
    Path(PathBuf),
    /// The URL of a repository.
    Git(String),
}

/// A new service.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) names: Names,
    pub(super) source: Source,
}

impl Project {
    /// Writes all files into a folder, which must be missing or empty; returns how many there are.
    pub(super) fn write(&self, folder: &Path) -> Result<usize, Failure> {
        let failed = |path: &Path, error: &io::Error| Failure::local(format!("{}: {error}", path.display()));
        match fs::read_dir(folder) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    let message = format!("the folder {} is there, and not empty", folder.display());
                    return Err(Failure::usage(message).with_hint("nothing was written".to_owned()));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(folder, &error)),
        }
        let mut written = 0;
        for (name, template) in FILES {
            let path = folder.join(self.fill(name));
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
            // Never over a file that was made meanwhile.
            let file = File::create_new(&path);
            let done = file.and_then(|mut file| file.write_all(self.fill(template).as_bytes()));
            done.map_err(|error| failed(&path, &error))?;
            written += 1;
        }
        Ok(written)
    }

    /// Replaces the names in a template. What was put in is not looked at again: it may contain a template's name.
    fn fill(&self, template: &str) -> String {
        let source = self.dependency();
        let names = &self.names;
        let words = [
            ("my-service", names.package.as_str()),
            ("my_service", &names.identifier),
            ("MY_SERVICE", &names.variable),
            ("MyService", &names.service),
            (r#"version = "0.0.0-farcall""#, &source),
        ];
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        let first = |rest: &str| {
            let places = words.iter().filter_map(|word| rest.find(word.0).map(|at| (at, *word)));
            places.min_by_key(|(at, _)| *at)
        };
        while let Some((at, (word, name))) = first(rest) {
            filled.push_str(&rest[..at]);
            filled.push_str(name);
            rest = &rest[at + word.len()..];
        }
        filled.push_str(rest);
        filled
    }

    /// Returns the beginning of the dependency on farcall.
    fn dependency(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match &self.source {
            Source::Published => format!("version = \"{}\"", env!("CARGO_PKG_VERSION")),
            Source::Path(path) => format!("path = {}", quoted(&path.to_string_lossy())),
            Source::Git(url) => format!("git = {}", quoted(url)),
        }
    }
}
