//! Types as text, for descriptions, with the usual spacing.

use proc_macro2::{Delimiter, Group, Punct, TokenStream, TokenTree};
use quote::ToTokens;

/// Returns a type as text: `Vec<String>`, while its tokens display as `Vec < String >`.
pub(crate) fn type_text(ty: &impl ToTokens) -> String {
    let mut text = Text::default();
    text.tokens(ty.to_token_stream());
    text.out
}

/// Text that grows by tokens.
#[derive(Default)]
struct Text {
    out: String,
    /// `true` if a word that follows needs a space before it.
    after_word: bool,
}

impl Text {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(ident) => self.word(&ident.to_string()),
                TokenTree::Literal(literal) => self.word(&literal.to_string()),
                TokenTree::Group(group) => self.group(&group),
                TokenTree::Punct(punct) if punct.as_char() == '-' => {
                    tokens.next_if(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == '>'));
                    self.push(" -> ", false);
                }
                TokenTree::Punct(punct) => self.punct(&punct),
            }
        }
    }

    fn word(&mut self, word: &str) {
        if self.after_word {
            self.out.push(' ');
        }
        self.push(word, true);
    }

    fn punct(&mut self, punct: &Punct) {
        match punct.as_char() {
            ',' => self.push(", ", false),
            ';' => self.push("; ", false),
            '+' => self.push(" + ", false),
            '=' => self.push(" = ", false),
            // The end of a list of generics is the end of a name.
            '>' => self.close(">"),
            // A lifetime: its name follows. After `dyn` or another word it needs a space.
            '\'' => {
                self.word("'");
                self.after_word = false;
            }
            other => self.push(other.encode_utf8(&mut [0; 4]), false),
        }
    }

    fn group(&mut self, group: &Group) {
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::Brace => ("{ ", " }"),
            // An invisible group, which a macro puts around its type arguments.
            Delimiter::None => return self.tokens(group.stream()),
        };
        if open == "[" && self.after_word {
            self.out.push(' ');
        }
        self.push(open, false);
        let start = self.out.len();
        self.tokens(group.stream());
        // `(i64,)` needs its comma; elsewhere the last one is dropped.
        if self.out[start..].matches(',').count() == 1 && self.out.ends_with(", ") && open == "(" {
            self.out.pop();
            self.push(close, true);
        } else {
            self.close(close);
        }
    }

    /// Ends a list, without a comma after its last element.
    fn close(&mut self, close: &str) {
        if self.out.ends_with(", ") {
            self.out.truncate(self.out.len() - 2);
        }
        self.push(close, true);
    }

    fn push(&mut self, text: &str, after_word: bool) {
        self.out.push_str(text);
        self.after_word = after_word;
    }
}

#[cfg(test)]
mod tests {
    use syn::Type;

    use super::*;

    #[test]
    fn text_equals_the_usual_notation() {
        for text in [
            "()",
            "i64",
            "Vec<String>",
            "Result<Vec<(i64, String)>, DivideError>",
            "std::collections::HashMap<String, Option<u8>>",
            "::core::option::Option<i64>",
            "(i64,)",
            "[u8; 32]",
            "Cow<'static, str>",
            "Box<dyn Error + Send + 'static>",
            "<Vec<u8> as IntoIterator>::Item",
            "Array<{ 4 }>",
            "fn(&str, u8) -> bool",
            "&'static [u8]",
            "r#type::Of<r#struct>",
        ] {
            let ty: Type = syn::parse_str(text).unwrap();
            assert_eq!(type_text(&ty), text);
        }
    }

    #[test]
    fn trailing_commas_and_line_breaks_are_dropped() {
        let ty: Type = syn::parse_str("HashMap<\n    String,\n    (i64, i64,),\n>").unwrap();
        assert_eq!(type_text(&ty), "HashMap<String, (i64, i64)>");
    }
}
