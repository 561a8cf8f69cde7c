//! Who is let in, and to what. Pure: values in, a verdict out.
//!
//! ```text
//!  request ─► web::guard ─► who is it? (socket, token, session)  ─► Caller
//!                               │
//!  the route's declaration ─► Access ──► decide(access, caller) ──► Verdict
//! ```
//!
//! [`decide`] is the one place where a role is compared with what a route needs. What remains for
//! the routes themselves is whose things they show: they ask [`Caller::scope`].
//!
//! The rest are the parts of it that are values: [`secret`] (tokens, cookies, codes), [`password`],
//! [`session`] (when one ends), [`pace`] (how many requests are too many), [`ledger`] (the chain of
//! hashes of the audit log).

pub mod caller;
pub mod decide;
pub mod ledger;
pub mod pace;
pub mod password;
pub mod secret;
pub mod session;

pub use caller::{Caller, Origin, Who};
pub use decide::{Access, Reach, Verdict, decide};
