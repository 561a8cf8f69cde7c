//! Stories told in the user's verbs, on real machines.

use greenroom::hypervisor::Hypervisor;
use greenroom::vocab::run::RunState;

use crate::support::three_stages;
use crate::support::verbs::Verbs;
use crate::support::yard::Yard;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_real_machines_hands_its_disk_and_its_document_on() {
    let Some(yard) = Yard::open("a chain of real machines").await else {
        return;
    };
    let daemon = &yard.daemon;
    daemon.add_device("d1", "c1").await;
    daemon.apply(&three_stages()).await;
    let run = daemon.start("d1", "three").await;
    let view = daemon.finished_within(run.id, 180).await;
    assert_eq!(view.run.state, RunState::Succeeded, "{view:#?}");
    assert_eq!(daemon.log_of(run.id).await, "working\nONE");
    for machine in &view.machines {
        assert!(
            yard.hypervisor
                .machine(machine.id)
                .await
                .expect("an answer")
                .is_none(),
            "{} is still there",
            machine.name
        );
    }
    yard.check_nothing_left().await;
    for attempt in &view.attempts {
        eprintln!("{}: {:?}", attempt.stage, attempt.phases);
    }
    for machine in &view.machines {
        eprintln!("{}: {:?}", machine.name, machine.phases);
    }
}
