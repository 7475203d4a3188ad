//! Servers as child processes, and their figures.

mod figures;
mod process;

pub(crate) use self::figures::{Figures, memory};
pub(crate) use self::process::{Kind, Server};
