//! How large to make a stage's machine and how long it will run: [`histogram`] from the first
//! observation on, [`model`] when there are enough, from the features of [`history`].

pub mod histogram;
pub mod history;
pub mod model;
