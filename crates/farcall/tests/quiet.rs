//! Generated code under a user's strictest lints, and among a user's own names.
//!
//! rustc's half of it is checked by compiling this, clippy's half by `cargo clippy --tests`.

#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
#![deny(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    unused_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    elided_lifetimes_in_paths,
    unused_results,
    unused_macro_rules,
    let_underscore_drop,
    variant_size_differences
)]
#![forbid(unsafe_code)]
// The facade's other dependencies and this file's own dead ends.
#![allow(unused_crate_dependencies)]

pub mod strict {
    //! A service that is public.

    use farcall::Context;

    /// Greets.
    #[farcall::service]
    pub trait Greeter {
        /// Greets in many ways.
        #[allow(clippy::fn_params_excessive_bools)]
        async fn greet(&self, cx: &Context, name: String, a: bool, b: bool, c: bool, d: bool) -> String;
        /// Takes more than clippy would have it.
        #[allow(clippy::too_many_arguments)]
        async fn many(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8;
        /// Has names that clippy has opinions of.
        #[allow(clippy::wrong_self_convention)]
        async fn into_parts(&self, _unused: i64) -> (i64, f64);
        /// Fails.
        async fn fail(&self) -> Result<(), String>;
        /// Is not answered.
        #[rpc(one_way)]
        async fn notify(&self, line: String);
        /// Has a body.
        async fn is_polite(&self) -> bool {
            self.fail().await.is_err()
        }
        /// Is on its way out.
        #[deprecated]
        async fn old(&self);
    }
}

/// An unused service in a module that shadows every name that generated code needs.
mod shadows {
    macro_rules! own {
        ($kind:ident: $($name:ident)*) => { $(#[allow(dead_code)] $kind $name {})* };
    }
    own!(struct: Result Option String Vec Box Arc Clone Debug Into From Some None Ok Err);
    own!(struct: Call Channel Service Response Serialize Deserialize Output);
    own!(trait: Send Sync Sized Future Handler);
    own!(mod: core std serde farcall_client);

    #[::farcall::service]
    trait Shadowed {
        async fn take(
            &self,
            self_: i64,
            cx: i64,
            request: i64,
            result: i64,
            service: i64,
            this: i64,
        ) -> ::core::result::Result<i64, i64>;
        async fn more(&self, cx: &::farcall::Context, context: i64, arguments: i64, channel: i64, codec: i64);
        async fn clone(&self) -> bool;
    }

    #[::farcall::service]
    trait Empty {}
}

/// A service within a function.
#[test]
fn service_may_be_defined_in_a_function() {
    #[farcall::service]
    trait Local {
        async fn call(&self) -> Answer;
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Answer;

    struct Here;

    impl Local for Here {
        async fn call(&self) -> Answer {
            Answer
        }
    }

    assert_eq!(Here.into_service().name(), "Local");
}

/// A service whose types come from a macro of the user's.
#[test]
fn service_may_be_defined_by_a_macro() {
    macro_rules! service {
        ($name:ident, $argument:ty, $result:ty) => {
            #[farcall::service]
            trait $name {
                async fn call(&self, argument: $argument, cx: $argument) -> $result;
            }
        };
    }
    service!(Made, Option<i64>, Result<Vec<String>, String>);

    struct Here;

    impl Made for Here {
        async fn call(&self, argument: Option<i64>, cx: Option<i64>) -> Result<Vec<String>, String> {
            argument.or(cx).map(|_| Vec::new()).ok_or_else(String::new)
        }
    }

    let service = Here.into_service();
    let method = &service.info().methods[0];
    assert_eq!(method.returns, "Result<Vec<String>, String>");
    assert_eq!(method.params[0].type_name, "Option<i64>");
}

/// The crate under another name.
#[test]
fn facade_may_be_reexported_under_another_path() {
    #[allow(clippy::redundant_pub_crate)]
    mod vendored {
        pub(crate) mod rpc {
            pub(crate) use farcall::*;
        }
    }

    #[vendored::rpc::service(crate = "vendored::rpc")]
    trait Renamed {
        async fn call(&self) -> i64;
    }

    struct Here;

    impl Renamed for Here {
        async fn call(&self) -> i64 {
            1
        }
    }

    assert_eq!(Here.into_service().info().methods.len(), 1);
}
