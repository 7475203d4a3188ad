//! [`Report`]: the lines of the doctor, each right, to be thought about, or wrong with a cure.

/// The lines of the report, and if one of them is bad.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) text: String,
    pub(super) has_failed: bool,
}

impl Report {
    pub(super) fn ok(&mut self, what: &str, found: impl AsRef<str>) {
        let green = anstyle::AnsiColor::Green.on_default();
        self.text.push_str(&format!("  {green}ok{green:#}    {what:<10} {}\n", found.as_ref()));
    }

    pub(super) fn bad(&mut self, what: &str, found: impl AsRef<str>, cure: &str) {
        let red = anstyle::AnsiColor::Red.on_default();
        self.has_failed = true;
        self.text.push_str(&format!("  {red}bad{red:#}   {what:<10} {}\n", found.as_ref()));
        self.text.push_str(&format!("                   do: {cure}\n"));
    }

    /// Adds something that may be right, with what to do if it is not.
    pub(super) fn note(&mut self, what: &str, found: impl AsRef<str>, cure: &str) {
        let yellow = anstyle::AnsiColor::Yellow.on_default();
        self.text.push_str(&format!("  {yellow}note{yellow:#}  {what:<10} {}\n", found.as_ref()));
        self.text.push_str(&format!("                   do: {cure}\n"));
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.text.push_str(&format!("{text}\n"));
    }
}
