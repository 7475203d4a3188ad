use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::finish::Definitions;
use super::*;
use crate::types::{Content, Enum, Field, Narrowed, Opaque, Struct, Variant};
use crate::{Document, GivenTypes};

/// Returns the type, and the definitions.
fn traced<T: Deserialize<'static>>() -> (Type, Document) {
    traced_with::<T>(GivenTypes::new())
}

fn traced_with<T: Deserialize<'static>>(given: GivenTypes) -> (Type, Document) {
    let mut session = Session::new(given.types());
    let ty = TypeSource::of::<T>().trace(&mut session, &Sources::new());
    let mut definitions = Definitions::default();
    let ty = definitions.add(&session, ty);
    let document = Document { definitions: definitions.types, ..Document::default() };
    // What is written is read back.
    assert_eq!(Document::from_json(&document.to_json()).unwrap(), document);
    (ty, document)
}

/// Returns the type, whose name is followed.
fn of<T: Deserialize<'static>>() -> Type {
    let (ty, document) = traced::<T>();
    document.resolve(&ty).clone()
}

fn fields_of(ty: &Type) -> Vec<Field> {
    match ty {
        Type::Struct(of) => of.fields.clone(),
        other => panic!("{other:?}"),
    }
}

fn is_opaque(ty: &Type, reason: &str) -> bool {
    matches!(ty, Type::Opaque(Opaque { reason: known, .. }) if known == reason)
}

const ANY: &str = "it reads values of any form";

#[test]
fn types_of_the_standard_library_have_their_forms() {
    assert_eq!(of::<()>(), Type::Null);
    assert_eq!(of::<bool>(), Type::Bool);
    assert_eq!(of::<i8>(), Type::int(true, 8));
    assert_eq!(of::<usize>(), Type::int(false, 64));
    assert_eq!(of::<u128>(), Type::int(false, 128));
    assert_eq!(of::<f32>(), Type::Float(32));
    assert_eq!(of::<char>(), Type::Char);
    assert_eq!(of::<Box<str>>(), Type::Text);
    assert_eq!(of::<Option<Vec<String>>>(), Type::Text.list().option());
    assert_eq!(
        of::<(i64, [u8; 2])>(),
        Type::Tuple(vec![Type::i64(), Type::Tuple(vec![Type::int(false, 8); 2])])
    );
    assert_eq!(of::<HashMap<u8, HashSet<bool>>>(), Type::map(Type::int(false, 8), Type::Bool.list()));
    assert_eq!(of::<farcall_protocol::Bytes>(), Type::Bytes);
    assert_eq!(
        of::<BTreeMap<String, farcall_protocol::as_bytes::ByteValue<Vec<u8>>>>(),
        Type::map(Type::Text, Type::Bytes)
    );
    let names: Vec<_> = fields_of(&of::<Duration>()).into_iter().map(|field| field.name).collect();
    assert_eq!(names, ["secs", "nanos"]);
}

#[test]
fn fields_that_are_borrowed_or_marked_as_bytes_are_not_narrowed() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Page<'a> {
        #[serde(borrow)]
        title: Cow<'a, str>,
        #[serde(borrow, with = "farcall_protocol::as_bytes::borrowed")]
        image: Cow<'a, [u8]>,
        #[serde(with = "farcall_protocol::as_bytes")]
        more: Vec<u8>,
        #[serde(deserialize_with = "even")]
        number: u64,
    }
    fn even<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::deserialize(deserializer)
    }
    let types: Vec<_> = fields_of(&of::<Page<'static>>()).into_iter().map(|field| field.ty).collect();
    assert_eq!(types[..3], [Type::Text, Type::Bytes, Type::Bytes]);
    assert!(matches!(&types[3], Type::Narrowed(_)), "{types:?}");
}

#[test]
fn checked_types_are_narrowed_and_have_an_example() {
    assert_eq!(
        of::<IpAddr>(),
        Type::Narrowed(Narrowed::new(Type::Text, "core::net::ip_addr::IpAddr").example(json!("127.0.0.1")))
    );
    let Type::Narrowed(narrowed) = of::<NonZeroU8>() else { panic!("not narrowed") };
    assert_eq!((*narrowed.base, narrowed.example), (Type::int(false, 8), Some(json!(1))));
    #[derive(Deserialize)]
    #[serde(try_from = "(i64, i64)")]
    struct Range;
    impl TryFrom<(i64, i64)> for Range {
        type Error = &'static str;
        fn try_from((from, to): (i64, i64)) -> Result<Self, Self::Error> {
            if from < to { Ok(Self) } else { Err("not a range") }
        }
    }
    #[derive(Deserialize)]
    struct Query {
        #[expect(dead_code)]
        range: Range,
        #[expect(dead_code)]
        limit: Option<IpAddr>,
    }
    let fields = fields_of(&of::<Query>());
    let Type::Narrowed(range) = &fields[0].ty else { panic!("{fields:?}") };
    assert_eq!(*range.base, Type::Tuple(vec![Type::i64(); 2]));
    assert!(fields[0].required && !fields[1].required);
    let Type::Option(limit) = &fields[1].ty else { panic!("{fields:?}") };
    assert!(matches!(&**limit, Type::Narrowed(narrowed) if *narrowed.base == Type::Text), "{limit:?}");
}

#[test]
fn fields_are_known_with_their_names_defaults_and_aliases() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code)]
    struct Goods {
        the_name: String,
        #[serde(default)]
        count: u32,
        note: Option<String>,
        #[serde(alias = "a", alias = "z")]
        also: bool,
        #[serde(skip)]
        hidden: u8,
        #[serde(default = "five", alias = "b")]
        five: u8,
        last: i64,
    }
    fn five() -> u8 {
        5
    }
    let Type::Struct(goods) = of::<Goods>() else { panic!("no struct") };
    let seen: Vec<_> = goods.fields.iter().map(|field| (field.name.as_str(), field.required)).collect();
    assert_eq!(
        seen,
        [
            ("theName", true),
            ("count", false),
            ("note", false),
            ("also", true),
            ("five", false),
            ("last", true)
        ]
    );
    assert_eq!(goods.fields[3].aliases, ["a", "z"]);
    assert_eq!(goods.fields[4].aliases, ["b"]);
    assert!(!goods.denies_unknown);
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code)]
    struct Strict {
        a: u8,
    }
    let strict = of::<Strict>();
    assert_eq!(strict, Type::Struct(Struct::new([Field::new("a", Type::int(false, 8))]).deny_unknown()));
}

#[test]
fn variants_are_known_with_their_content() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum Shape {
        Empty,
        Circle(f64),
        Line(i64, String),
        #[serde(alias = "Box")]
        Rect {
            w: u8,
            #[serde(default)]
            h: u8,
        },
        #[serde(other)]
        Other,
    }
    let Type::Enum(shape) = of::<Shape>() else { panic!("no enum") };
    let mut rect = Variant::new(
        "Box",
        Content::Struct(Struct::new([
            Field::new("w", Type::int(false, 8)),
            Field::new("h", Type::int(false, 8)).optional(),
        ])),
    );
    rect.aliases = vec!["Rect".to_owned()];
    let expected = [
        Variant::new("Empty", Content::Unit),
        Variant::new("Circle", Content::Newtype(Type::Float(64))),
        Variant::new("Line", Content::Tuple(vec![Type::i64(), Type::Text])),
        rect,
        Variant::new("Other", Content::Unit),
    ];
    assert_eq!(shape.variants, expected);
    assert!(shape.is_open);
}

#[test]
fn recursion_ends_and_everything_inside_is_found() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Tree {
        children: Vec<Tree>,
        leaf: Option<Leaf>,
        parent: Option<Box<Tree>>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum Leaf {
        Not(Box<Leaf>),
        Pair(Box<Leaf>, Box<Leaf>),
        Deep { inside: Inside },
        Tree(Box<Tree>),
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Inside {
        #[serde(default)]
        color: Color,
    }
    #[derive(Deserialize, Default)]
    enum Color {
        #[default]
        Red,
        Green,
    }
    let (ty, document) = traced::<Tree>();
    assert_eq!(ty, Type::Ref("Tree".to_owned()));
    let names: Vec<_> = document.definitions.keys().collect();
    assert_eq!(names, ["Color", "Inside", "Leaf", "Tree"]);
    let tree = fields_of(&document.definitions["Tree"]);
    assert_eq!(tree[0].ty, Type::Ref("Tree".to_owned()).list());
    assert!(tree[0].required && !tree[1].required && !tree[2].required);
    assert!(!fields_of(&document.definitions["Inside"])[0].required);
    let colors = Enum::new([Variant::new("Red", Content::Unit), Variant::new("Green", Content::Unit)]);
    assert_eq!(document.definitions["Color"], Type::Enum(colors));
    let Type::Enum(leaf) = &document.definitions["Leaf"] else { panic!("no enum") };
    assert_eq!(leaf.variants[1].content, Content::Tuple(vec![Type::Ref("Leaf".to_owned()); 2]));
}

#[test]
fn content_of_a_variant_that_a_run_has_shown_is_not_lost_in_later_ones() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum Second {
        // Later runs end soon: they read empty lists, and no options.
        Two(Vec<First>, Option<Box<First>>, Option<Inner>),
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum First {
        Two(Option<Box<Second>>, u8),
        Unit,
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Inner {
        count: u8,
    }
    let (_, document) = traced::<Second>();
    let content = |name: &str| match &document.definitions[name] {
        Type::Enum(of) => of.variants[0].content.clone(),
        other => panic!("{other:?}"),
    };
    let named = |name: &str| Type::Ref(name.to_owned());
    let items = vec![named("First").list(), named("First").option(), named("Inner").option()];
    assert_eq!(content("Second"), Content::Tuple(items));
    let items = vec![named("Second").option(), Type::int(false, 8)];
    assert_eq!(content("First"), Content::Tuple(items));
}

#[test]
fn items_behind_a_checked_type_in_a_variant_are_known() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    enum Place {
        At(IpAddr, Vec<Inner>, NonZeroU8, Option<Inner>),
        Only(IpAddr),
        Nowhere,
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Inner {
        count: u8,
    }
    let Type::Enum(of) = of::<Place>() else { panic!("no enum") };
    let address = Narrowed::new(Type::Text, "core::net::ip_addr::IpAddr").example(json!("127.0.0.1"));
    let number = Narrowed::new(Type::int(false, 8), "core::num::nonzero::NonZero<u8>").example(json!(1));
    let inner = || Type::Ref("Inner".to_owned());
    let items =
        vec![Type::Narrowed(address.clone()), inner().list(), Type::Narrowed(number), inner().option()];
    let contents: Vec<_> = of.variants.into_iter().map(|variant| variant.content).collect();
    let only = Content::Newtype(Type::Narrowed(address));
    assert_eq!(contents, [Content::Tuple(items), only, Content::Unit]);
}

#[test]
fn what_serde_does_not_tell_is_opaque() {
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code)]
    enum Untagged {
        Number { n: i64 },
        Text { t: String },
    }
    #[derive(Deserialize)]
    #[serde(tag = "type")]
    #[expect(dead_code)]
    enum Internal {
        A { a: i64 },
    }
    #[derive(Deserialize)]
    #[serde(tag = "t", content = "c")]
    #[expect(dead_code)]
    enum Adjacent {
        A(i64),
        B(String),
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        rest: HashMap<String, String>,
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct All {
        before: u8,
        untagged: Untagged,
        maybe: Option<Untagged>,
        many: Vec<Untagged>,
        internal: Internal,
        json: serde_json::Value,
        flat: Flat,
        adjacent: Adjacent,
        after: Option<u8>,
        last: String,
    }
    let (ty, document) = traced::<All>();
    let fields = fields_of(document.resolve(&ty));
    let field = |name: &str| fields.iter().find(|field| field.name == name).unwrap().clone();
    for name in ["untagged", "internal", "json"] {
        assert!(is_opaque(&field(name).ty, ANY), "{:?}", field(name));
    }
    assert!(matches!(field("maybe").ty, Type::Option(inner) if is_opaque(&inner, ANY)));
    assert!(matches!(field("many").ty, Type::List(inner) if is_opaque(&inner, ANY)));
    assert!(is_opaque(&field("flat").ty, "it has flattened fields"), "{:?}", field("flat"));
    let adjacent = field("adjacent").ty;
    assert!(is_opaque(document.resolve(&adjacent), "it is tagged adjacently"), "{adjacent:?}");
    assert_eq!((field("before").ty, field("before").required), (Type::int(false, 8), true));
    assert_eq!(field("last").ty, Type::Text);
    assert!(!field("after").required && !field("maybe").required && field("untagged").required);
    assert_eq!(field("after").ty, Type::int(false, 8).option());
}

#[test]
fn handwritten_readers_of_maps_and_lists_are_opaque() {
    struct ByHand;
    impl<'de> Deserialize<'de> for ByHand {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = ByHand;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a map")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<ByHand, A::Error> {
                    while map.next_entry::<String, i64>()?.is_some() {}
                    Ok(ByHand)
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    assert!(is_opaque(&of::<ByHand>(), "its map is read by hand"));
}

#[test]
fn types_of_one_name_are_kept_apart() {
    mod a {
        #[derive(serde::Deserialize)]
        #[expect(dead_code)]
        pub(super) struct Item {
            pub(super) a: u8,
        }
    }
    mod b {
        #[derive(serde::Deserialize)]
        #[expect(dead_code)]
        pub(super) struct Item {
            pub(super) b: String,
        }
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Page<T> {
        items: Vec<T>,
    }
    let (ty, document) = traced::<(Page<a::Item>, Page<b::Item>, Page<u8>)>();
    let names: Vec<_> = document.definitions.keys().map(String::as_str).collect();
    assert_eq!(names, ["Item", "Item_2", "Page_Item", "Page_Item_2", "Page_u8"]);
    let name = |name: &str| Type::Ref(name.to_owned());
    assert_eq!(ty, Type::Tuple(vec![name("Page_Item"), name("Page_Item_2"), name("Page_u8")]));
}

#[test]
fn described_type_is_taken_as_described() {
    struct Money;
    impl<'de> Deserialize<'de> for Money {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let value = serde_json::Value::deserialize(deserializer)?;
            if value == json!("5 EUR") { Ok(Self) } else { Err(serde::de::Error::custom("no money")) }
        }
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Order {
        price: Money,
        discount: Option<Money>,
        #[serde(default)]
        count: u8,
        paid: bool,
    }
    let mut given = GivenTypes::new();
    given.set::<Money>(Type::Text, json!("5 EUR"));
    let (ty, document) = traced_with::<Order>(given);
    let expected = Struct::new([
        Field::new("price", Type::Text),
        Field::new("discount", Type::Text.option()).optional(),
        Field::new("count", Type::int(false, 8)).optional(),
        Field::new("paid", Type::Bool),
    ]);
    assert_eq!(document.resolve(&ty), &Type::Struct(expected));
}

#[test]
fn panic_in_a_type_leaves_the_others_known() {
    struct Panics;
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            String::deserialize(deserializer)?;
            panic!("as this test wants it")
        }
    }
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Both {
        panics: Panics,
        fine: u8,
    }
    let fields = fields_of(&of::<Both>());
    assert_eq!(fields[1].ty, Type::int(false, 8));
    assert!(matches!(&fields[0].ty, Type::Narrowed(_) | Type::Text), "{fields:?}");
}

#[test]
fn type_that_contains_itself_without_end_is_traced() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Endless {
        inner: Box<Endless>,
        other: u8,
    }
    let (ty, document) = traced::<Endless>();
    assert_eq!(ty, Type::Ref("Endless".to_owned()));
    assert_eq!(fields_of(&document.definitions["Endless"])[0].ty, ty);
}

#[test]
fn wide_types_are_traced_in_time() {
    macro_rules! wide {
        ($($name:ident: $inner:ty),*) => {$(
            #[derive(Deserialize)]
            #[expect(dead_code)]
            struct $name { a: $inner, b: $inner, c: Option<$inner>, d: Vec<$inner>, e: $inner, f: $inner, g: $inner }
        )*};
    }
    wide!(A: Box<B>, B: Box<C>, C: Box<D>, D: Box<E>, E: u8);
    let (_, document) = traced::<A>();
    assert_eq!(document.definitions.len(), 5);
    let is_known = |ty: &Type| !format!("{ty:?}").contains("Opaque");
    assert!(document.definitions.values().all(is_known), "{document:?}");
}
