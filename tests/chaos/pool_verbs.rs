//! What people do with the pool of a deployment, and what can be seen of it.

use std::time::{Duration, Instant};

use greenroom::api::{
    BuildTemplate, ExecOrder, SetPool, ShellView, TakeClaim, TakenView, TargetView, TemplateView,
    WhichClass,
};
use nix::unistd::Pid;

use crate::ground::Ground;

/// Filling takes as long as it takes under emulation beside two other deployments.
pub const FILLS_WITHIN: Duration = Duration::from_secs(180);

/// The class of everything here.
pub const TINY: &str = "tiny:1x128";

pub fn tiny() -> WhichClass {
    WhichClass {
        of: TINY.into(),
        ..WhichClass::default()
    }
}

/// A pool that keeps so many hot shells.
pub fn hot(hot: u32) -> SetPool {
    SetPool {
        class: tiny(),
        target: Some(TargetView {
            hot,
            floor: "warm".into(),
        }),
    }
}

pub fn force() -> BuildTemplate {
    BuildTemplate {
        class: tiny(),
        force: true,
    }
}

/// A machine for a command that says something of its own, and is given back after it.
pub fn claim(key: &str) -> TakeClaim {
    TakeClaim {
        image: "tiny".into(),
        vcpus: None,
        memory_mib: Some(128),
        network: false,
        key: Some(key.into()),
        client: None,
        owner: None,
        ttl_s: Some(900),
        exec: Some(ExecOrder {
            argv: vec!["echo".into(), format!("{key} was here")],
            stdin: String::new(),
            deadline_s: Some(60),
        }),
        keep: false,
    }
}

/// What the shells of a pool are, and its templates.
#[derive(Debug)]
pub struct Stock {
    pub shells: Vec<ShellView>,
    pub templates: Vec<TemplateView>,
}

impl Stock {
    pub fn of(&self, state: &str) -> impl Iterator<Item = &ShellView> {
        self.shells.iter().filter(move |shell| shell.state == state)
    }

    pub fn ready_template(&self) -> Option<&TemplateView> {
        let own = |template: &&TemplateView| template.class == TINY && template.state == "ready";
        self.templates.iter().find(own)
    }

    /// So many wait, one of them empty, and nothing is made or taken away.
    pub fn is_full(&self, hot: usize) -> bool {
        self.of("ready").count() == hot
            && self.of("standby").count() == 1
            && self.shells.len() == hot + 1
            && self.templates.len() == 1
            && self.ready_template().is_some()
    }
}

impl Ground {
    pub async fn want(&self, order: &SetPool) {
        if let Err(error) = self.client().pool_set(order).await {
            panic!("the target is refused: {error}\n{}", self.log_tail());
        }
    }

    /// None where the daemon cannot be asked.
    pub async fn stock(&self) -> Option<Stock> {
        let client = self.client();
        let templates = client.template_list(false).await.ok()?;
        let shells = match client.pool_show(TINY).await {
            Ok(detail) => detail.shells,
            Err(_) => Vec::new(),
        };
        Some(Stock { shells, templates })
    }

    /// Waits until the pool is as wanted; panics with everything that is known after `within`.
    pub async fn until_stock(
        &mut self,
        within: Duration,
        what: &str,
        is: impl Fn(&Stock) -> bool,
    ) -> Stock {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.has_ended() {
                panic!("the daemon ended: {status}\n{}", self.log_tail());
            }
            let stock = self.stock().await;
            if let Some(stock) = stock.as_ref().filter(|stock| is(stock)) {
                return Stock {
                    shells: stock.shells.clone(),
                    templates: stock.templates.clone(),
                };
            }
            if begun.elapsed() > within {
                let status = self.client().pool_status().await;
                panic!(
                    "after {within:?} there is no {what}: {stock:#?}\n{status:#?}\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_full(&mut self, hot: usize) -> Stock {
        self.until_stock(FILLS_WITHIN, "full pool", |stock| stock.is_full(hot))
            .await
    }

    /// A claim with its command, which has to work; whoever serves it is thrown away after.
    pub async fn claims(&self, key: &str) -> TakenView {
        let taken = match self.client().claim_take(&claim(key)).await {
            Ok(taken) => taken,
            Err(error) => panic!("the claim {key} is refused: {error}\n{}", self.log_tail()),
        };
        let said = taken.exec.as_ref().map(|exec| exec.out.trim_end());
        assert_eq!(
            said,
            Some(format!("{key} was here").as_str()),
            "{taken:#?}\n{}",
            self.log_tail()
        );
        taken
    }

    /// Nothing is wanted any more; waits until nothing is there.
    pub async fn lets_go(&mut self) {
        self.want(&SetPool {
            class: tiny(),
            target: Some(TargetView {
                hot: 0,
                floor: "cool".into(),
            }),
        })
        .await;
        self.until_stock(FILLS_WITHIN, "empty pool", |stock| {
            stock.shells.is_empty() && stock.templates.is_empty()
        })
        .await;
        self.is_clean(&[]).await;
    }
}

/// The process of a machine, as libvirt recorded it.
pub fn qemu_of(machine: &str) -> Pid {
    let path = format!("/run/libvirt/qemu/{machine}.pid");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    Pid::from_raw(text.trim().parse().expect("a number"))
}
