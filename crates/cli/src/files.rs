//! Reading files within limits. Their content is left to the callers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::failure::Failure;

/// The largest file of settings or certificates, in bytes.
pub(crate) const MAX_SETTINGS_BYTES: u64 = 1024 * 1024;
/// The largest document, such as a schema or a report, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Reads a file that stays where it is, such as one of settings: it must be a regular file of at most 1 MiB.
pub(crate) fn read_settings(path: &Path) -> Result<String, String> {
    let bytes = farcall_tls::read_file(path, MAX_SETTINGS_BYTES).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| format!("the file {} is not UTF-8", path.display()))
}

/// Reads a document of at most 64 MiB, which may come through a pipe, such as that of `<(command)` in a shell.
pub(crate) fn read_document(path: &Path) -> Result<String, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let mut file = File::open(path).map_err(|error| wrong(&error))?.take(MAX_DOCUMENT_BYTES + 1);
    file.read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(wrong(&format_args!("it has more than {MAX_DOCUMENT_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_an_end_are_refused() {
        for path in ["/dev/zero", "/tmp"] {
            let error = read_settings(Path::new(path)).unwrap_err();
            assert!(error.contains("is not a regular file"), "{error}");
        }
        let error = format!("{:?}", read_document(Path::new("/dev/zero")).unwrap_err());
        assert!(error.contains("more than 67108864 bytes"), "{error}");
    }
}
