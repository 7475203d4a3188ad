//! The verdicts of comparisons, against what happens when values of one type are decoded as another by the real codecs.

mod changes;
mod dynamic;
mod generate;
mod verdicts;
