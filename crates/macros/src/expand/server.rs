//! The server side: `into_service`, which describes the methods and dispatches calls to them.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned as _;

use super::names::{arguments_ident, local};
use super::{borrowed, checked};
use crate::byte_types;
use crate::method::Method;
use crate::output::Output;
use crate::rpc::Idempotence;
use crate::service::Service;
use crate::streams::Half;
use crate::type_text::type_text;

/// Generates the trait's method `into_service`, if the server is compiled in.
pub(super) fn expand(service: &Service) -> TokenStream {
    let Service { farcall, name, doc, methods, .. } = service;
    let name = &name.text;
    let (this, built) = (local("this"), local("service"));
    let methods = methods.iter().map(|method| {
        let conditions = method.conditions();
        let info = info(service, method);
        let handler = handler(service, method);
        let add = add(service, method);
        quote!(#(#conditions)* let #built = { #add (#built, #info, #handler) };)
    });
    quote! {
        #farcall::__private::if_server! {
            /// Converts it to a service for `farcall::Server::builder().service(..)`.
            #[allow(dead_code, deprecated, unused_variables)]
            fn into_service(self) -> #farcall::server::Service {
                let #this = ::std::sync::Arc::new(self);
                let #built = #farcall::server::Service::new(#name).doc(#doc);
                #(#methods)*
                #built
            }
        }
    }
}

/// Generates the description of a method for `farcall.services`.
fn info(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let Method { name, doc, parameters, output, idempotent, once, .. } = method;
    let name = &name.text;
    let params = parameters.sent.iter().map(|parameter| {
        let (name, ty) = (parameter.name(), parameter.described_type());
        quote!((#name, #ty))
    });
    let returns = type_text(output.written());
    let idempotence = match idempotent {
        None => quote!(Not),
        Some(Idempotence::Anywhere) => quote!(Anywhere),
        Some(Idempotence::SameServer) => quote!(SameServer),
    };
    let idempotence = quote!(#farcall::__private::Idempotence::#idempotence);
    let once = once.map(|_| quote!(.once(true)));
    let items = parameters.streams.iter().map(|half| {
        let item = type_text(&half.item);
        if half.sends { quote!(.sends_items(#item)) } else { quote!(.takes_items(#item)) }
    });
    quote! {
        #farcall::__private::method_info(#name, #doc, &[#(#params),*], #returns, &#idempotence) #once #(#items)*
    }
}

/// Generates a function that adds a method to a service, and its path.
fn add(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let checked = checked::of_method(method);
    let streams = !method.parameters.streams.is_empty();
    let add = if streams { quote!(add_stream_method) } else { quote!(add_method) };
    if method.parameters.borrow() {
        let arguments_ident = arguments_ident(service, method);
        return quote!(#farcall::__private::add_borrowing_method::<#arguments_ident<'static>, _, _, _, _>);
    }
    if checked.is_empty() {
        return quote!(#farcall::__private::#add);
    }
    let halves = streams.then(|| quote!(Halves,));
    let any_halves = streams.then(|| quote!(_,));
    let halves_bound = streams.then(|| quote!(Halves: #farcall::server::StreamHalves,));
    let (bounds, arguments_ident) = (checked::bounds(service, &checked), arguments_ident(service, method));
    let generics = checked.iter().map(|checked| &checked.ident);
    let types = checked.iter().map(|checked| &checked.ty);
    let (ident, private) = (checked::function_ident(method), quote!(#farcall::__private));
    quote! {
        fn #ident<#(#bounds,)* Start, #halves Fut, Answer>(
            service: #farcall::server::Service,
            info: #farcall::protocol::describe::MethodInfo,
            handler: (Start, Answer, #private::MethodTypes),
        ) -> #farcall::server::Service
        where
            Start: ::core::ops::Fn(#farcall::Context, #arguments_ident<#(#generics),*>, #halves) -> Fut
                + ::core::marker::Send + ::core::marker::Sync + 'static,
            #halves_bound
            Fut: ::core::future::Future<Output: ::core::marker::Send> + ::core::marker::Send + 'static,
            Answer: ::core::ops::Fn(&#farcall::protocol::Codec, Fut::Output) -> #private::Response
                + ::core::marker::Copy + ::core::marker::Send + ::core::marker::Sync + 'static,
        {
            #private::#add(service, info, handler)
        }
        #ident::<#(#types,)* _, #any_halves _, _>
    }
}

/// Generates the handler of a method: it decodes the arguments, calls the method on the shared service, and
/// encodes the result.
fn handler(service: &Service, method: &Method) -> TokenStream {
    if method.parameters.borrow() {
        return borrowing_handler(service, method);
    }
    let (trait_ident, method_ident) = (&service.item.ident, method.ident());
    let arguments_ident = arguments_ident(service, method);
    let (this, arguments) = (local("this"), local("arguments"));
    let checked = checked::of_method(method);
    let types = checked.iter().map(|checked| &checked.ty);
    let types = (!checked.is_empty()).then(|| quote!(<#(#types),*>));
    let fields = method.parameters.sent.iter().map(|parameter| {
        let ident = &parameter.ident;
        quote!(#arguments.#ident)
    });
    let (context, pass_context) = match &method.parameters.context {
        // The location of the type, so that a `Context` other than farcall's is reported there.
        Some(ty) => {
            let mut context = local("context");
            context.set_span(context.span().located_at(ty.span()));
            (quote!(#context), Some(quote_spanned!(ty.span()=> &#context,)))
        }
        None => (quote!(_), None),
    };
    let (take_halves, pass_halves) = halves(method);
    let answer = answer(service, &method.output);
    let method_types = method_types(service, method);
    quote! {{
        let #this = <::std::sync::Arc<_> as ::core::clone::Clone>::clone(&#this);
        (
            move |#context, #arguments: #arguments_ident #types #take_halves| {
                let #this = <::std::sync::Arc<_> as ::core::clone::Clone>::clone(&#this);
                async move {
                    <Self as #trait_ident>::#method_ident(&*#this, #pass_context #(#fields,)* #(#pass_halves),*).await
                }
            },
            #answer,
            #method_types,
        )
    }}
}

/// Generates the handler of a method that borrows its arguments: its future owns the request that they are borrowed from.
fn borrowing_handler(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let (trait_ident, method_ident) = (&service.item.ident, method.ident());
    let arguments_ident = arguments_ident(service, method);
    let (this, request, arguments) = (local("this"), local("request"), local("arguments"));
    let fields = method.parameters.sent.iter();
    let fields = fields.map(|parameter| borrowed::to_argument(parameter, &quote!(#arguments)));
    // As above.
    let pass_context = method.parameters.context.as_ref().map(|ty| {
        let mut request = request.clone();
        request.set_span(request.span().located_at(ty.span()));
        quote_spanned!(ty.span()=> #request.context(),)
    });
    let answer = answer(service, &method.output);
    let method_types = method_types(service, method);
    quote! {{
        let #this = <::std::sync::Arc<_> as ::core::clone::Clone>::clone(&#this);
        (
            move |#request: #farcall::server::Request| {
                let #this = <::std::sync::Arc<_> as ::core::clone::Clone>::clone(&#this);
                async move {
                    let #arguments: #arguments_ident<'_> = #request.borrow_arguments()?;
                    ::core::result::Result::<_, #farcall::Status>::Ok(
                        <Self as #trait_ident>::#method_ident(&*#this, #pass_context #(#fields,)*).await
                    )
                }
            },
            #answer,
            #method_types,
        )
    }}
}

/// Generates the parameter of the handler's closure for the halves of a stream, and the arguments that they become. Each type
/// keeps its location.
fn halves(method: &Method) -> (Option<TokenStream>, Vec<Ident>) {
    let streams = &method.parameters.streams;
    let (receiver, sender) = (local("receiver"), local("sender"));
    let pass = streams.iter().map(|half| if half.sends { sender.clone() } else { receiver.clone() });
    let ty = |half: &Half| half.parameter.ty.clone();
    let take = match (streams.receiver().map(ty), streams.sender().map(ty)) {
        (Some(receives), Some(sends)) => Some(quote!(, (#receiver, #sender): (#receives, #sends))),
        (Some(receives), None) => Some(quote!(, #receiver: #receives)),
        (None, Some(sends)) => Some(quote!(, #sender: #sends)),
        (None, None) => None,
    };
    (take, pass.collect())
}

/// Generates the types of the result, of the error and of the items, for the schema. A missing trait is reported elsewhere,
/// and makes the type opaque here.
fn method_types(service: &Service, method: &Method) -> TokenStream {
    let farcall = &service.farcall;
    let private = quote!(#farcall::__private);
    let source = |ty: &TokenStream| quote!((&#private::Traced::<#ty>::NEW).type_source());
    let value = |ty: &Type| match ty {
        ty if byte_types::is_byte_vector(ty) => source(&quote!(#farcall::Bytes)),
        ty if byte_types::is_bytes(ty) => source(&quote!(#private::as_bytes::ByteValue<#ty>)),
        ty => source(&quote!(#ty)),
    };
    let types = match &method.output {
        Output::Plain(ty) => {
            let value = value(ty);
            quote!(#private::MethodTypes::new().result(#value))
        }
        Output::Fallible { value: ty, error, .. } => {
            let (value, error) = (
                value(ty),
                quote!((&#private::TracedError::<#error>::NEW).error_of(#private::MethodTypes::new())),
            );
            quote!(#error.result(#value))
        }
    };
    let items = method.parameters.streams.iter().map(|half| {
        let item = &half.item;
        let source = source(&quote!(#item));
        let set = if half.sends { quote!(items_out) } else { quote!(items_in) };
        quote!(.#set(#private::item_source::<#item>(#source)))
    });
    quote!({
        #[allow(unused_imports)]
        use #private::{SourceByName as _, SourceByTracing as _, ErrorByName as _, ErrorByTracing as _};
        #types #(#items)*
    })
}

/// Generates the conversion of a result to a response. Each type keeps its location, so that missing traits
/// are reported there.
fn answer(service: &Service, output: &Output) -> TokenStream {
    let farcall = &service.farcall;
    let (codec, result) = (local("codec"), local("result"));
    let wrapper = |ty: &Type| match ty {
        ty if byte_types::is_byte_vector(ty) => {
            Some((quote!(#farcall::Bytes), quote!(#farcall::Bytes::from)))
        }
        ty if byte_types::is_bytes(ty) => {
            let value = quote!(#farcall::__private::as_bytes::ByteValue);
            Some((quote!(#value<#ty>), value))
        }
        _ => None,
    };
    // A closure rather than the function itself, or a missing trait is reported twice.
    match output {
        Output::Plain(ty) => match wrapper(ty) {
            None => quote!(|#codec, #result| #farcall::__private::Response::ok::<#ty>(#codec, &#result)),
            Some((bytes, wrap)) => {
                quote!(|#codec, #result| #farcall::__private::Response::ok::<#bytes>(#codec, &#wrap(#result)))
            }
        },
        Output::Fallible { value, error, .. } => match wrapper(value) {
            None => quote! {
                |#codec, #result| #farcall::__private::Response::from_result::<#value, #error>(#codec, #result)
            },
            Some((bytes, wrap)) => quote! {
                |#codec, #result| #farcall::__private::Response::from_result::<#bytes, #error>(
                    #codec,
                    ::core::result::Result::map(#result, #wrap),
                )
            },
        },
    }
}
