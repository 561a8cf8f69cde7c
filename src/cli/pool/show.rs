//! `pool show`: one class whole.

use std::fmt::Write as _;

use super::super::output::Paint;
use super::super::text;
use super::{hits, shells, wanted};
use crate::api::{PoolDetail, Time};

pub fn render(detail: &PoolDetail, now: Time, paint: Paint) -> String {
    let pool = &detail.pool;
    let mut out = String::new();
    let mut field = |label: &str, value: &str| {
        let _ = writeln!(out, "{label:<9} {}", text::line(value));
    };
    field("class", &pool.class);
    field("wanted", &wanted(pool));
    if let Some(why) = &detail.why {
        field("forecast", why);
    }
    field("tier", &pool.tier);
    if let Some(shortfall) = &pool.shortfall {
        field("because", shortfall);
    }
    let machines = format!(
        "{} ready, {} filling, {} claimed",
        pool.ready, pool.filling, pool.claimed
    );
    field("machines", &machines);
    field("served", &hits(pool));
    if pool.failures > 0 {
        let pause = pool.pauses_until.map_or_else(String::new, |until| {
            format!("; the next try in {}", text::span(until.seconds_from(now)))
        });
        field("failures", &format!("{} in a row{pause}", pool.failures));
    }
    match &pool.template {
        Some(template) => {
            let age = text::span(now.seconds_from(template.made_at));
            field(
                "template",
                &format!("{}, {}, {age} old", template.id, template.state),
            );
        }
        None => field("template", "none"),
    }
    out.push('\n');
    out.push_str(&shells(&detail.shells, now, paint).render("no machines"));
    out
}
