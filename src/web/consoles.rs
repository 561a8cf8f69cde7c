//! `/runs/{id}/console`: the last lines of the serial consoles of a run's machines.
//!
//! A console says what a stage's log cannot: that the machine does not boot, or that its kernel ended the
//! work. The host keeps a console for a while after its machine has gone.

use axum::Json;
use axum::extract::State;

use super::extract::OfRun;
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{App, Shared, runs};
use crate::access::{Access, Caller};
use crate::api::ConsoleView;
use crate::netboot::console;
use crate::runs::view::View;
use crate::vocab::access::Role;

/// Newest machines whose consoles are told.
const MACHINES: usize = 3;
/// Read from a console's end.
const BYTES: usize = 16 << 10;

pub fn routes() -> Routes {
    Routes::of("runs", "Executions of chains.").with(
        Op::get(
            "run_console",
            "/runs/{id}/console",
            Access::per_client(Role::Viewer),
            show,
        )
        .says("The last lines of the consoles of a run's newest machines, newest machine first")
        .answers::<Vec<ConsoleView>>(200),
    )
}

async fn show(
    State(app): Shared,
    caller: Caller,
    OfRun(id): OfRun,
) -> Result<Json<Vec<ConsoleView>>, Refusal> {
    let view = runs::load(&app, &caller, id).await?;
    Ok(Json(of(&app, &view).await))
}

/// Of the newest machines that have one. A host that cannot be asked has none to tell.
pub(crate) async fn of(app: &App, view: &View) -> Vec<ConsoleView> {
    let hypervisor = &app.state.services.hypervisor;
    let mut told = Vec::new();
    for machine in view.machines.iter().rev().take(MACHINES) {
        let Ok(bytes) = hypervisor.console_tail(machine.domain(), BYTES).await else {
            continue;
        };
        let lines = console::lines(&bytes);
        if !lines.is_empty() {
            told.push(ConsoleView {
                stage: machine.tag.stage().unwrap_or_default().to_owned(),
                machine: machine.name.clone(),
                state: machine.state.word().to_owned(),
                lines,
            });
        }
    }
    told
}
