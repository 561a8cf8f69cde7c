//! Calls that wait for a guest: agent commands and detaching. A guest may answer late or never, so
//! they use connections of their own, and none of them may occupy more than one lane per machine.
//!
//! libvirt works on one agent command of a domain at a time, and a second one waits inside libvirtd,
//! where it would hold one of its 20 workers. So the second one waits here. Three connections of
//! four lanes let twelve silent guests hang before another guest waits, and leave libvirtd's other
//! workers to the control connection and to other programs.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use virt::connect::Connect;

use super::connection::{Call, CallKind, Link};
use super::seen::Seen;
use super::turns::Turns;
use super::{errors, machines};
use crate::hypervisor::{AGENT_REPLY_CAP, HvError};
use crate::vocab::{Deployment, MachineId};

pub const GUEST_LINKS: usize = 3;

/// libvirt's own limit for a string on the wire.
const LONGEST_COMMAND: usize = 4 << 20;

pub struct Guests {
    links: Vec<Arc<Link>>,
    deployment: Deployment,
    turns: Turns<MachineId>,
    /// Machines whose tag was seen to be ours. Ids are never used again, so that once is enough.
    known: Seen,
}

impl Guests {
    pub fn new(links: Vec<Arc<Link>>, deployment: Deployment) -> Self {
        Self {
            links,
            deployment,
            turns: Turns::default(),
            known: Seen::default(),
        }
    }

    /// One agent command, see [`crate::hypervisor::Hypervisor::agent`].
    pub async fn agent(
        &self,
        id: MachineId,
        command: &str,
        deadline: Duration,
    ) -> Result<String, HvError> {
        if command.len() >= LONGEST_COMMAND {
            return Err(HvError::Refused(format!(
                "an agent command of {} bytes is too long for libvirt",
                command.len()
            )));
        }
        let asked = Instant::now();
        let late = HvError::AgentTimeout(id, deadline);
        let Ok(turn) = tokio::time::timeout(deadline, self.turns.take(&id)).await else {
            return Err(late);
        };
        let left = deadline.saturating_sub(asked.elapsed());
        let call = Call {
            what: "agent",
            patience: left,
            kind: CallKind::Agent,
        };
        let (command, known, deployment) = (command.to_owned(), self.is_known(id), self.deployment);
        let result = self.quietest().call(call, move |connect| {
            // Moved in here: the turn ends with the call, also when its caller has given up.
            let _turn = turn;
            let domain = if known {
                connect
                    .lookup_domain_by_uuid(id.0)
                    .map_err(errors::about(id))?
            } else {
                machines::find_ours(connect, id, deployment)?
                    .ok_or(HvError::NoSuchMachine(id))?
                    .0
            };
            // Whole seconds, rounded up: 0 would mean "do not wait", and the caller's own clock is exact.
            let seconds = i32::try_from(left.as_millis().div_ceil(1000))
                .unwrap_or(i32::MAX)
                .max(1);
            domain
                .qemu_agent_command(&command, seconds, 0)
                .map_err(|error| errors::of_agent(id, deadline, &error))
        });
        match result.await {
            Ok(reply) if reply.len() > AGENT_REPLY_CAP => Err(HvError::Agent(format!(
                "a reply of {} bytes is longer than {AGENT_REPLY_CAP}",
                reply.len()
            ))),
            Ok(reply) => {
                self.remember(id);
                Ok(reply)
            }
            // Overdue by our own clock. Other answers of the host come well before it.
            Err(HvError::Host(_)) if asked.elapsed() >= deadline => Err(late),
            Err(error) => Err(error),
        }
    }

    /// A change that waits for the guest's cooperation.
    pub async fn call<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Connect) -> Result<T, HvError> + Send + 'static,
    ) -> Result<T, HvError> {
        self.quietest().call(call, work).await
    }

    fn quietest(&self) -> &Arc<Link> {
        self.links
            .iter()
            .max_by_key(|link| link.free_lanes())
            .expect("there is at least one link")
    }

    pub fn is_known(&self, id: MachineId) -> bool {
        self.known.contains(&id)
    }

    /// For machines whose tag was seen, or written, by this program.
    pub fn remember(&self, id: MachineId) {
        self.known.insert(id);
    }
}
