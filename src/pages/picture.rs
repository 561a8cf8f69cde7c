//! A chain as a picture: its stages in their order, and what goes from one to the next.

use super::marks::{Markup, escaped, mib};
use crate::chain::model::{Chain, Output, Stage};

/// Of a stage's box, and of the space between two. All in the picture's own units, pixels at full size.
const WIDE: usize = 178;
const HIGH: usize = 78;
const GAP: usize = 66;
const TOP: usize = 30;
const MARGIN: usize = 104;

pub fn draw(chain: &Chain) -> Markup {
    let count = chain.stages.len();
    let width = 2 * MARGIN + count * WIDE + count.saturating_sub(1) * GAP;
    let has_disk = chain.handoff_disk.is_some();
    let height = TOP + HIGH + if has_disk { 48 } else { 20 };
    let middle = TOP + HIGH / 2;
    let mut svg = format!(
        "<svg class=\"chain\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\" aria-label=\"{}\">",
        escaped(&said(chain))
    );
    svg.push_str(&format!(
        "<circle class=\"end\" cx=\"26\" cy=\"{middle}\" r=\"24\"/><text class=\"small\" x=\"26\" y=\"{}\" text-anchor=\"middle\">device</text>",
        middle + 4
    ));
    svg.push_str(&wire(50, MARGIN, middle, "facts"));
    for (n, stage) in chain.stages.iter().enumerate() {
        let x = MARGIN + n * (WIDE + GAP);
        svg.push_str(&drawn(stage, x, n + 1));
        let handed = handed(&stage.output);
        if n + 1 < count {
            svg.push_str(&wire(x + WIDE, x + WIDE + GAP, middle, &handed));
        }
    }
    let last = MARGIN + count * WIDE + count.saturating_sub(1) * GAP;
    svg.push_str(&wire(last, width - 50, middle, ""));
    svg.push_str(&format!(
        "<circle class=\"end\" cx=\"{}\" cy=\"{middle}\" r=\"24\"/><text class=\"small\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">done</text>",
        width - 26,
        width - 26,
        middle + 4
    ));
    if let Some(disk) = &chain.handoff_disk {
        svg.push_str(&disk_line(
            chain,
            &format!("handoff disk, {}", mib(&disk.size_mib)),
        ));
    }
    svg.push_str("</svg>");
    Markup(svg)
}

/// The same for those who do not see it.
fn said(chain: &Chain) -> String {
    let stages: Vec<String> = chain
        .stages
        .iter()
        .map(|stage| format!("{} hands on {}", stage.name, handed(&stage.output)))
        .collect();
    format!("Stages of {}: {}", chain.name, stages.join(", then "))
}

fn handed(output: &Output) -> String {
    match output {
        Output::None => "nothing".into(),
        Output::Json { .. } => "JSON".into(),
        Output::Xml { .. } => "XML".into(),
        Output::Binary { media_type, .. } => {
            let short = media_type.rsplit('/').next().unwrap_or(media_type);
            short.chars().take(11).collect()
        }
    }
}

fn wire(from: usize, to: usize, y: usize, label: &str) -> String {
    let tip = to - 7;
    let text = match label {
        "" => String::new(),
        label => format!(
            "<text class=\"small\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            (from + to) / 2 - 3,
            y - 8,
            escaped(label)
        ),
    };
    format!(
        "<path class=\"wire\" d=\"M{from} {y}H{tip}\"/><path class=\"tip\" d=\"M{tip} {}L{to} {y}L{tip} {}Z\"/>{text}",
        y - 4,
        y + 4
    )
}

fn drawn(stage: &Stage, x: usize, number: usize) -> String {
    let cut = |text: &str, most: usize| -> String {
        let mut short: String = text.chars().take(most).collect();
        if text.chars().count() > most {
            short.push('…');
        }
        escaped(&short)
    };
    let memory = &stage.resources.memory_mib;
    let size = if memory.min == memory.max {
        mib(&memory.min)
    } else {
        format!("{} to {}", mib(&memory.min), mib(&memory.max))
    };
    let title = escaped(&format!("{number}. {}: {}", stage.name, stage.description));
    format!(
        "<g><title>{title}</title><rect class=\"box\" x=\"{x}\" y=\"{TOP}\" width=\"{WIDE}\" height=\"{HIGH}\" rx=\"10\"/>\
         <text x=\"{}\" y=\"{}\">{}</text><text class=\"kindword\" x=\"{}\" y=\"{}\">{}</text><text class=\"small\" x=\"{}\" y=\"{}\">{}, {}</text></g>",
        x + 12,
        TOP + 25,
        cut(&stage.name, 16),
        x + 12,
        TOP + 43,
        escaped(stage.kind.word()),
        x + 12,
        TOP + 63,
        cut(&stage.image, 10),
        escaped(&size)
    )
}

/// From the first stage that has the disk to the last.
fn disk_line(chain: &Chain, label: &str) -> String {
    let of = |n: usize| MARGIN + n * (WIDE + GAP) + WIDE / 2;
    let users: Vec<usize> = (0..chain.stages.len())
        .filter(|n| chain.stages[*n].handoff_disk)
        .collect();
    let (Some(first), Some(last)) = (users.first(), users.last()) else {
        return String::new();
    };
    let y = TOP + HIGH + 18;
    let drops = users
        .iter()
        .map(|n| format!("M{} {}V{y}", of(*n), TOP + HIGH))
        .collect::<String>();
    format!(
        "<path class=\"disk\" d=\"{drops}M{} {y}H{}\"/><text class=\"disktext\" x=\"{}\" y=\"{}\">{}</text>",
        of(*first),
        of(*last),
        of(*first) + 6,
        y + 18,
        escaped(label)
    )
}
