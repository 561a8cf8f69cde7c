//! From a chosen shell to one that runs, answers and is as large as wanted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Chosen, Origin};
use crate::fault::Window;
use crate::hypervisor::{Power, Share};
use crate::pool::core::{Core, Phases};
use crate::pool::shell::{self, Bearing};
use crate::pool::template::{self, Unfit};
use crate::pool::{Want, fit, identity};
use crate::vocab::pool::{Achieved, Claim, Template};

/// A shell that was paused answers within 0.1 s; one that does not in this time is broken.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Memory that was added shows within 0.5 s per GiB under emulation. What has not arrived by then is
/// told as achieved.
const GROWS_WITHIN: Duration = Duration::from_secs(5);

/// What came of adding memory.
struct Grown {
    achieved: Achieved,
    /// What of it the guest does not have.
    missing_mib: u64,
}

/// Makes the shell what is wanted; it runs and answers after. The error is in words.
pub(super) async fn make_ready(
    core: &Arc<Core>,
    want: &Want,
    chosen: &Chosen,
    begun: Instant,
) -> Result<Claim, String> {
    let mut phases = Phases::begin();
    phases
        .done
        .push(("claim".to_owned(), begun.elapsed().as_secs_f64() * 1000.0));
    core.point("shell_activate", Window::Before).await;
    let share = fit::share(&chosen.shell.class, want);
    let grown = match chosen.origin {
        Origin::Hot | Origin::Again => activate(core, want, chosen, share, &mut phases).await?,
        Origin::Standby | Origin::Fork => bring_up(core, want, chosen, share, &mut phases).await?,
    };
    core.point("shell_activate", Window::After).await;
    let mut claim = chosen.claim.clone();
    if let Some(grown) = grown {
        claim.shortfall = shortfall(want, &grown);
        claim.achieved = Some(grown.achieved);
    }
    claim.phases = phases.done;
    Ok(claim)
}

/// A shell that waited in memory goes on.
async fn activate(
    core: &Arc<Core>,
    want: &Want,
    chosen: &Chosen,
    share: Share,
    phases: &mut Phases,
) -> Result<Option<Grown>, String> {
    let id = chosen.shell.id;
    let (fit, seen) = tokio::join!(
        intact(core, &chosen.template),
        core.hypervisor().machine(id)
    );
    fit?;
    match seen
        .map_err(|error| error.to_string())?
        .map(|seen| seen.power)
    {
        Some(Power::Paused) => {}
        // One that is claimed again may have gone on before.
        Some(Power::Running) if chosen.origin == Origin::Again => {}
        Some(Power::Running) => return Err("it was not paused: somebody may have used it".into()),
        Some(Power::Off) | None => return Err("its machine is not on the host any more".into()),
    }
    phases.end("check");
    if share.cpu_percent.is_some() || share.added_memory_mib > 0 {
        core.hypervisor()
            .resize(id, share)
            .await
            .map_err(|error| format!("giving it its size: {error}"))?;
        phases.end("resize");
    }
    let late_card = want.network && !chosen.shell.class.network;
    if late_card {
        shell::attach_card(core, id).await?;
        phases.end("card");
    }
    core.hypervisor()
        .resume(id)
        .await
        .map_err(|error| format!("letting it go on: {error}"))?;
    phases.end("resume");
    identity::set_clock(core.hypervisor(), id, core.now(), ANSWERS_WITHIN)
        .await
        .map_err(|error| format!("its agent: {error}"))?;
    phases.end("agent");
    after_growth(core, chosen, share, late_card, phases).await
}

/// A fork on demand.
async fn bring_up(
    core: &Arc<Core>,
    want: &Want,
    chosen: &Chosen,
    share: Share,
    phases: &mut Phases,
) -> Result<Option<Grown>, String> {
    intact(core, &chosen.template).await?;
    phases.end("check");
    let result = async {
        if chosen.origin == Origin::Fork {
            shell::fork(core, &chosen.shell, &want.image, phases).await?;
        }
        // Also one that is no more than the class has: until then a fork stands back behind all others.
        let bearing = Bearing {
            share: Some(share),
            card: want.network,
        };
        shell::load(core, &chosen.shell, &bearing, phases).await?;
        let late_card = want.network && !chosen.shell.class.network;
        after_growth(core, chosen, share, late_card, phases).await
    }
    .await;
    let (now, id) = (core.now(), chosen.template.id);
    let mut known = core.known();
    let breaker = known.fills.entry(id).or_default();
    match &result {
        Ok(_) => breaker.succeeded(),
        Err(words) => breaker.failed(&id.to_string(), words, now),
    }
    drop(known);
    result
}

/// Waits for what was added to show in the guest, and says what the guest has then.
async fn after_growth(
    core: &Arc<Core>,
    chosen: &Chosen,
    share: Share,
    late_card: bool,
    phases: &mut Phases,
) -> Result<Option<Grown>, String> {
    let guest = core.guest(chosen.shell.id);
    if late_card {
        identity::wait_for_card(&guest, &identity::mac_of(chosen.shell.id)).await?;
        phases.end("card_shows");
    }
    if share.added_memory_mib == 0 {
        return Ok(None);
    }
    let base = core
        .ledger
        .look(|rows| rows.bases.get(&chosen.shell.id).copied())
        // A fork on demand grew before it was first looked at: what its kernel keeps for itself, a tenth
        // and a little, is allowed for.
        .unwrap_or_else(|| {
            let own = chosen.shell.class.memory_mib;
            own.saturating_sub(own / 10 + 64)
        });
    let end = Instant::now() + GROWS_WITHIN;
    loop {
        let achieved = identity::measure(&guest, ANSWERS_WITHIN)
            .await
            .map_err(|error| format!("looking at its size: {error}"))?;
        let missing_mib = (base + share.added_memory_mib).saturating_sub(achieved.memory_mib);
        if missing_mib == 0 || Instant::now() >= end {
            phases.end("growth");
            return Ok(Some(Grown {
                achieved,
                missing_mib,
            }));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn shortfall(want: &Want, grown: &Grown) -> Option<String> {
    let mut words = Vec::new();
    if grown.achieved.vcpus < want.size.vcpus {
        words.push(format!(
            "{} of {} vCPUs",
            grown.achieved.vcpus, want.size.vcpus
        ));
    }
    if grown.missing_mib > 0 {
        words.push(format!(
            "{} MiB of {} did not arrive within {} s",
            grown.missing_mib,
            want.size.memory_mib,
            GROWS_WITHIN.as_secs()
        ));
    }
    (!words.is_empty()).then(|| words.join(" and "))
}

/// The template's files are as they were sealed; a damaged template is given up on the spot.
async fn intact(core: &Arc<Core>, template: &Template) -> Result<(), String> {
    let Some(seal) = &template.seal else {
        return Err("its template was never sealed".to_owned());
    };
    match template::check(core, template.id, seal, false).await {
        Ok(()) => Ok(()),
        Err(Unfit::Damaged(words)) => {
            template::fail(core, template.id, &words).await;
            Err(words)
        }
        Err(Unfit::Unknown(error)) => Err(error.to_string()),
    }
}
