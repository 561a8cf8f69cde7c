//! What Greenroom learns: how much will be asked for, how many shells to keep, how large a stage's
//! machine should be, which persona a device is to become; and whether any of it is worth using.
//!
//! Everything here is pure: numbers in, numbers out, the same for the same seed. Others bring the
//! observations, keep the models and act. Beside each model stands the plain rule that it has to beat.
//!
//! ```text
//!  arrivals ─► series ─► forecast ──────────────► sizing ─► shells per class, with reasons
//!                        (several methods,          ▲
//!                         chosen by back-test)      │ cost curves
//!  arrivals ─► psim: replay of the pool's rules ────┘
//!
//!  usage ────► resources: histogram (from the first), model (from enough) ─► amount, level, why
//!  facts ────► classify ─► persona or proposal, with what spoke for it
//!
//!  all of them ─► judge: later data only; promotion by a margin; drift
//! ```
//!
//! Start with [`forecast`], then [`sizing`]. [`score`] defines how forecasts are judged, [`psim`] how
//! pools are. [`trees`] is the machinery under most models, [`robust`] what keeps one absurd value from
//! moving them. The figures are measured by the group `learn` of the benches, on recorded traces.

pub mod classify;
pub mod features;
pub mod forecast;
pub mod judge;
pub mod psim;
pub mod random;
pub mod resources;
pub mod robust;
pub mod score;
pub mod series;
pub mod sizing;
pub mod trees;
