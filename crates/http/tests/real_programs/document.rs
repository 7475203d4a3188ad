//! The configurations that `docs/HTTP.md` shows.

/// Returns the only code block in this language, with each text of `replaced` replaced once.
pub(crate) fn block(language: &str, replaced: &[(&str, &str)]) -> String {
    let document = include_str!("../../../../docs/HTTP.md");
    let fence = format!("```{language}\n");
    let mut blocks = document.split(&fence).skip(1);
    let (block, _) = blocks.next().unwrap().split_once("```").unwrap();
    assert_eq!(blocks.next(), None, "there are two blocks of {language}");
    replaced.iter().fold(block.to_owned(), |block, (from, to)| {
        assert_eq!(block.matches(from).count(), 1, "{from} in\n{block}");
        block.replace(from, to)
    })
}
