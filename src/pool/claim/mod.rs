//! Taking a shell: choosing it, making it what is wanted, handing it out; and letting it go.
//!
//! ```text
//! choose: a hot shell ─────────────► check, resize, resume, agent ──► Claimed (resume, hot)
//!    │    none: a template ─► fork ─► load, resize, resume, identity ─► Claimed (fork, warm)
//!    │    none of both ──────────────────────────────────────────────► Nothing
//!    └◄── what cannot be made ready is thrown away, and the next is chosen
//! ```
//!
//! A hot claim is one write, beside which the host is asked three things at most and the guest one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::ledger::Draft;
use super::{Answer, PoolError, Want, fit, key, shell};
use crate::fault::Window;
use crate::hypervisor::{HostFacts, HvError};
use crate::vocab::demand::Arrival;
use crate::vocab::machine::EngineKind;
use crate::vocab::pool::{Claim, Shell, ShellState, Template, TemplateState, Tier};
use crate::vocab::{MachineId, Timestamp};

mod activate;

use activate::make_ready;

/// How many shells are tried for one claim before the claimant is sent to make a machine of its own.
const TRIES: usize = 4;

/// What the choice fell on.
struct Chosen {
    claim: Claim,
    shell: Shell,
    template: Template,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Hot,
    /// It was claimed before, and may have gone on.
    Again,
    /// A fork that waits empty.
    Standby,
    Fork,
}

pub async fn claim(core: &Arc<Core>, want: &Want) -> Result<Answer, PoolError> {
    let begun = Instant::now();
    let _one_at_a_time = core.key_lock(&want.key).await;
    let _claiming = core.claiming();
    let is_foreign = core.ledger.look(|rows| {
        let claim = rows.claims.get(&want.key);
        claim.is_some_and(|claim| claim.client != want.client)
    });
    if is_foreign {
        return Err(PoolError::Refused(format!(
            "the key {:?} is taken; use another",
            want.key
        )));
    }
    if let Some(answer) = again(core, want).await {
        return Ok(answer);
    }
    // No pool could serve it, so it is no demand for one.
    if let Some(reason) = fit::never(want) {
        let tier = Tier::Cool;
        return Ok(Answer::Nothing { tier, reason });
    }
    let asked_at = core.now();
    let nothing = |tier, reason| {
        note_arrival(core, want, None, asked_at, begun);
        Ok(Answer::Nothing { tier, reason })
    };
    let host = match core.host().await {
        Ok(host) => host,
        Err(error) => return nothing(Tier::Cool, error.to_string()),
    };
    if let Some(verdict) = core.known().verdict.clone()
        && !verdict.forks
    {
        return nothing(
            Tier::Cool,
            format!("this host does not fork: {}", verdict.reason),
        );
    }
    let mut last = None;
    for _ in 0..TRIES {
        core.point("claim", Window::Before).await;
        let (chosen, write) = core
            .ledger
            .begin(|draft| choose(core, draft, want, &host, core.now()));
        let Some(chosen) = chosen else { break };
        // Written while the shell goes on: a crash between the two leaves a shell that is not claimed and
        // not paused, which the next start destroys.
        let stored = async {
            let written = write.await;
            core.point("claim", Window::After).await;
            core.point("claim", Window::Stored).await;
            written
        };
        let (written, made) = tokio::join!(stored, make_ready(core, want, &chosen, begun));
        if let Err(error) = written {
            // In memory only, where the database refuses: what it has says the same as before.
            let reason = "its claim could not be stored";
            let _ = core
                .ledger
                .begin(|draft| undo(draft, &chosen, reason))
                .1
                .await;
            core.nudge.notify_one();
            return Err(PoolError::Store(error.to_string()));
        }
        match made {
            Ok(claim) => {
                note_arrival(core, want, Some(&claim), asked_at, begun);
                return Ok(handed_out(core, claim));
            }
            Err(words) => {
                tracing::warn!(shell = %chosen.shell.name, %words, "a shell could not be handed out and is thrown away");
                take_back(core, &chosen, &words).await;
                last = Some(words);
            }
        }
    }
    note_arrival(core, want, None, asked_at, begun);
    Ok(in_vain(core, want, last))
}

/// Somebody asked, and was served by the claim or sent away: counted for the class that served, or for
/// the one that would have.
fn note_arrival(
    core: &Core,
    want: &Want,
    claim: Option<&Claim>,
    asked_at: Timestamp,
    begun: Instant,
) {
    let growth_mib = core.services.settings.growth_mib;
    let (class, tier, wait_ms) = match claim {
        Some(claim) => {
            let wait_ms = begun.elapsed().as_secs_f64() * 1000.0;
            (claim.class.clone(), claim.tier, Some(wait_ms))
        }
        None => {
            let meant = core.ledger.look(|rows| {
                let wanted = rows.wanted.keys().map(|class| (class, asked_at, class));
                fit::best(wanted, want, growth_mib).map(|(_, class)| class.clone())
            });
            let class = meant.unwrap_or_else(|| fit::class_for(want, growth_mib));
            (class, Tier::Cool, None)
        }
    };
    let arrival = Arrival {
        key: want.key.clone(),
        class,
        client: want.client.clone(),
        persona: None,
        at: asked_at,
        tier,
        wait_ms,
    };
    core.arrivals.note(arrival, claim.is_some());
}

/// A claim of this key is there already: the same shell, if it can still be had.
async fn again(core: &Arc<Core>, want: &Want) -> Option<Answer> {
    let (claim, shell, template) = core.ledger.look(|rows| {
        let claim = rows.claims.get(&want.key)?.clone();
        let shell = rows.shells.get(&claim.shell)?.clone();
        let template = rows.templates.get(&shell.template)?.clone();
        Some((claim, shell, template))
    })?;
    let origin = match (claim.engine, &shell.identity) {
        // A fork without an identity was never handed out.
        (EngineKind::Fork, None) => Origin::Fork,
        _ => Origin::Again,
    };
    let chosen = Chosen {
        claim,
        shell,
        template,
        origin,
    };
    match make_ready(core, want, &chosen, Instant::now()).await {
        Ok(claim) => Some(handed_out(core, claim)),
        Err(words) => {
            tracing::warn!(shell = %chosen.shell.name, %words, "a claimed shell cannot be had any more; another is looked for");
            take_back(core, &chosen, &words).await;
            None
        }
    }
}

/// The best shell there is, else the best template; the rows say at once that it is taken.
fn choose(
    core: &Core,
    draft: &mut Draft<'_>,
    want: &Want,
    host: &HostFacts,
    now: Timestamp,
) -> Option<Chosen> {
    let growth_mib = core.services.settings.growth_mib;
    let serving: Vec<Template> = draft
        .rows
        .templates
        .values()
        .filter(|template| {
            matches!(
                template.state,
                TemplateState::Ready | TemplateState::Draining
            ) && fit::fitness(&template.class, want, growth_mib).is_some()
                && key::serves(template, want, host, growth_mib)
        })
        .cloned()
        .collect();
    let hot = fit::best(
        serving
            .iter()
            .flat_map(|template| {
                draft
                    .rows
                    .shells_of(template.id)
                    .filter(|shell| shell.state == ShellState::Ready)
                    .map(move |shell| (shell, template))
            })
            .map(|(shell, template)| {
                let since = shell.ready_at.unwrap_or(shell.made_at);
                (&shell.class, since, (shell.clone(), template.clone()))
            }),
        want,
        growth_mib,
    );
    let (shell, template, origin, reason) = match hot {
        Some((_, (shell, template))) => {
            let reason = format!("a shell of {} waited", shell.class);
            (shell, template, Origin::Hot, reason)
        }
        None => {
            let ready = serving
                .iter()
                .filter(|template| template.state == TemplateState::Ready)
                .map(|template| (&template.class, template.made_at, template.clone()));
            let (_, template) = fit::best(ready, want, growth_mib)?;
            let waiting = draft
                .rows
                .shells_of(template.id)
                .find(|shell| shell.state == ShellState::Standby)
                .cloned();
            let reason = format!("no shell of {} waited; forked on demand", template.class);
            match waiting {
                Some(shell) => (shell, template, Origin::Standby, reason),
                None => {
                    let shell = shell::row(core, draft.rows, &template, ShellState::Claimed);
                    (shell, template, Origin::Fork, reason)
                }
            }
        }
    };
    let (engine, tier) = match origin {
        Origin::Hot | Origin::Again => (EngineKind::Resume, Tier::Hot),
        Origin::Standby | Origin::Fork => (EngineKind::Fork, Tier::Warm),
    };
    let claim = Claim {
        key: want.key.clone(),
        owner: want.owner.clone(),
        client: want.client.clone(),
        shell: shell.id,
        name: shell.name.clone(),
        class: shell.class.clone(),
        engine,
        tier,
        reason,
        made_at: now,
        until: want.ttl.map(|ttl| now.after(ttl)),
        released_at: None,
        achieved: None,
        shortfall: None,
        phases: Vec::new(),
    };
    let shell = Shell {
        state: ShellState::Claimed,
        claim: Some(want.key.clone()),
        ..shell
    };
    draft.rows.used.insert(shell.class.clone(), now);
    draft.put_shell(shell.clone());
    draft.put_claim(claim.clone());
    Some(Chosen {
        claim,
        shell,
        template,
        origin,
    })
}

/// Nobody waits for what it took to be written down.
fn handed_out(core: &Arc<Core>, claim: Claim) -> Answer {
    let answer = Answer::Claimed(Box::new(claim.clone()));
    core.ledger.note(|rows| {
        if let Some(known) = rows.claims.get_mut(&claim.key) {
            *known = claim.clone();
        }
    });
    let core = core.clone();
    tokio::spawn(async move {
        core.ledger
            .change(|draft| {
                if draft.rows.claims.contains_key(&claim.key) {
                    draft.put_claim(claim);
                }
            })
            .await;
        core.point("shell_activate", Window::Stored).await;
    });
    answer
}

/// Nobody was told of this claim: it never was, and its shell is thrown away.
async fn take_back(core: &Arc<Core>, chosen: &Chosen, words: &str) {
    core.ledger.change(|draft| undo(draft, chosen, words)).await;
    core.nudge.notify_one();
}

fn undo(draft: &mut Draft<'_>, chosen: &Chosen, words: &str) {
    draft.undo_claim(&chosen.claim.key);
    draft.discard(chosen.shell.id, Some(words));
}

/// Nothing could be had: why, and what would have helped.
fn in_vain(core: &Core, want: &Want, last: Option<String>) -> Answer {
    let growth_mib = core.services.settings.growth_mib;
    let class = fit::class_for(want, growth_mib);
    let now = core.now();
    core.ledger
        .note(|rows| rows.in_vain.entry(class.clone()).or_default().push(now));
    core.nudge.notify_one();
    let reason = match last {
        Some(words) => words,
        None => {
            let coming = core.ledger.look(|rows| {
                let mut states = rows
                    .templates
                    .values()
                    .filter(|template| fit::fitness(&template.class, want, growth_mib).is_some());
                states.any(|template| template.state == TemplateState::Building)
            });
            if coming {
                format!("a template that would serve it ({class}) is still being built")
            } else {
                format!("no template of {class}; `greenroom pool set {class} --hot 1` keeps one")
            }
        }
    };
    Answer::Nothing {
        tier: Tier::Cool,
        reason,
    }
}

/// Ends a claim and destroys its shell.
pub async fn release(core: &Arc<Core>, key: &str) -> Result<(), PoolError> {
    let _one_at_a_time = core.key_lock(key).await;
    let now = core.now();
    let shells: Vec<MachineId> = core
        .ledger
        .change(|draft| {
            if let Some(mut claim) = draft.rows.claims.get(key).cloned() {
                claim.released_at = Some(now);
                draft.put_claim(claim);
            }
            let shells: Vec<MachineId> = draft
                .rows
                .shells
                .values()
                .filter(|shell| shell.claim.as_deref() == Some(key))
                .map(|shell| shell.id)
                .collect();
            for shell in &shells {
                draft.discard(*shell, None);
            }
            shells
        })
        .await;
    for shell in shells {
        gone(core, shell).await?;
    }
    Ok(())
}

/// Destroys a shell that is being released, or waits until somebody who is at it has done so.
async fn gone(core: &Arc<Core>, id: MachineId) -> Result<(), HvError> {
    loop {
        if core.ledger.look(|rows| !rows.shells.contains_key(&id)) {
            return Ok(());
        }
        if let Some(_busy) = core.take_up(id) {
            return shell::destroy(core, id).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
