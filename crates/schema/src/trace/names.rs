//! The names of types in Rust, as the compiler writes them: which of them read all that they seem to read.

/// Returns the name without the containers that read what is in them.
pub(crate) fn unwrapped(name: &str) -> &str {
    const WRAPPERS: [&str; 7] = [
        "alloc::boxed::Box<",
        "alloc::sync::Arc<",
        "alloc::rc::Rc<",
        "core::cell::RefCell<",
        "core::cell::Cell<",
        "std::sync::poison::mutex::Mutex<",
        "std::sync::poison::rwlock::RwLock<",
    ];
    let mut name = name;
    while let Some(inner) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)?.strip_suffix('>'))
    {
        name = inner;
    }
    name
}

/// Returns the name of what is in an `Option`; an empty one if it is something else.
pub(super) fn in_option(name: &str) -> &str {
    let inner = unwrapped(name).strip_prefix("core::option::Option<");
    inner.and_then(|inner| inner.strip_suffix('>')).unwrap_or_default()
}

/// Returns `true` for the types that accept each number, string or byte string of their form.
pub(super) fn is_plain(name: &str) -> bool {
    let name = unwrapped(name);
    let in_wrapper = ["core::num::wrapping::Wrapping<", "core::num::saturating::Saturating<"]
        .iter()
        .find_map(|wrapper| name.strip_prefix(wrapper)?.strip_suffix('>'));
    matches!(
        in_wrapper.unwrap_or(name),
        "bool"
            | "char"
            | "i8"
            | "i16"
            | "i32"
            | "i64"
            | "i128"
            | "isize"
            | "u8"
            | "u16"
            | "u32"
            | "u64"
            | "u128"
            | "usize"
            | "f32"
            | "f64"
            | "str"
            | "alloc::string::String"
            | "std::path::PathBuf"
            | "std::path::Path"
            | "()"
            | "alloc::vec::Vec<u8>"
            | "[u8]"
            | "farcall_protocol::bytes::Bytes"
            | "std::ffi::os_str::OsString"
    ) || name.starts_with("farcall_protocol::as_bytes::ByteValue<")
        || name.starts_with("core::sync::atomic::Atomic")
        || name == "alloc::borrow::Cow<str>"
        || name == "serde_bytes::bytebuf::ByteBuf"
        || name.starts_with("core::marker::PhantomData<")
}

/// Returns `true` for the types that read a sequence of values of one type.
pub(super) fn is_list(name: &str) -> bool {
    const LISTS: [&str; 5] = ["Vec", "VecDeque", "LinkedList", "BinaryHeap", "HashSet"];
    const MORE: [&str; 6] = ["BTreeSet", "IndexSet", "SmallVec", "ArrayVec", "ThinVec", "DashSet"];
    let container = container(name);
    LISTS.contains(&container) || MORE.contains(&container)
}

/// Returns `true` for the types that read a map whose values are of one type.
pub(super) fn is_map(name: &str) -> bool {
    matches!(container(name), "HashMap" | "BTreeMap" | "IndexMap" | "DashMap" | "Map")
}

/// Returns the last name of the path in front of the type arguments, if it is that of a library of containers.
fn container(name: &str) -> &str {
    let path = name.split('<').next().unwrap_or_default();
    let Some((krate, rest)) = path.split_once("::") else { return "" };
    let is_library = matches!(
        krate,
        "alloc"
            | "std"
            | "core"
            | "hashbrown"
            | "indexmap"
            | "smallvec"
            | "arrayvec"
            | "thin_vec"
            | "dashmap"
            | "serde_json"
            | "heapless"
    );
    if is_library { rest.rsplit("::").next().unwrap_or_default() } else { "" }
}

/// Returns `true` for types of serde's derive that have the same name at each place.
pub(super) fn is_of_derive(name: &str) -> bool {
    name.contains("__DeserializeWith")
}

/// Returns `true` for the visitor by which serde reads a `Cow<str>` of a field with `#[serde(borrow)]`.
pub(super) fn borrows_text(visitor: &str) -> bool {
    visitor.contains("::borrow_cow_str") && visitor.ends_with("::CowStrVisitor")
}

/// Returns `true` for the values by which serde reads an enum that is tagged adjacently.
pub(super) fn is_adjacent_tag(name: &str) -> bool {
    name.contains("AdjacentlyTagged") || name.contains("TagOrContent")
}

/// Returns the name without the paths of its types: `Page<Item>` for `shop::Page<shop::stock::Item>`.
pub(crate) fn short(name: &str) -> String {
    let (mut out, mut word) = (String::new(), String::new());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            word.clear();
        } else if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            out.push_str(&word);
            word.clear();
            out.push(c);
        }
    }
    out + &word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_standard_library_are_known() {
        fn name<T>() -> &'static str {
            std::any::type_name::<T>()
        }
        use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
        for list in
            [name::<Vec<i64>>(), name::<VecDeque<u8>>(), name::<HashSet<u8>>(), name::<BTreeSet<u8>>()]
        {
            assert!(is_list(list), "{list}");
        }
        assert!(is_list(name::<LinkedList<u8>>()) && is_list(name::<BinaryHeap<u8>>()));
        assert!(is_map(name::<HashMap<u8, u8>>()) && is_map(name::<BTreeMap<u8, u8>>()));
        for plain in [name::<String>(), name::<Box<str>>(), name::<std::path::PathBuf>(), name::<u128>()] {
            assert!(is_plain(plain), "{plain}");
        }
        assert!(!is_plain(name::<std::num::NonZeroU8>()) && !is_plain(name::<std::net::IpAddr>()));
        assert_eq!(in_option(name::<Option<Box<i64>>>()), name::<Box<i64>>());
        assert_eq!(unwrapped(name::<Box<std::sync::Mutex<i64>>>()), "i64");
        assert_eq!(unwrapped(name::<std::sync::Arc<std::sync::RwLock<i64>>>()), "i64");
    }

    #[test]
    fn short_name_has_no_paths() {
        assert_eq!(short("a::b::Page<c::Item, alloc::vec::Vec<u8>>"), "Page<Item, Vec<u8>>");
        assert_eq!(short("i64"), "i64");
    }
}
