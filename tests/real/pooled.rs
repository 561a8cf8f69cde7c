//! Chains whose stages are served by the pool's shells, on real machines.

use std::time::Duration;

use greenroom::config::{StartTarget, TargetOf};
use greenroom::hypervisor::{Hypervisor, Power};
use greenroom::vocab::machine::EngineKind;
use greenroom::vocab::pool::{ShellState, Target, Tier};
use greenroom::vocab::run::RunState;

use crate::support::three_stages;
use crate::support::verbs::Verbs;
use crate::support::yard::Yard;

fn tiny(hot: u32) -> Vec<StartTarget> {
    vec![StartTarget {
        of: TargetOf::Image("tiny".into()),
        target: Target {
            hot,
            floor: Tier::Warm,
        },
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_runs_on_shells_without_being_told() {
    let Some(yard) = Yard::with_pool("a chain on shells", 4096, tiny(3)).await else {
        return;
    };
    let daemon = &yard.daemon;
    yard.filled(Duration::from_secs(240)).await;
    for shell in daemon.pool.shells().await.unwrap() {
        eprintln!("{}: {:?} {:?}", shell.name, shell.state, shell.phases);
        if shell.state == ShellState::Ready {
            let seen = yard.hypervisor.machine(shell.id).await.unwrap().unwrap();
            assert_eq!((seen.power, &seen.name), (Power::Paused, &shell.name));
        }
    }
    daemon.add_device("d1", "default").await;
    daemon.apply(&three_stages()).await;
    let run = daemon.start("d1", "three").await;
    let view = daemon.finished_within(run.id, 180).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    assert_eq!(daemon.log_of(run.id).await, "working\nONE");
    for machine in &view.machines {
        eprintln!(
            "{}: {} ({}) {:?}",
            machine.name, machine.engine, machine.engine_reason, machine.phases
        );
        assert_eq!(machine.engine, EngineKind::Resume, "{machine:#?}");
        let shell = machine.shell.expect("a shell served");
        assert!(yard.hypervisor.machine(shell).await.unwrap().is_none());
    }
    for attempt in &view.attempts {
        eprintln!("{}: {:?}", attempt.stage, attempt.phases);
    }
    // Single use: none of them waits again.
    let used: Vec<_> = view.machines.iter().filter_map(|m| m.shell).collect();
    let waiting = daemon.pool.shells().await.unwrap();
    assert!(waiting.iter().all(|shell| !used.contains(&shell.id)));
    yard.drained(Duration::from_secs(60)).await;
    yard.check_nothing_left().await;
}
