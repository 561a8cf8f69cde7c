//! `pool set`: how many machines of a class are to wait.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::super::context::Context;
use super::super::exit::{Exit, Failure};
use super::super::text;
use super::{ClassOptions, show};
use crate::api::{Client, PoolDetail, PoolView, SetPool, TargetView};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  greenroom pool set tiny --hot 2 --wait
  greenroom pool set toolbox --vcpus 2 --memory 1024 --network --hot 1
  greenroom pool set toolbox:2x1024+net --warm       # a template, no machine that waits
  greenroom pool set tiny --hot 0 --cool             # let it go

With --wait the exit code is 0 once it is as wanted, 1 when it cannot be, 7 at the timeout.")]
pub struct Set {
    #[command(flatten)]
    class: ClassOptions,
    /// How many wait in memory
    #[arg(long, value_name = "N", required_unless_present_any = ["warm", "cool"])]
    hot: Option<u32>,
    /// Keep at least a template, from which machines are forked on demand [default]
    #[arg(long, conflicts_with = "cool")]
    warm: bool,
    /// Keep no template when no machine waits
    #[arg(long)]
    cool: bool,
    /// Wait until it is as wanted
    #[arg(short, long)]
    wait: bool,
    /// Give up waiting after this time (it goes on); exit code 7
    #[arg(long, requires = "wait", value_name = "TIME", value_parser = text::parse_span)]
    timeout: Option<u64>,
}

impl Set {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let target = target(self.hot, self.cool);
        let order = SetPool {
            class: self.class.which(),
            target: target.clone(),
        };
        let mut detail = client.pool_set(&order).await?;
        if self.wait
            && let Some(target) = &target
        {
            let class = detail.pool.class.clone();
            detail = wait(context, &client, &class, target, self.timeout).await?;
        }
        context.show(&detail, || {
            let class = text::line(&detail.pool.class);
            match &target {
                None => format!("{class} is let go\n"),
                Some(_) => show::render(&detail, context.now(), context.out),
            }
        })?;
        Ok(Exit::Ok)
    }
}

/// No hot machine and no template is nothing at all.
fn target(hot: Option<u32>, cool: bool) -> Option<TargetView> {
    let hot = hot.unwrap_or(0);
    let floor = if cool { "cool" } else { "warm" };
    (hot > 0 || !cool).then(|| TargetView {
        hot,
        floor: floor.to_owned(),
    })
}

async fn wait(
    context: &Context,
    client: &Client,
    class: &str,
    target: &TargetView,
    timeout_s: Option<u64>,
) -> Result<PoolDetail, Failure> {
    let again = format!("it goes on; see `greenroom pool show {class}`");
    let end = timeout_s.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut told = None;
    loop {
        let detail = client.pool_show(class).await?;
        match standing(&detail.pool, target) {
            Standing::AsWanted => return Ok(detail),
            Standing::Failing(why) => {
                let message = format!("{class} is not as wanted: {why}");
                return Err(Failure::new(Exit::Failed, message).with_way_out(again));
            }
            Standing::UnderWay(what) => {
                if told.as_ref() != Some(&what) {
                    context.note(&what);
                    told = Some(what);
                }
            }
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            let message = format!("{class} is not as wanted yet");
            return Err(Failure::new(Exit::TimedOut, message).with_way_out(again));
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Exit::Interrupted, "interrupted").with_way_out(again));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    AsWanted,
    UnderWay(String),
    /// Filling pauses: nothing will come of waiting.
    Failing(String),
}

fn standing(pool: &PoolView, target: &TargetView) -> Standing {
    let has_template = pool
        .template
        .as_ref()
        .is_some_and(|template| template.state == "ready");
    let is_there = pool.ready >= target.hot && (target.floor != "warm" || has_template);
    if is_there {
        return Standing::AsWanted;
    }
    if pool.pauses_until.is_some() {
        let why = pool.shortfall.clone();
        return Standing::Failing(
            why.unwrap_or_else(|| format!("{} failures in a row", pool.failures)),
        );
    }
    let template = match &pool.template {
        Some(template) => template.state.as_str(),
        None => "none yet",
    };
    Standing::UnderWay(format!(
        "{}: template {template}, {} of {} ready, {} filling",
        pool.class, pool.ready, target.hot, pool.filling
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(ready: u32, pauses: bool) -> PoolView {
        serde_json::from_value(serde_json::json!({
            "class": "tiny:1x128", "target": null, "tier": "cool", "shortfall": "no room",
            "template": null, "ready": ready, "filling": 1, "claimed": 0, "served": {},
            "pss_mib": null, "failures": 3,
            "pauses_until": pauses.then_some("2026-01-01T00:00:00Z"),
        }))
        .unwrap()
    }

    #[test]
    fn no_machine_and_no_template_lets_a_class_go() {
        assert_eq!(target(Some(0), true), None);
        assert_eq!(target(None, true), None);
        let warm = target(None, false).unwrap();
        assert_eq!((warm.hot, warm.floor.as_str()), (0, "warm"));
        assert_eq!(target(Some(2), true).unwrap().floor, "cool");
    }

    #[test]
    fn waiting_ends_when_it_is_there_or_will_not_come() {
        let hot = target(Some(2), true).unwrap();
        assert_eq!(standing(&pool(2, false), &hot), Standing::AsWanted);
        assert_eq!(
            standing(&pool(1, true), &hot),
            Standing::Failing("no room".into())
        );
        assert_eq!(
            standing(&pool(1, false), &hot),
            Standing::UnderWay("tiny:1x128: template none yet, 1 of 2 ready, 1 filling".into())
        );
        let warm = target(Some(0), false).unwrap();
        assert!(matches!(
            standing(&pool(0, false), &warm),
            Standing::UnderWay(_)
        ));
    }
}
