//! Chains as tables.

use std::fmt::Write as _;

use super::super::context::Context;
use super::super::output::Paint;
use super::super::table::Table;
use super::super::text;
use crate::api::{ChainSummary, ChainView};
use crate::chain::model::{Bounds, Chain, Deadline};

pub fn list(chains: &[ChainSummary], context: &Context) -> String {
    let headers = [
        "NAME",
        "VERSION",
        "STAGES",
        "WHEN",
        "APPLIED",
        "DESCRIPTION",
    ];
    let mut table = Table::new(context.out, &headers);
    let now = context.now();
    for chain in chains {
        table.row([
            chain.name.clone(),
            format!("v{}", chain.version),
            chain.stages.len().to_string(),
            chain.when.clone().unwrap_or_else(|| "-".into()),
            format!("{} ago", text::span(now.seconds_from(chain.applied_at))),
            chain.description.chars().take(60).collect(),
        ]);
    }
    table.render("no chains; apply one with `greenroom chain apply FILE`")
}

pub fn show(view: &ChainView, paint: Paint) -> String {
    let summary = &view.summary;
    let mut out = format!(
        "chain     {} v{}\ndigest    {}\napplied   {}\n",
        text::line(&summary.name),
        summary.version,
        summary.digest,
        summary.applied_at
    );
    if !summary.description.is_empty() {
        let _ = writeln!(out, "about     {}", text::line(&summary.description));
    }
    let when = summary.when.as_deref().unwrap_or("by name only");
    let _ = writeln!(out, "when      {}", text::line(when));
    // A newer daemon may know more; what this program knows is shown.
    let Ok(chain) = serde_json::from_value::<Chain>(view.chain.clone()) else {
        let _ = writeln!(out, "stages    {}", text::line(&summary.stages.join(", ")));
        return out;
    };
    if let Some(disk) = &chain.handoff_disk {
        let checkpoints = if disk.checkpoint {
            ""
        } else {
            ", no checkpoints"
        };
        let _ = writeln!(out, "disk      {}{checkpoints}", text::mib(disk.size_mib));
    }
    let hold = text::span(chain.on_failure.hold_s as f64);
    let kept = if chain.on_failure.keep_machine {
        " with its machine"
    } else {
        ""
    };
    let _ = writeln!(out, "failure   held for {hold}{kept}\n");
    let headers = [
        "STAGE", "KIND", "IMAGE", "VCPUS", "MEMORY", "DEADLINE", "UNDO",
    ];
    let mut table = Table::new(paint, &headers);
    for stage in &chain.stages {
        table.row([
            stage.name.clone(),
            stage.kind.word().to_owned(),
            stage.image.clone(),
            bounds(stage.resources.vcpus, |n| n.to_string()),
            bounds(stage.resources.memory_mib, text::mib),
            match stage.deadline {
                Deadline::Seconds(seconds) => text::span(seconds as f64),
                Deadline::Derived => "derived".to_owned(),
            },
            if stage.undo.is_some() { "yes" } else { "no" }.to_owned(),
        ]);
    }
    out + &table.render("")
}

fn bounds(bounds: Bounds, shown: impl Fn(u64) -> String) -> String {
    if bounds.min == bounds.max {
        shown(bounds.min)
    } else {
        format!("{}–{}", shown(bounds.min), shown(bounds.max))
    }
}
