//! `esker`: the command-line tool.
#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports)]

mod failure;
mod output;
mod progress;
mod records;
mod text;

fn main() {}
