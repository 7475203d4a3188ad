//! Documents as text: the signatures of methods, and source code in other languages.

use farcall_schema::{
    Content, Document, Enum, Field, MethodSchema, Narrowed, ServiceSchema, Struct, Type, Variant, python,
    rust, typescript,
};

fn of(name: &str) -> Type {
    Type::Ref(name.to_owned())
}

/// A service with a method whose types have names.
fn shop() -> Document {
    let mut document = Document::default();
    let order = [Field::new("id", Type::i64()), Field::new("note", Type::Text.option()).optional()];
    let payment = [
        Variant::new("Cash", Content::Unit),
        Variant::new("Card", Content::Newtype(Type::Text)),
        Variant::new("Split", Content::Tuple(vec![Type::i64(), Type::i64()])),
        Variant::new("Later", Content::Struct(Struct::new([Field::new("days", Type::int(false, 8))]))),
    ];
    let size = ["Small", "Large"].map(|name| Variant::new(name, Content::Unit));
    document.definitions.insert("Size".to_owned(), Type::Enum(Enum::new(size)));
    let stock = [
        Field::new("by_size", Type::map(of("Size"), Type::i64())),
        Field::new("by_payment", Type::map(of("Payment"), Type::i64())),
        Field::new("by_name", Type::map(Type::Text, Type::Bool)),
    ];
    document.definitions.insert("Stock".to_owned(), Type::Struct(Struct::new(stock)));
    document.definitions.insert("Order".to_owned(), Type::Struct(Struct::new(order)));
    document.definitions.insert("Payment".to_owned(), Type::Enum(Enum::new(payment)));
    let mut method = MethodSchema::new("order");
    let arguments = [Field::new("order", of("Order")), Field::new("by", of("Payment")).optional()];
    method.arguments = Type::Struct(Struct::new(arguments));
    (method.result, method.error) = (of("Order").option(), Some(Type::Text));
    let mut service = ServiceSchema::new("Shop");
    service.methods.push(method);
    document.services.push(service);
    document
}

#[test]
fn signature_is_written_as_in_rust() {
    let mut method = shop().services.remove(0).methods.remove(0);
    assert_eq!(method.to_string(), "order(order: Order, by?: Payment) -> Result<Option<Order>, String>");
    method.takes_whole = true;
    assert_eq!(method.to_string(), "order({ order: Order, by?: Payment }) -> Result<Option<Order>, String>");
    (method.arguments, method.takes_whole) = (Type::Struct(Struct::default()), false);
    (method.result, method.error) = (Type::Null, None);
    (method.items_in, method.items_out) = (Some(Type::Bool), Some(of("Order")));
    assert_eq!(method.to_string(), "order() takes bool sends Order");
}

#[test]
fn types_are_written_as_in_rust() {
    let unit = |name: &str| Variant::new(name, Content::Unit);
    let mut open = Enum::new([unit("A"), Variant::new("B", Content::Newtype(Type::Bool))]);
    open.is_open = true;
    for (ty, expected) in [
        (Type::map(Type::Char, Type::Float(64)), "HashMap<char, f64>"),
        (Type::Tuple(vec![Type::Bool, Type::int(false, 16)]), "(bool, u16)"),
        (Type::Narrowed(Narrowed::new(Type::Text, "shop::Id")), "Id"),
        (Type::Narrowed(Narrowed::new(Type::Text, "")), "String"),
        (Type::opaque("shop::Any", "of any form"), "?Any"),
        (Type::opaque("", "of any form"), "?"),
        (Type::Bytes.list(), "Vec<Bytes>"),
        (Type::Struct(Struct::default()), "{ }"),
        (Type::Enum(Enum::new([unit("A"), unit("B")])), "A | B"),
        (Type::Enum(open), "A | B(bool) | .."),
    ] {
        assert_eq!(ty.to_string(), expected, "{ty:?}");
    }
}

/// Asserts that source code has these lines, each as a whole.
fn assert_has(source: &str, expected: &[&str]) {
    for lines in expected {
        assert!(source.contains(&format!("\n{lines}\n")), "no\n{lines}\nin\n{source}");
    }
}

#[test]
fn python_has_each_type() {
    assert_has(
        &python(&shop()),
        &[
            "Order = TypedDict(\"Order\", {\n    \"id\": int,\n    \"note\": NotRequired[Optional[str]],\n})",
            "PaymentSplit = TypedDict(\"PaymentSplit\", {\"Split\": List[int]})",
            "Payment = Union[Literal[\"Cash\"], \"PaymentCard\", \"PaymentSplit\", \"PaymentLater\"]",
            "    \"by_size\": Dict[\"Size\", int],",
            "class Shop:",
        ],
    );
}

#[test]
fn typescript_has_each_type() {
    assert_has(
        &typescript(&shop(), "../farcall"),
        &[
            "import type { CallOptions, Client } from \"../farcall\";",
            "export type Order = { \"id\": (number | bigint); \"note\"?: (string | null) };",
            "export type Size = (\"Small\" | \"Large\");",
            "export class Shop {",
        ],
    );
}

#[test]
fn rust_has_each_type_and_maps_whose_keys_it_can_have() {
    assert_has(
        &rust(&shop()),
        &[
            "    Split(i64, i64),",
            "    Later {\n        days: u8,\n    },",
            "    pub by_size: std::collections::HashMap<Size, i64>,",
            "    pub by_payment: serde_json::Value,",
            "    pub by_name: std::collections::HashMap<String, bool>,",
            "pub trait Shop {",
        ],
    );
}
