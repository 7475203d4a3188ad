//! The parameters whose types may lack serde's traits.
//!
//! Where the arguments' struct is made of such a type, each trait that is missing is an error of rustc of twenty lines,
//! several times. So the struct is generic over these types, and the code that needs the traits is in a function that is
//! generic over them, too: what is missing is one sentence at the type, as `Argument` words it.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;
use syn::{GenericArgument, Ident, PathArguments, Type};

use super::borrowed;
use crate::byte_types::is_bytes;
use crate::known_types::is_known;
use crate::method::Method;
use crate::parameter::Parameter;
use crate::service::Service;
use crate::type_rules::ungrouped;

/// A parameter's type that is checked.
pub(super) struct Checked {
    /// The type parameter that stands for it.
    pub(super) ident: Ident,
    /// The type, with its location.
    pub(super) ty: Type,
}

/// Returns the name of the function that is generic over the types: the method's, but no parameter's.
pub(super) fn function_ident(method: &Method) -> Ident {
    let ident = method.ident();
    format_ident!("__{}", ident.unraw(), span = ident.span())
}

/// Returns the types that are checked, in the order of the parameters.
///
/// A method that borrows arguments has none: their types cannot be named without the request.
pub(super) fn of_method(method: &Method) -> Vec<Checked> {
    if method.parameters.borrow() {
        return Vec::new();
    }
    let all = method.parameters.sent.iter().enumerate();
    all.filter_map(|(index, parameter)| checked(index, parameter).map(|(checked, _)| checked)).collect()
}

/// Returns the types of the struct's fields, in the order of the parameters.
pub(super) fn field_types(method: &Method) -> Vec<Type> {
    if method.parameters.borrow() {
        return method.parameters.sent.iter().map(borrowed::field_type).collect();
    }
    let all = method.parameters.sent.iter().enumerate();
    all.map(|(index, parameter)| match checked(index, parameter) {
        Some((_, field)) => field,
        None => parameter.ty.clone(),
    })
    .collect()
}

/// Returns the type parameters with their bound.
pub(super) fn bounds(service: &Service, checked: &[Checked]) -> Vec<TokenStream> {
    let farcall = &service.farcall;
    let bound = |Checked { ident, .. }: &Checked| quote!(#ident: #farcall::__private::Argument);
    checked.iter().map(bound).collect()
}

/// Returns the type that is checked, and that of the field; `None` if serde has the traits for sure.
fn checked(index: usize, parameter: &Parameter) -> Option<(Checked, Type)> {
    // Byte strings are made of known types, but for the keys of maps.
    if is_known(&parameter.ty) || is_bytes(&parameter.ty) {
        return None;
    }
    let ident = format_ident!("__Argument{index}");
    let generic = || syn::parse_quote!(#ident);
    if !parameter.is_optional() {
        let field = generic();
        return Some((Checked { ident, ty: parameter.ty.clone() }, field));
    }
    // The field stays an `Option`, whose default does not depend on its content.
    let mut field = ungrouped(&parameter.ty).clone();
    let Type::Path(path) = &mut field else { return None };
    let PathArguments::AngleBracketed(arguments) = &mut path.path.segments.last_mut()?.arguments else {
        return None;
    };
    let GenericArgument::Type(inner) = arguments.args.first_mut()? else { return None };
    let ty = std::mem::replace(inner, generic());
    Some((Checked { ident, ty }, field))
}
