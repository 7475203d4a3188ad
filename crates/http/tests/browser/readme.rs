//! The examples in the README of the client: each block is a separate module, and a comment behind each
//! `console.log` has the line that it prints.

const README: &str = include_str!("../../../../clients/javascript/README.md");

/// A code block of JavaScript.
pub(crate) struct Example {
    pub(crate) code: &'static str,
    /// The lines that it must print.
    pub(crate) prints: Vec<&'static str>,
}

pub(crate) fn examples() -> impl Iterator<Item = Example> {
    README.split("\n```js\n").skip(1).map(|rest| {
        let code = rest.split_once("\n```\n").expect("a block has an end").0;
        let printed =
            |line: &'static str| Some(line.trim_start().strip_prefix("console.log(")?.split_once("; // ")?.1);
        Example { code, prints: code.lines().filter_map(printed).collect() }
    })
}

/// Returns the number of lines that an example prints.
pub(crate) fn logs(code: &str) -> usize {
    code.matches("console.log(").count()
}
