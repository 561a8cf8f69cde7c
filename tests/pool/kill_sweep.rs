//! The pool is killed at every point.
