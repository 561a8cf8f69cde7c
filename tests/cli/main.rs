//! The command line as people and scripts meet it: the real binary, in folders of its own.

mod access;
mod chains;
mod command;
mod config;
mod daemon;
mod exits;
mod help;
mod images;
mod personas;
mod pool;
mod traces;
