//! Servers as child processes, and their figures.

mod figures;
mod process;
mod scarcity;

pub(crate) use self::figures::{Figures, ProcessTimes, memory};
pub(crate) use self::process::{Kind, Server};
pub(crate) use self::scarcity::{Scarcity, Supplies};
