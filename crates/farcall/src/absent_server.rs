//! The types that traits of services name, in a process that is no server.

use std::convert::Infallible;
use std::marker::PhantomData;

/// Sends items of a streaming call to its caller. Without the feature `server` there are no values of it.
#[derive(Debug)]
pub struct Sender<T>(Infallible, PhantomData<fn(T)>);

/// Receives items of a streaming call from its caller. Without the feature `server` there are no values of it.
#[derive(Debug)]
pub struct Receiver<T>(Infallible, PhantomData<fn() -> T>);
