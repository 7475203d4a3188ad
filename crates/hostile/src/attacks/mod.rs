//! The attacks: what each does, against which server, and which bounds must hold.

mod answers;
mod arguments;
mod attack;
mod disorder;
mod floods;
mod http;
mod http_floods;
mod registry_readers;
mod registry_requests;
mod scarce;
mod slow;
mod streams;
mod target;
mod time;

pub(crate) use self::attack::Attack;
pub(crate) use self::target::{GO, READY};

/// Returns all attacks.
pub(crate) fn all() -> Vec<Attack> {
    [
        arguments::attacks(),
        answers::attacks(),
        time::attacks(),
        slow::attacks(),
        floods::attacks(),
        streams::attacks(),
        disorder::attacks(),
        http::attacks(),
        http_floods::attacks(),
        registry_readers::attacks(),
        registry_requests::attacks(),
        scarce::attacks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn attacks_have_names_of_their_own() {
        let attacks = all();
        let names: HashSet<_> = attacks.iter().map(Attack::name).collect();
        assert_eq!(names.len(), attacks.len());
        for attack in &attacks {
            assert!(attack.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(!attack.summary().is_empty());
        }
    }
}
