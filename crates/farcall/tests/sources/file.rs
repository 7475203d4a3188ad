//! A file for each service.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::FileDiscovery;
use tempfile::TempDir;

use crate::place::{Source, test_source};
use crate::watcher::instance;

test_source!(Files);

/// A directory of files, which is renamed while it is cut off.
struct Files {
    parent: TempDir,
}

impl Files {
    fn directory(&self) -> PathBuf {
        self.parent.path().join("there")
    }

    fn elsewhere(&self) -> PathBuf {
        self.parent.path().join("elsewhere")
    }
}

impl Source for Files {
    type Discovery = FileDiscovery;

    async fn start(_: Duration) -> Self {
        let files = Self { parent: tempfile::tempdir().unwrap() };
        fs::create_dir(files.directory()).unwrap();
        files
    }

    fn discovery(&self, service: &str) -> FileDiscovery {
        FileDiscovery::new(self.directory().join(service)).poll_interval(Duration::from_millis(20))
    }

    async fn list(&self, service: &str, ports: &[u16]) {
        let addresses: Vec<_> =
            ports.iter().map(|port| format!("\"{}\"", instance(service, *port).addr)).collect();
        let written = self.parent.path().join("written");
        fs::write(&written, format!("[{}]", addresses.join(","))).unwrap();
        let directory = if self.directory().exists() { self.directory() } else { self.elsewhere() };
        fs::rename(written, directory.join(service)).unwrap();
    }

    async fn cut(&self) {
        fs::rename(self.directory(), self.elsewhere()).unwrap();
    }

    async fn restore(&self) {
        fs::rename(self.elsewhere(), self.directory()).unwrap();
    }

    fn connections(&self) -> Option<usize> {
        None
    }
}
