//! Methods as servers describe them: finding one by name, its signature, and the nearest names to a wrong one.

use farcall::protocol::describe::{MethodInfo, ServiceInfo};

use crate::output::escape::word;

/// The least similarity of a name that is suggested, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.7;

/// Returns the method of this full name, such as `Arith.multiply`.
pub(crate) fn find<'a>(services: &'a [ServiceInfo], method: &str) -> Option<&'a MethodInfo> {
    let (service, name) = method.rsplit_once('.')?;
    let service = services.iter().find(|known| known.name == service)?;
    service.methods.iter().find(|known| known.name == name)
}

/// Returns the full names of all methods.
pub(crate) fn names(services: &[ServiceInfo]) -> impl Iterator<Item = String> {
    services.iter().flat_map(|service| {
        service.methods.iter().map(move |method| format!("{}.{}", service.name, method.name))
    })
}

/// Returns a sentence about an unknown method: the nearest one, or all of its service.
pub(crate) fn suggestion(services: &[ServiceInfo], method: &str) -> Option<String> {
    if let Some(near) = nearest(names(services), method) {
        return Some(format!("did you mean `{}`?", word(&near)));
    }
    let services: Vec<_> = services.iter().map(|service| word(&service.name)).collect();
    (!services.is_empty())
        .then(|| format!("the services are {}; `farcall ls` lists their methods", services.join(", ")))
}

/// Returns the name that is most like `wanted`, if one is like it at all. The case does not matter.
pub(crate) fn nearest(names: impl Iterator<Item = String>, wanted: &str) -> Option<String> {
    let wanted = wanted.to_lowercase();
    let similar = |name: String| {
        let lower = name.to_lowercase();
        // A method without its service is like the whole name.
        let without = lower.rsplit_once('.').map_or(lower.as_str(), |(_, method)| method);
        let similarity = strsim::jaro_winkler(&lower, &wanted).max(strsim::jaro_winkler(without, &wanted));
        (similarity, name)
    };
    let best = names.map(similar).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= MIN_SIMILARITY).then_some(best.1)
}

/// Returns the signature as in the source: `(a: i64, b: i64) -> i64`.
pub(crate) fn signature(method: &MethodInfo) -> String {
    let params: Vec<_> = method
        .params
        .iter()
        .map(|param| format!("{}: {}", word(&param.name), word(&param.type_name)))
        .collect();
    let returns = match method.returns.as_str() {
        "" | "()" => String::new(),
        returns => format!(" -> {}", word(returns)),
    };
    format!("({}){returns}", params.join(", "))
}

/// Returns the items of the method, as in `, takes i64, sends String`; empty if it has none.
pub(crate) fn items(method: &MethodInfo) -> String {
    let streams = &method.streams;
    let directions =
        [(streams.takes, "takes", &streams.in_type), (streams.sends, "sends", &streams.out_type)];
    let there = directions.into_iter().filter(|(is_there, ..)| *is_there);
    there
        .map(|(_, verb, item)| {
            format!(", {verb} {}", item.as_deref().map_or_else(|| "items".to_owned(), word))
        })
        .collect()
}

/// Returns what repeating a call of the method means; empty if it may do the work twice.
pub(crate) const fn idempotence(method: &MethodInfo) -> &'static str {
    if method.idempotent {
        "idempotent"
    } else if method.idempotent_at_same_server {
        "idempotent at the same server"
    } else if method.once {
        "carried out once"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services() -> Vec<ServiceInfo> {
        let methods = ["multiply", "divide"].map(MethodInfo::new).to_vec();
        vec![ServiceInfo::new("Arith").methods(methods)]
    }

    #[test]
    fn wrong_names_get_the_nearest_one() {
        for (wrong, near) in [
            ("Arith.multipy", Some("Arith.multiply")),
            ("arith.Divide", Some("Arith.divide")),
            ("divide", Some("Arith.divide")),
            ("Xyz.qqq", None),
        ] {
            assert_eq!(nearest(names(&services()), wrong).as_deref(), near, "{wrong}");
        }
        assert!(find(&services(), "Arith.divide").is_some());
        assert!(find(&services(), "Arith.power").is_none());
    }
}
