//! Settings of a service.

#[farcall::service(nmae = "Arith")]
trait Unknown {}

#[farcall::service(name = "")]
trait Empty {}

#[farcall::service(name = "math..Arith")]
trait Dotted {}

#[farcall::service(name = "integer arithmetic")]
trait Spaced {}

#[farcall::service(name = "farcall")]
trait Reserved {}

#[farcall::service(name = "A", name = "B")]
trait Twice {}

#[farcall::service("Arith")]
trait NoKey {}

fn main() {}
