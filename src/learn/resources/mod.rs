//! How large to make a stage's machine and how long it will run: [`histogram`] from the first
//! observation on, [`model`] when there are enough, from the features of [`history`].

//!
//! ```text
//! looks ─► tally ─► observation ─► window  (plain rule, from five on)
//!                                └► history ─► features ─► model (from two dozen on, while it is better)
//! ```

pub mod ask;
pub mod choice;
pub mod histogram;
pub mod history;
pub mod model;
pub mod observation;
pub mod record;
pub mod tally;
pub mod trial;
pub mod whole;
pub mod window;

#[cfg(test)]
mod few_tests;
