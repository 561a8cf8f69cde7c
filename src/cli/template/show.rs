//! `template show`: one template whole.

use std::fmt::Write as _;

use super::super::output::Paint;
use super::super::pool::shells;
use super::super::table::Table;
use super::super::text;
use crate::api::{TemplateDetail, TemplateView, Time};

pub fn render(detail: &TemplateDetail, now: Time, paint: Paint) -> String {
    let template = &detail.template;
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut field = |label: &str, value: &str| {
        fields.push((text::line(label), text::line(value)));
    };
    field("template", &template.id);
    field(
        "class",
        &format!("{}, generation {}", template.class, template.generation),
    );
    let age = text::span(now.seconds_from(template.made_at));
    field("state", &format!("{}, made {age} ago", template.state));
    if let Some(reason) = &template.reason {
        field("because", reason);
    }
    field("key", &template.key.to_string());
    for input in &template.inputs {
        field(&format!("  {}", input.name), &input.value);
    }
    if let Some(seal) = &template.seal {
        for (name, file) in [
            ("memory", &seal.memory),
            ("state", &seal.state),
            ("disk", &seal.disk),
        ] {
            let digest = file
                .digest
                .map_or_else(String::new, |digest| digest.short());
            let size = text::bytes(file.size_bytes);
            field(
                &format!("sealed {name}"),
                format!("{size}  {digest}").trim_end(),
            );
        }
    }
    for phase in &template.phases {
        field(&format!("took {}", phase.phase), &text::millis(phase.ms));
    }
    let width = fields.iter().map(|(label, _)| label.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut out = String::new();
    for (label, value) in &fields {
        let _ = writeln!(out, "{label:<width$}  {value}");
    }
    out.push('\n');
    let table: Table = shells(&detail.shells, now, paint);
    out.push_str(&table.render("nothing is forked from it now"));
    out
}

/// What its files take of the disk: a template's memory has holes, so this is the upper bound.
pub fn files(template: &TemplateView) -> Option<String> {
    let seal = template.seal.as_ref()?;
    let sum = seal.memory.size_bytes + seal.state.size_bytes + seal.disk.size_bytes;
    Some(text::bytes(sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PhaseView;
    use crate::api::pool::{KeyInput, SealView, SealedFileView};
    use crate::vocab::Digest;

    #[test]
    fn a_template_says_what_it_is_made_of() {
        let file = |size_bytes| SealedFileView {
            size_bytes,
            stamp: "1:2".into(),
            digest: Some(Digest::of(b"x")),
        };
        let at = |seconds| Time(jiff::Timestamp::from_second(seconds).unwrap());
        let detail = TemplateDetail {
            template: TemplateView {
                id: "0199a1b2-0003-7000-8000-000000000003".into(),
                class: "tiny:1x128".into(),
                generation: 2,
                state: "draining".into(),
                key: Digest::of(b"key"),
                inputs: vec![KeyInput {
                    name: "qemu".into(),
                    value: "10.0.2\x1b[1m".into(),
                }],
                seal: Some(SealView {
                    memory: file(128 << 20),
                    state: file(500_000),
                    disk: file(200_000),
                }),
                reason: Some("its image was built again".into()),
                made_at: at(0),
                ready_at: Some(at(9)),
                phases: vec![PhaseView {
                    phase: "boot".into(),
                    ms: 6700.0,
                }],
            },
            shells: vec![],
        };
        insta::assert_snapshot!(render(&detail, at(60), Paint::Plain), @r"
        template       0199a1b2-0003-7000-8000-000000000003
        class          tiny:1x128, generation 2
        state          draining, made 1m00s ago
        because        its image was built again
        key            2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683
          qemu         10.0.2\u{1b}[1m
        sealed memory  128.0 MiB  2d711642b726
        sealed state   488.3 KiB  2d711642b726
        sealed disk    195.3 KiB  2d711642b726
        took boot      6.7s

        nothing is forked from it now
        ");
    }
}
