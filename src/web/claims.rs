//! `/claims`: take a machine and run a command in it, list, release.
//!
//! Taking and running is one request, and goes on by itself when whoever asked goes away: what it
//! leaves is a claim that its command's end or its time ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::time::Instant;
use tracing::Instrument;

use super::class::{self, PLAIN, fault};
use super::extract::{Body, InPath, Params, Part};
use super::refusal::{Refusal, Why};
use super::rooms::{self, Room};
use super::routes::{Op, Routes};
use super::{App, Shared, cursor, pool};
use crate::access::{Access, Caller};
use crate::api::claims::{DEFAULT_EXEC_S, DEFAULT_TTL_S, MOST_EXEC_S, MOST_TTL_S};
use crate::api::devices::DEFAULT_CLIENT;
use crate::api::{
    ClaimView, ExecOrder, ExecView, Page, PhaseView, ProblemFault, TakeClaim, TakenView,
};
use crate::hypervisor::AGENT_CHUNK;
use crate::hypervisor::guest::{Finished, Guest};
use crate::pool::{Answer, Want};
use crate::vocab::MachineId;
use crate::vocab::access::Role;
use crate::vocab::device::is_plain_name;
use crate::vocab::machine::Size;
use crate::vocab::pool::Claim;

/// Longest word about who claims.
const OWNER_CHARS: usize = 120;

/// For a claim, beside its command: room on the host is waited for, and a fork that has to be made on
/// demand may be that of a slow guest.
const TAKING: Duration = Duration::from_secs(300);
/// For destroying a machine and removing its files.
const RELEASING: Duration = Duration::from_secs(300);

pub fn routes() -> Routes {
    let (see, change) = (
        Access::per_client(Role::Viewer),
        Access::per_client(Role::Operator),
    );
    Routes::of("claims", "Machines of the pool that somebody has taken.")
        .with(
            Op::get("claim_list", "/claims", see, list)
                .says("Claims that are not released, oldest first")
                .query::<Part>()
                .answers::<Page<ClaimView>>(200),
        )
        .with(
            Op::post("claim_take", "/claims", change, take)
                .says("Takes a machine, and may run a command in it; 200 where there was none to be had")
                .takes::<TakeClaim>()
                .answers::<TakenView>(200)
                .answers::<TakenView>(201)
                .within(TAKING + Duration::from_secs(MOST_EXEC_S)),
        )
        .with(
            Op::delete("claim_release", "/claims/{key}", change, release)
                .says("Gives a machine back; answers when it is gone")
                .answers_bytes(204, "")
                .within(RELEASING),
        )
}

/// With their machines' names.
pub(crate) async fn list(
    State(app): Shared,
    caller: Caller,
    Params(part): Params<Part>,
) -> Result<Json<Page<ClaimView>>, Refusal> {
    let pool = &app.state.pool;
    let (mut claims, shells) = (pool.claims().await?, pool.shells().await?);
    claims.retain(|claim| caller.scope.covers(&claim.client));
    let name = |id: MachineId| {
        let shell = shells.iter().find(|shell| shell.id == id);
        shell.map(|shell| shell.name.clone())
    };
    let view = |claim: &Claim| ClaimView::of(claim, name(claim.shell));
    let key = |claim: &Claim| format!("{:019} {}", claim.made_at.0.max(0), claim.key);
    let (limit, cursor) = (part.limit, part.cursor.as_deref());
    cursor::cut("claims", claims, limit, cursor, key, view).map(Json)
}

pub(crate) async fn take(
    State(app): Shared,
    caller: Caller,
    Body(order): Body<TakeClaim>,
) -> Result<(StatusCode, Json<TakenView>), Refusal> {
    let began = Instant::now();
    let work = async move { taken(&app, &caller, order, began).await };
    match tokio::spawn(work.in_current_span()).await {
        Ok(Ok(taken)) => {
            let status = match taken.claim {
                Some(_) => StatusCode::CREATED,
                None => StatusCode::OK,
            };
            Ok((status, Json(taken)))
        }
        Ok(Err(refusal)) => Err(refusal),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Refusal::new(Why::Unavailable, "the daemon is stopping")),
        },
    }
}

pub(crate) async fn taken(
    app: &Arc<App>,
    caller: &Caller,
    order: TakeClaim,
    began: Instant,
) -> Result<TakenView, Refusal> {
    let client = client_of(caller, &order)?;
    let pool = pool::working(app)?;
    let (want, exec, keep) = wanted(app, caller, client, order).await?;
    let key = want.key.clone();
    let room = app
        .rooms
        .take(&key, want.size)
        .await
        .map_err(|why| Refusal::new(Why::Refused, why))?;
    let give_back = || {
        if room == Room::Taken {
            app.rooms.give_back(&key);
        }
    };
    let mut phases = vec![phase("admit", began)];
    let claim = match pool.claim(&want).await {
        Ok(Answer::Claimed(claim)) => claim,
        Ok(Answer::Nothing { tier, reason }) => {
            give_back();
            return Ok(TakenView {
                claim: None,
                tier: tier.to_string(),
                reason,
                exec: None,
                phases,
                total_ms: ms(began),
            });
        }
        Err(error) => {
            give_back();
            return Err(error.into());
        }
    };
    if let Err(refusal) = is_answer_to(&claim, &want) {
        give_back();
        return Err(refusal);
    }
    app.rooms.hold(&key);
    phases.extend(PhaseView::list(&claim.phases));
    let (exec, name) = tokio::join!(
        async {
            let exec = exec.as_ref()?;
            let begun = Instant::now();
            let ended = run(app, claim.shell, exec).await;
            Some((ended, phase("exec", begun)))
        },
        name_of(app, claim.shell)
    );
    let (exec, exec_phase) = exec.unzip();
    phases.extend(exec_phase);
    if exec.is_some() && !keep {
        let (app, key) = (app.clone(), key.clone());
        tokio::spawn(async move { let_go(&app, &key).await }.in_current_span());
    }
    Ok(TakenView {
        tier: claim.tier.to_string(),
        reason: claim.reason.clone(),
        claim: Some(ClaimView::of(&claim, name)),
        exec,
        phases,
        total_ms: ms(began),
    })
}

/// On whose behalf: whose the order says, else the caller's own.
fn client_of(caller: &Caller, order: &TakeClaim) -> Result<String, Refusal> {
    let own = caller.scope.client().unwrap_or(DEFAULT_CLIENT);
    let client = order.client.as_deref().unwrap_or(own);
    if !caller.scope.covers(client) {
        return Err(Refusal::new(
            Why::Forbidden,
            format!("you are bound to the client {own}, and the machine is to be another's"),
        ));
    }
    Ok(client.to_owned())
}

/// A key names one claim of one image, and claims of runs are theirs.
fn is_answer_to(claim: &Claim, want: &Want) -> Result<(), Refusal> {
    let key = &want.key;
    if !rooms::is_ours(claim) {
        return Err(foreign(claim));
    }
    if claim.class.image != want.image.name {
        return Err(Refusal::new(
            Why::Refused,
            format!(
                "the key {key:?} is that of a claim of {}; use another, or release it with `greenroom release {key}`",
                claim.class.image
            ),
        ));
    }
    Ok(())
}

fn foreign(claim: &Claim) -> Refusal {
    Refusal::new(
        Why::Refused,
        format!(
            "the claim {:?} belongs to {}, which releases it itself",
            claim.key, claim.owner
        ),
    )
}

/// What the pool is asked for, and what follows; all faults at once.
pub(crate) async fn wanted(
    app: &App,
    caller: &Caller,
    client: String,
    order: TakeClaim,
) -> Result<(Want, Option<ExecOrder>, bool), Refusal> {
    let mut faults = check(&order);
    if !is_plain_name(&order.image) {
        let detail = format!("{:?} is no image's name", order.image);
        faults.push(fault("image", detail, "see `greenroom image list`"));
        return Err(class::invalid(faults));
    }
    let image = match class::image(app, &order.image).await {
        Ok(image) => image,
        Err(refusal) if faults.is_empty() => return Err(refusal),
        Err(refusal) => {
            faults.push(fault("image", refusal.detail(), None));
            return Err(class::invalid(faults));
        }
    };
    let memory_mib = order.memory_mib.unwrap_or(image.min_memory_mib);
    if faults.is_empty() {
        faults.extend(class::too_little(&image, memory_mib));
    }
    if !faults.is_empty() {
        return Err(class::invalid(faults));
    }
    let want = Want {
        key: order.key.unwrap_or_else(made_up),
        size: Size {
            vcpus: order.vcpus.unwrap_or(1),
            memory_mib,
            disk_mib: image.disk_mib,
            network_kbytes_per_s: None,
        },
        image,
        network: order.network,
        trust: app.state.pool.settings().trust_of(&client),
        owner: order.owner.unwrap_or_else(|| caller.name()),
        client,
        ttl: Some(Duration::from_secs(order.ttl_s.unwrap_or(DEFAULT_TTL_S))),
    };
    Ok((want, order.exec, order.keep))
}

fn check(order: &TakeClaim) -> Vec<ProblemFault> {
    let mut faults = class::check_size(order.vcpus, order.memory_mib);
    let names = [
        ("client", order.client.as_ref()),
        ("key", order.key.as_ref()),
    ];
    for (path, name) in names {
        if let Some(name) = name.filter(|name| !is_plain_name(name)) {
            faults.push(fault(path, format!("{name:?} is not a plain name"), PLAIN));
        }
    }
    if let Some(owner) = &order.owner
        && (owner.chars().count() > OWNER_CHARS || owner.chars().any(char::is_control))
    {
        let detail = "it is too long, or has control characters";
        faults.push(fault("owner", detail, "a line of at most 120 characters"));
    }
    if let Some(ttl) = order.ttl_s
        && !(1..=MOST_TTL_S).contains(&ttl)
    {
        let detail = format!("{ttl} s is no time for a claim");
        faults.push(fault("ttl_s", detail, "1 s to 24 h"));
    }
    let Some(exec) = &order.exec else {
        return faults;
    };
    if exec.argv.first().is_none_or(String::is_empty) {
        faults.push(fault("exec.argv", "there is no program", None));
    }
    if exec.argv.iter().any(|word| word.contains('\0')) {
        faults.push(fault("exec.argv", "a word has a NUL character", None));
    }
    if exec.argv.iter().map(String::len).sum::<usize>() > AGENT_CHUNK {
        let detail = "the command is longer than the guest's agent takes";
        faults.push(fault("exec.argv", detail, "at most 48 KiB"));
    }
    if exec.stdin.len() > AGENT_CHUNK {
        let detail = format!("{} bytes are too many", exec.stdin.len());
        faults.push(fault("exec.stdin", detail, "at most 48 KiB"));
    }
    if let Some(deadline) = exec.deadline_s
        && !(1..=MOST_EXEC_S).contains(&deadline)
    {
        let detail = format!("{deadline} s is no time for a command");
        faults.push(fault("exec.deadline_s", detail, "1 s to 1 h"));
    }
    faults
}

/// A key that nobody has.
fn made_up() -> String {
    let digits = MachineId::fresh().0.simple().to_string();
    // The last digits are random.
    format!("api-{}", &digits[20..])
}

pub(crate) async fn run(app: &App, machine: MachineId, exec: &ExecOrder) -> ExecView {
    let guest = Guest {
        hypervisor: app.state.services.hypervisor.as_ref(),
        machine,
    };
    let argv: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
    let deadline = Duration::from_secs(exec.deadline_s.unwrap_or(DEFAULT_EXEC_S));
    match guest.run(&argv, exec.stdin.as_bytes(), deadline).await {
        Ok(finished) => of_finished(finished),
        Err(error) => ExecView {
            problem: Some(error.to_string()),
            ..ExecView::default()
        },
    }
}

fn of_finished(finished: Finished) -> ExecView {
    let (out, out_base64) = text_of(finished.out);
    let (err, err_base64) = text_of(finished.err);
    ExecView {
        exit_code: Some(finished.exit_code),
        out,
        out_base64,
        err,
        err_base64,
        problem: None,
    }
}

/// Text, and the bytes where text does not carry them.
fn text_of(bytes: Vec<u8>) -> (String, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let bytes = error.into_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (text, Some(STANDARD.encode(bytes)))
        }
    }
}

pub(crate) async fn name_of(app: &App, machine: MachineId) -> Option<String> {
    let shells = app.state.pool.shells().await.ok()?;
    let shell = shells.into_iter().find(|shell| shell.id == machine)?;
    Some(shell.name)
}

/// After a command. What fails here ends with the claim's time.
pub(crate) async fn let_go(app: &App, key: &str) {
    match app.state.pool.release(key).await {
        Ok(()) => app.rooms.give_back(key),
        Err(error) => {
            tracing::warn!(key, %error, "a claim could not be released; its time will end it");
        }
    }
}

/// Returns when the machine is gone. What is released already is a success.
pub(crate) async fn release(
    State(app): Shared,
    caller: Caller,
    InPath(key): InPath<String>,
) -> Result<StatusCode, Refusal> {
    let pool = &app.state.pool;
    let claims = pool.claims().await?;
    let claim = claims.iter().find(|claim| claim.key == key);
    match claim {
        Some(claim) if !caller.scope.covers(&claim.client) => return Err(absent(&key)),
        Some(claim) if !rooms::is_ours(claim) => return Err(foreign(claim)),
        Some(_) => {}
        None if was_released(&app, &caller, &key).await => return Ok(StatusCode::NO_CONTENT),
        None => return Err(absent(&key)),
    }
    // Not cut off with the connection either.
    let work = {
        let (app, key) = (app.clone(), key.clone());
        async move {
            let released = app.state.pool.release(&key).await;
            if released.is_ok() {
                app.rooms.give_back(&key);
            }
            released
        }
    };
    match tokio::spawn(work.in_current_span()).await {
        Ok(released) => released?,
        Err(error) => return Err(Refusal::new(Why::Internal, error.to_string())),
    }
    tracing::info!(key, "a claim is released");
    Ok(StatusCode::NO_CONTENT)
}

fn absent(key: &str) -> Refusal {
    Refusal::not_found(format!(
        "there is no claim {key:?}; see `greenroom claim list`"
    ))
}

pub(crate) async fn was_released(app: &App, caller: &Caller, key: &str) -> bool {
    let status = app.state.pool.status().await;
    status.is_ok_and(|status| {
        let mut recent = status.recent.iter();
        recent.any(|claim| claim.key == key && caller.scope.covers(&claim.client))
    })
}

fn phase(name: &str, begun: Instant) -> PhaseView {
    PhaseView {
        phase: name.to_owned(),
        ms: ms(begun),
    }
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_of_a_claim_are_told_at_once() {
        let order: TakeClaim = serde_json::from_value(serde_json::json!({
            "image": "tiny", "vcpus": 0, "key": "a b", "client": "?", "owner": "x\ny", "ttl_s": 90_000,
            "exec": {"argv": [""], "deadline_s": 0},
        }))
        .unwrap();
        let faults = check(&order);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "vcpus",
                "client",
                "key",
                "owner",
                "ttl_s",
                "exec.argv",
                "exec.deadline_s"
            ]
        );
    }

    #[test]
    fn bytes_that_are_no_text_come_whole() {
        assert_eq!(text_of(b"ok\n".to_vec()), ("ok\n".to_owned(), None));
        let (text, bytes) = text_of(b"a\xff".to_vec());
        assert_eq!(text, "a\u{fffd}");
        assert_eq!(STANDARD.decode(bytes.unwrap()).unwrap(), b"a\xff");
    }
}
