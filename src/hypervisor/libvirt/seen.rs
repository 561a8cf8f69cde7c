//! Machines of which something was found out that never changes. Ids are never used again, so that
//! knowing too little is all that can go wrong: then the host is asked once more.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::vocab::MachineId;

const MOST: usize = 4096;

#[derive(Default)]
pub struct Seen(Mutex<HashSet<MachineId>>);

impl Seen {
    pub fn contains(&self, id: &MachineId) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(id)
    }

    pub fn insert(&self, id: MachineId) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(id);
    }
}
