//! A terminal that tests type into and read.

use std::process::Command;

use super::until;

/// A terminal of tmux, which ends with it.
pub(crate) struct Tmux(String);

impl Tmux {
    /// Runs a shell whose prompt has a `$` in a terminal with this number of columns; `name` is that of no other test.
    pub(crate) fn start(name: &str, columns: u16, shell: &str) -> Self {
        let tmux = Self(format!("farcall-{name}-{}", std::process::id()));
        tmux.run(&["new-session", "-d", "-x", &columns.to_string(), "-y", "20", shell]);
        until("a shell", || tmux.screen().contains('$'));
        tmux
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.0]).args(arguments).output();
        String::from_utf8(output.expect("tmux is needed; `./test` installs it").stdout).unwrap()
    }

    pub(crate) fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}
