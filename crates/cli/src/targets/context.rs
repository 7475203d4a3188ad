//! [`Context`]: a named target in `~/.config/farcall/contexts.toml`, with everything that goes with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use farcall::protocol::text::excerpt;
use serde::Deserialize;

use crate::failure::Failure;
use crate::files::read_settings;

/// The variable that names another file of contexts.
const FILE_VARIABLE: &str = "FARCALL_CONTEXTS";
/// The characters of a line that an error shows.
const MAX_LINE_CHARS: usize = 160;

/// One context of the file. Flags of the command line replace what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Context {
    /// Addresses, or the URL of a registry.
    pub(crate) target: String,
    /// The service to look for in a registry.
    pub(crate) service: Option<String>,
    /// Trusted authorities, in PEM. Paths are relative to the file of contexts.
    pub(crate) ca: Option<PathBuf>,
    /// The client's certificate.
    pub(crate) cert: Option<PathBuf>,
    /// The key of the certificate.
    pub(crate) key: Option<PathBuf>,
    /// The name that the server's certificate must be for.
    pub(crate) server_name: Option<String>,
    /// The token of the servers: the first line of a file.
    pub(crate) token_file: Option<PathBuf>,
    /// The token of the servers: a variable.
    pub(crate) token_env: Option<String>,
    /// The token of the servers: what a command prints.
    pub(crate) token_command: Option<String>,
    /// The token of the registry, or `name:password`: the first line of a file.
    pub(crate) registry_token_file: Option<PathBuf>,
    /// The time limit of a call, such as `5s`.
    pub(crate) timeout: Option<String>,
    /// The time limit of connecting.
    pub(crate) connect_timeout: Option<String>,
    /// Metadata of each call.
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Context {
    /// Reads the context of this name from the user's file.
    pub(crate) fn load(name: &str) -> Result<Self, Failure> {
        let path = path()?;
        let text = read_settings(&path).map_err(|error| {
            Failure::usage(format!("the context @{name}: {error}"))
                .with_hint("write one like this: [shop] target = \"tls@10.0.0.3:7001\"".to_owned())
        })?;
        let mut contexts =
            parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let names: Vec<_> = contexts.keys().map(|name| format!("@{name}")).collect();
        let context = contexts.remove(name).ok_or_else(|| {
            Failure::usage(format!("there is no context @{name} in {}", path.display()))
                .with_hint(format!("there are {}", names.join(", ")))
        })?;
        Ok(context.relative_to(path.parent().unwrap_or(Path::new("."))))
    }

    /// Makes relative paths those of the folder that the file is in.
    fn relative_to(mut self, folder: &Path) -> Self {
        let paths = [
            &mut self.ca,
            &mut self.cert,
            &mut self.key,
            &mut self.token_file,
            &mut self.registry_token_file,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        self
    }
}

/// Returns the names of all contexts.
///
/// # Errors
///
/// The file cannot be read.
pub(crate) fn names() -> Result<Vec<String>, Failure> {
    let path = path()?;
    let text = read_settings(&path).map_err(Failure::usage)?;
    let contexts = parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(contexts.into_keys().collect())
}

/// Parses a file of contexts.
///
/// # Errors
///
/// The place in the file, and what is wrong there.
fn parse(text: &str) -> Result<BTreeMap<String, Context>, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        // It shows the line of the mistake, however long that is.
        let text = error.to_string();
        let lines: Vec<_> = text.trim_end().lines().map(|line| excerpt(line, MAX_LINE_CHARS)).collect();
        lines.join("\n")
    })
}

/// Returns the path of the file: that of the variable, or in the user's folder for configuration.
fn path() -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = || variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    variable(FILE_VARIABLE)
        .or_else(|| Some(folder()?.join("farcall/contexts.toml")))
        .ok_or_else(|| Failure::usage("there is no file of contexts: HOME is not set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_paths_relative_to_their_file() {
        let text = "[shop]\ntarget = \"tls@10.0.0.3:7001\"\nca = \"ca.pem\"\ntoken-env = \"T\"\n\
                    [shop.metadata]\ntenant = \"blue\"\n";
        let shop = parse(text).unwrap().remove("shop").unwrap().relative_to(Path::new("/etc/f"));
        assert_eq!(shop.ca.as_deref(), Some(Path::new("/etc/f/ca.pem")));
        assert_eq!(shop.metadata["tenant"], "blue");
    }

    #[test]
    fn long_line_is_cut_in_the_error() {
        let error = parse(&format!("[shop]\n{} = 1\n", "x".repeat(100_000))).unwrap_err();
        assert!(error.len() < 1000 && error.contains("line 2"), "{error}");
    }

    #[test]
    fn token_in_the_file_itself_is_refused() {
        let error = parse("[shop]\ntarget = \"h:1\"\ntoken = \"s3cret\"\n").unwrap_err();
        assert!(error.contains("unknown field `token`") && error.contains("line 3"), "{error}");
    }
}
