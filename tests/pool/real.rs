//! One round on real guests, in the lab.
