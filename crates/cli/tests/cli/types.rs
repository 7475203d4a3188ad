//! `template` and `schema`, and arguments that are checked by their types.

use crate::support::{Files, arith, farcall, farcall_with, serve, server};

#[test]
fn template_is_edited_and_piped_back() {
    let target = arith();
    let template = farcall(&["template", &target, "Arith.multiply"]);
    template.assert_out(r#"{ "a": 0, "b": 0 }"#);
    let edited = template.out.replace("\"a\": 0", "\"a\": 6").replace("\"b\": 0", "\"b\": 7");
    farcall_with(&edited, &["call", &target, "Arith.multiply", "-"]).assert_out("42");
    farcall(&["template", &target, "Arith.multply"]).assert_error(2, &["did you mean `Arith.multiply`?"]);
}

#[test]
fn nested_arguments_are_checked_by_their_types() {
    let target = arith();
    let wrong = farcall(&["call", &target, "Arith.echo", "data=AQID", "note:=7"]);
    wrong.assert_error(2, &["note", "sent: no"]);
}

#[test]
fn method_that_takes_a_unit_needs_no_arguments() {
    let server = farcall::Server::builder().method("Test.get", async |(): ()| 7);
    let target = serve(server, "tcp@127.0.0.1:0").to_string();
    farcall(&["call", &target, "Test.get"]).assert_out("7");
}

#[test]
fn change_that_breaks_clients_is_told_with_exit_code_1() {
    let files = Files::new();
    let more = server().method("Arith.power", async |(a,): (i64,)| a);
    let more = serve(more, "tcp@127.0.0.1:0").to_string();
    let (old, new) = (files.path("old.json"), files.path("new.json"));
    farcall(&["schema", "save", &arith(), "-o", &old]).assert_out("");
    farcall(&["schema", "save", &more, "-o", &new]).assert_out("");
    farcall(&["schema", "check", &old, &old]).assert_out("");
    let diff = farcall(&["schema", "diff", &old, &new]);
    assert!(diff.code == 0 && diff.out.contains("Arith.power: the method is new"), "{diff:#?}");
    let gone = farcall(&["schema", "check", &new, &old]);
    assert!(gone.code == 1 && gone.out.contains("the method is gone"), "{gone:#?}");
    farcall(&["schema", "check", &old, "/there/is/none"]).assert_error(2, &["/there/is/none"]);
}

#[test]
fn clients_are_generated() {
    let target = arith();
    for (language, part) in [("rust", "multiply"), ("python", "def multiply"), ("typescript", "multiply")] {
        let ran = farcall(&["schema", language, &target]);
        assert!(ran.code == 0 && ran.out.contains(part), "{ran:#?}");
    }
}
