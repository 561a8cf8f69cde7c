//! The plan, with rows as they may be.

use super::*;
use crate::hypervisor::HostFacts;
use crate::pool::key;
use crate::store::pool::Verdict;
use crate::vocab::image::{GuestAgent, Image, ImagePart};
use crate::vocab::machine::Accelerator;
use crate::vocab::pool::{Claim, Target, Template, TemplateState};
use crate::vocab::{Digest, pool};

const NOW: Timestamp = Timestamp(1_000_000_000_000);

struct Table {
    rows: Rows,
    known: Known,
    keys: BTreeMap<Class, Result<Key, String>>,
    budget_mib: u64,
    claiming: bool,
}

fn class() -> Class {
    "tiny:1x128".parse().unwrap()
}

fn key_of(class: &Class, version: &str) -> Key {
    let part = || ImagePart {
        path: "x".into(),
        digest: Digest::of(b"x"),
        size_bytes: 1,
    };
    let image = Image {
        name: "tiny".into(),
        digest: Digest::of(b"d"),
        key: Digest::of(b"k"),
        description: String::new(),
        os: String::new(),
        cmdline: String::new(),
        agent: GuestAgent::default(),
        min_memory_mib: 64,
        warm_up: vec![],
        disk_mib: 64,
        kernel: part(),
        initrd: part(),
        disk: part(),
        built_at: Timestamp(0),
        build_seconds: 0.0,
    };
    let host = HostFacts {
        version: version.into(),
        devices: "d1".into(),
        host_name: "h".into(),
        cpus: 2,
        memory_mib: 1024,
        free_memory_mib: 1024,
        accelerator: Accelerator::Tcg,
        accelerator_reason: String::new(),
    };
    key::of(class, &image, &host, 0)
}

impl Table {
    /// One class with a target, on a host that forks.
    fn with_target(hot: u32) -> Self {
        let mut table = Self {
            rows: Rows::default(),
            known: Known::default(),
            keys: BTreeMap::from([(class(), Ok(key_of(&class(), "v1")))]),
            budget_mib: 10_000,
            claiming: false,
        };
        let target = Some(Target {
            hot,
            floor: Tier::Warm,
        });
        table.rows.wanted.insert(
            class(),
            Wanted {
                target,
                by_use: None,
            },
        );
        table.known.verdict = Some(Verdict {
            forks: true,
            reason: "tried".into(),
            at: NOW,
        });
        table
    }

    fn template(&mut self, generation: i64, state: TemplateState, version: &str) -> MachineId {
        let key = key_of(&class(), version);
        let template = Template {
            id: MachineId::fresh(),
            class: class(),
            generation,
            state,
            key: key.digest,
            inputs: key.inputs,
            seal: None,
            reason: None,
            made_at: NOW,
            ready_at: None,
            phases: vec![],
        };
        let id = template.id;
        self.rows.templates.insert(id, template);
        id
    }

    fn shell(&mut self, template: MachineId, state: ShellState) -> MachineId {
        let serial = self.rows.next_serial();
        let shell = pool::Shell {
            id: MachineId::fresh(),
            name: format!("s{serial}"),
            class: class(),
            template,
            serial,
            state,
            identity: None,
            made_at: NOW,
            ready_at: Some(NOW),
            gone_at: None,
            pss_mib: None,
            claim: None,
            reason: None,
            phases: vec![],
        };
        let id = shell.id;
        self.rows.shells.insert(id, shell);
        id
    }

    fn steps_at(&self, now: Timestamp) -> Vec<Step> {
        self.planned_at(now).steps
    }

    fn planned_at(&self, now: Timestamp) -> Planned {
        plan(&Facts {
            rows: &self.rows,
            known: &self.known,
            keys: &self.keys,
            budget_mib: self.budget_mib,
            max_age: Duration::from_secs(3600),
            claiming: self.claiming,
            now,
        })
    }

    fn steps(&self) -> Vec<Step> {
        self.steps_at(NOW)
    }
}

#[test]
fn nothing_is_built_before_the_host_is_known_to_fork() {
    let mut table = Table::with_target(1);
    assert_eq!(table.steps(), [Step::Build(class())]);
    table.known.verdict = None;
    assert_eq!(table.steps(), [Step::SelfTest]);
    table.known.verdict = Some(Verdict {
        forks: false,
        reason: "equal draws".into(),
        at: NOW,
    });
    let planned = table.planned_at(NOW);
    assert_eq!(planned.steps, []);
    assert!(planned.shortfalls[&class()].contains("equal draws"));
    let later = planned.wake_at.unwrap();
    assert_eq!(table.steps_at(later), [Step::SelfTest]);
}

#[test]
fn shells_are_filled_one_at_a_time_and_never_while_somebody_claims() {
    let mut table = Table::with_target(2);
    let template = table.template(1, TemplateState::Ready, "v1");
    assert_eq!(table.steps(), [Step::Fill(template)]);
    table.claiming = true;
    assert_eq!(table.steps(), []);
    table.claiming = false;
    table.shell(template, ShellState::Filling);
    assert_eq!(table.steps(), []);
    table.rows.shells.clear();
    table.shell(template, ShellState::Ready);
    table.shell(template, ShellState::Ready);
    assert_eq!(table.steps(), [Step::StandBy(template)]);
    table.shell(template, ShellState::Standby);
    assert_eq!(table.steps(), []);
}

#[test]
fn an_old_generation_is_replaced_shell_by_shell() {
    let mut table = Table::with_target(1);
    let old = table.template(1, TemplateState::Ready, "v0");
    let waiting = table.shell(old, ShellState::Ready);
    let steps = table.steps();
    assert!(
        matches!(&steps[0], Step::Drain { template, reason } if *template == old && reason.contains("host: v0 → v1")),
        "{steps:?}"
    );
    assert!(steps.contains(&Step::Build(class())));
    table.rows.templates.get_mut(&old).unwrap().state = TemplateState::Draining;
    let new = table.template(2, TemplateState::Ready, "v1");
    assert_eq!(
        table.steps(),
        [Step::Fill(new)],
        "the old one stays until it is replaced"
    );
    table.shell(new, ShellState::Ready);
    let steps = table.steps();
    assert!(
        matches!(&steps[0], Step::Discard { shell, .. } if *shell == waiting),
        "{steps:?}"
    );
    table.rows.shells.remove(&waiting);
    assert!(table.steps().contains(&Step::Remove(old)));
}

#[test]
fn a_generation_that_fails_three_times_gives_way_to_the_one_it_replaced() {
    let mut table = Table::with_target(1);
    let old = table.template(1, TemplateState::Draining, "v1");
    table.rows.templates.get_mut(&old).unwrap().reason = Some(format!("{REPLACED} 2"));
    let new = table.template(2, TemplateState::Ready, "v1");
    assert_eq!(
        table.steps(),
        [Step::Fill(new)],
        "the old one is kept until the new one has proved itself"
    );
    for _ in 0..3 {
        table
            .known
            .fills
            .entry(new)
            .or_default()
            .failed("x", "no", NOW);
    }
    let steps = table.steps();
    assert!(
        matches!(&steps[0], Step::Fail { template, reason } if *template == new && reason.contains("3 forks")),
        "{steps:?}"
    );
    assert!(
        matches!(&steps[1], Step::Revive { template, .. } if *template == old),
        "{steps:?}"
    );
}

#[test]
fn a_failure_pauses_filling_until_its_time() {
    let mut table = Table::with_target(1);
    let template = table.template(1, TemplateState::Ready, "v1");
    table
        .known
        .fills
        .entry(template)
        .or_default()
        .failed("x", "no room", NOW);
    let planned = table.planned_at(NOW);
    assert_eq!(planned.steps, []);
    assert!(planned.shortfalls[&class()].contains("no room"));
    assert_eq!(
        table.steps_at(planned.wake_at.unwrap()),
        [Step::Fill(template)]
    );
}

#[test]
fn claims_and_shells_have_their_time() {
    let mut table = Table::with_target(1);
    let template = table.template(1, TemplateState::Ready, "v1");
    let old = table.shell(template, ShellState::Ready);
    table.shell(template, ShellState::Standby);
    let claim = Claim {
        key: "k".into(),
        owner: String::new(),
        client: String::new(),
        shell: MachineId::fresh(),
        name: String::new(),
        class: class(),
        engine: crate::vocab::machine::EngineKind::Resume,
        tier: Tier::Hot,
        reason: String::new(),
        made_at: NOW,
        until: Some(NOW.after(Duration::from_secs(60))),
        released_at: None,
        achieved: None,
        shortfall: None,
        phases: vec![],
    };
    table.rows.claims.insert("k".into(), claim);
    let planned = table.planned_at(NOW);
    assert_eq!(
        (planned.steps, planned.wake_at),
        (vec![], Some(NOW.after(Duration::from_secs(60))))
    );
    let steps = table.steps_at(NOW.after(Duration::from_secs(3600)));
    assert_eq!(steps[0], Step::Expire("k".into()));
    assert!(matches!(&steps[1], Step::Discard { shell, .. } if *shell == old));
}

#[test]
fn what_nobody_wants_goes_and_what_is_asked_for_comes() {
    let mut table = Table::with_target(0);
    table.rows.wanted.clear();
    let template = table.template(1, TemplateState::Ready, "v1");
    assert!(
        matches!(&table.steps()[0], Step::Drain { template: drained, .. } if *drained == template)
    );
    table.rows.templates.clear();
    table.rows.in_vain.insert(class(), vec![NOW; ASKED_IN_VAIN]);
    assert_eq!(table.steps(), [Step::Promote(class())]);
    assert_eq!(
        table.steps_at(NOW.after(Duration::from_secs(3601))),
        [],
        "too long ago"
    );
    table.budget_mib = 10;
    assert_eq!(table.steps(), [], "the budget has no room");
}
