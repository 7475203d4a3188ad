//! The changes between two documents, with what they break and why.

use farcall_schema::{
    Change, Content, Document, Enum, Field, MethodSchema, Narrowed, Pair, ServiceSchema, Struct, Type,
    Variant, Verdict, Wire, compare, compare_types,
};

fn document(arguments: Struct, result: Type) -> Document {
    let mut method = MethodSchema::new("order");
    (method.arguments, method.result) = (Type::Struct(arguments), result);
    let mut service = ServiceSchema::new("Shop");
    service.methods.push(method);
    let mut document = Document::default();
    document.services.push(service);
    document
}

/// Returns the place, the change, and the verdicts for old and for new clients.
fn summary(changes: &[Change]) -> Vec<(&str, &str, Verdict, Verdict)> {
    let one = |change: &'_ Change| (change.verdict_for(Pair::OldClient), change.verdict_for(Pair::NewClient));
    changes
        .iter()
        .map(|change| (change.place.as_str(), change.what.as_str(), one(change).0, one(change).1))
        .collect()
}

use Verdict::{Breaking, Compatible, Unknown};

#[test]
fn equal_documents_have_no_changes() {
    let fields = Struct::new([Field::new("a", Type::opaque("shop::A", "it reads values of any form"))]);
    let document = document(fields, Type::Text);
    assert_eq!(compare(&document, &document), []);
}

#[test]
fn reference_to_nothing_is_unknown_and_the_same_as_itself() {
    let fields = |ty| Struct::new([Field::new("a", ty)]);
    let dangling = document(fields(Type::Ref("Lost".to_owned())), Type::Null);
    assert_eq!(compare(&dangling, &dangling), []);
    let changes = compare(&dangling, &document(fields(Type::Text), Type::Null));
    assert!(changes.iter().all(|change| change.verdict() == Unknown), "{changes:?}");
    assert!(changes[0].effects[0].reason.contains("`Lost` is not defined"), "{changes:?}");
}

#[test]
fn document_with_a_method_twice_is_refused() {
    let mut twice = document(Struct::default(), Type::Null);
    let method = twice.services[0].methods[0].clone();
    twice.services[0].methods.push(method);
    let error = Document::from_json(&twice.to_json()).unwrap_err();
    assert!(error.to_string().ends_with("the method `Shop.order` is there twice"), "{error}");
}

#[test]
fn document_whose_method_has_a_dot_in_its_name_is_refused() {
    let mut dotted = document(Struct::default(), Type::Null);
    dotted.services[0].methods[0].name = "Order.cancel".to_owned();
    let error = Document::from_json(&dotted.to_json()).unwrap_err();
    assert!(error.to_string().ends_with("the name of the method `Shop.Order.cancel` has a dot"), "{error}");
}

#[test]
fn new_argument_breaks_old_clients_only_if_it_is_required() {
    let old = document(Struct::new([Field::new("a", Type::i64())]), Type::Null);
    let fields = [
        Field::new("a", Type::i64()),
        Field::new("b", Type::Text.option()).optional(),
        Field::new("c", Type::Bool),
    ];
    let changes = compare(&old, &document(Struct::new(fields), Type::Null));
    assert_eq!(
        summary(&changes),
        [
            ("arguments.b", "the optional `b` is new, Option<String>", Compatible, Compatible),
            ("arguments.c", "the required `c` is new, bool", Breaking, Compatible),
        ]
    );
    let effect = &changes[1].effects[0];
    assert_eq!((effect.pair, &effect.wires[..]), (Pair::OldClient, &Wire::ALL[..]));
    assert_eq!(effect.reason, "it is required, and never written");
}

#[test]
fn new_variant_of_a_result_breaks_old_clients_and_of_an_argument_new_ones() {
    let variants = |names: &[&str]| {
        Type::Enum(Enum::new(names.iter().map(|name| Variant::new(*name, Content::Unit)).collect::<Vec<_>>()))
    };
    let of = |names: &[&str]| document(Struct::new([Field::new("by", variants(names))]), variants(names));
    let changes = compare(&of(&["A"]), &of(&["A", "B"]));
    assert_eq!(
        summary(&changes),
        [
            ("arguments.by.B", "the variant `B` is new", Compatible, Breaking),
            ("result.B", "the variant `B` is new", Breaking, Compatible),
        ]
    );
}

/// A document whose method takes and sends items of one type.
fn streaming(items: Option<Type>) -> Document {
    let mut document = document(Struct::default(), Type::Null);
    let method = &mut document.services[0].methods[0];
    (method.items_in, method.items_out) = (items.clone(), items);
    document
}

#[test]
fn items_that_are_taken_are_like_arguments_and_items_that_are_sent_like_results() {
    let of = |fields: Vec<Field>| streaming(Some(Type::Struct(Struct::new(fields))));
    let old = of(vec![Field::new("a", Type::i64())]);
    let changes = compare(&old, &of(vec![Field::new("a", Type::i64()), Field::new("b", Type::Bool)]));
    assert_eq!(
        summary(&changes),
        [
            ("items_in.b", "the required `b` is new, bool", Breaking, Compatible),
            ("items_out.b", "the required `b` is new, bool", Compatible, Breaking),
        ]
    );
    let wider = of(vec![Field::new("a", Type::int(true, 128))]);
    assert_eq!(
        summary(&compare(&old, &wider)),
        [
            ("items_in.a", "was i64, is i128", Compatible, Breaking),
            ("items_out.a", "was i64, is i128", Breaking, Compatible),
        ]
    );
    let optional = of(vec![Field::new("a", Type::i64()), Field::new("b", Type::Bool.option()).optional()]);
    assert!(compare(&old, &optional).iter().all(|change| change.verdict() == Compatible));
}

#[test]
fn method_that_begins_or_ends_to_stream_breaks_all_clients() {
    let (plain, streams) = (streaming(None), streaming(Some(Type::Text)));
    assert_eq!(
        summary(&compare(&plain, &streams)),
        [
            ("items_in", "is new, String", Breaking, Breaking),
            ("items_out", "is new, String", Breaking, Breaking),
        ]
    );
    assert_eq!(
        summary(&compare(&streams, &plain)),
        [
            ("items_in", "was String, is gone", Breaking, Breaking),
            ("items_out", "was String, is gone", Breaking, Breaking),
        ]
    );
    let unknown = streaming(Some(Type::opaque("shop::Item", "")));
    assert!(compare(&streams, &unknown).iter().all(|change| change.verdict() == Unknown));
}

#[test]
fn codecs_are_told_apart() {
    let of = |ty: Type| document(Struct::default(), ty);
    let changes = compare(&of(Type::Bytes), &of(Type::Text));
    let broken: Vec<_> = changes[0].effects.iter().filter(|effect| effect.verdict == Breaking).collect();
    let seen: Vec<_> = broken.iter().map(|effect| (effect.pair, &effect.wires[..])).collect();
    assert_eq!(seen, [(Pair::NewClient, &[Wire::MessagePack][..]), (Pair::OldClient, &[Wire::Json][..])]);
}

#[test]
fn methods_that_come_and_go_are_told() {
    let old = document(Struct::default(), Type::Null);
    let changes = compare(&old, &Document::default());
    assert_eq!(summary(&changes), [("", "the method is gone", Breaking, Compatible)]);
    let changes = compare(&Document::default(), &old);
    assert_eq!(summary(&changes), [("", "the method is new", Compatible, Breaking)]);
    let mut new = old.clone();
    let mut before = old.clone();
    before.services[0].methods[0].idempotent = true;
    assert_eq!(
        summary(&compare(&before, &new)),
        [("", "it is not idempotent any more", Breaking, Compatible)]
    );
    new.services[0].methods[0].doc = "New words.".to_owned();
    assert_eq!(compare(&old, &new), []);
}

#[test]
fn type_that_is_not_known_is_no_break() {
    let of = |ty: Type| document(Struct::default(), ty);
    let changes = compare(&of(Type::opaque("Price", "")), &of(Type::Text));
    assert_eq!(summary(&changes), [("result", "was ?Price, is String", Unknown, Unknown)]);
}

#[test]
fn types_that_contain_themselves_are_compared() {
    let tree = |leaf: Type| {
        let tree = Type::Ref("Tree".to_owned());
        let mut document = document(Struct::default(), tree.clone());
        let fields = Struct::new([Field::new("children", tree.list()), Field::new("leaf", leaf)]);
        document.definitions.insert("Tree".to_owned(), Type::Struct(fields));
        document
    };
    let changes = compare(&tree(Type::int(false, 8)), &tree(Type::int(false, 16)));
    assert_eq!(summary(&changes), [("result.leaf", "was u8, is u16", Breaking, Compatible)]);
}

#[test]
fn narrowed_types_of_one_name_are_compared_by_what_they_read() {
    let of =
        |name: &str, ty| document(Struct::default(), Type::Narrowed(Narrowed::new(Type::list(ty), name)));
    let old = of("shop::Id", Type::Bool);
    assert_eq!(compare(&old, &of("shop::Id", Type::Bool)), []);
    let places = |new: &Document| -> Vec<_> {
        compare(&old, new).into_iter().map(|change| (change.place, change.what)).collect()
    };
    let expected = |place: &str, what: &str| [(place.to_owned(), what.to_owned())];
    assert_eq!(places(&of("shop::Id", Type::Text)), expected("result[]", "was bool, is String"));
    assert_eq!(places(&of("shop::Number", Type::Bool)), expected("result", "was Id, is Number"));
}

/// Returns the verdict, which is the same for both wires.
fn verdict(writer: &Type, reader: &Type) -> Verdict {
    let document = Document::default();
    let [json, msgpack] =
        Wire::ALL.map(|wire| compare_types(wire, (&document, writer), (&document, reader)).0);
    assert_eq!(json, msgpack, "{writer} as {reader}");
    json
}

#[test]
fn open_enum_with_content_reads_text_that_cannot_be_the_name_of_that_variant() {
    let open = |name: &str| {
        let mut of = Enum::new([Variant::new(name, Content::Newtype(Type::Bool))]);
        of.is_open = true;
        Type::Enum(of)
    };
    assert_eq!(verdict(&Type::Char, &open("ab")), Compatible);
    assert_eq!(verdict(&Type::Char, &open("a")), Breaking);
    assert_eq!(verdict(&Type::Text, &open("ab")), Breaking);
}

#[test]
fn names_of_variants_are_keys_of_what_reads_them() {
    let key = |name: &str| Type::map(Type::Enum(Enum::new([Variant::new(name, Content::Unit)])), Type::Bool);
    for (name, reader, expected) in [
        ("ab", Type::Text, Compatible),
        ("a", Type::Char, Compatible),
        ("ab", Type::Char, Breaking),
        ("true", Type::Bool, Compatible),
        ("ab", Type::Bool, Breaking),
        ("7", Type::int(false, 8), Compatible),
        ("-7", Type::int(false, 8), Breaking),
    ] {
        assert_eq!(
            verdict(&key(name), &Type::map(reader.clone(), Type::Bool)),
            expected,
            "{name} as {reader}"
        );
    }
}
