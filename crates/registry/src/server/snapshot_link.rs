//! [`follow_links`]: finds the file that the snapshot's path means. Reading and writing it is left to others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The links that are followed: as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Returns the file that a path means. Links are followed, also those whose target is not there yet: the snapshot is replaced by a
/// rename, which would put it in place of the link, and two registries could have it under two names. Links that lead to each
/// other are left as they are, and fail when they are used.
pub(super) fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut file = path.to_owned();
    for _ in 0..MAX_LINKS {
        if !fs::symlink_metadata(&file).is_ok_and(|metadata| metadata.is_symlink()) {
            break;
        }
        let target = fs::read_link(&file)?;
        file = file.parent().unwrap_or(Path::new("")).join(target);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use farcall_discovery::Instance;

    use super::*;
    use crate::server::{Registry, RegistryOptions};

    #[test]
    fn links_are_followed_to_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("data")).unwrap();
        symlink("data/snapshot", path("relative")).unwrap();
        symlink(path("relative"), path("absolute")).unwrap();
        symlink("loop", path("loop")).unwrap();
        for name in ["relative", "absolute", "data/snapshot"] {
            assert_eq!(follow_links(&path(name)).unwrap(), path("data/snapshot"), "{name}");
        }
        assert_eq!(follow_links(&path("none")).unwrap(), path("none"));
        assert_eq!(follow_links(&path("loop")).unwrap(), path("loop"));
    }

    #[tokio::test]
    async fn snapshot_behind_a_link_stays_there() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        symlink("real", &link).unwrap();
        let open = || Registry::open(RegistryOptions::default().snapshot(&link));
        for number in 1..=2 {
            let registry = open().await.unwrap();
            let address = format!("tcp@10.0.0.1:{number}").parse().unwrap();
            registry.register(Instance::new("Arith", address)).unwrap();
            registry.close().await;
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(real).unwrap().matches("\"addr\"").count(), 2);
    }
}
