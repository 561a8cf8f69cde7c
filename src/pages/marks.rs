//! Small pieces of markup that many pages use. The only code here that writes markup by hand: all of it
//! is made of numbers and of words that are known; other text is escaped.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::api::{PhaseView, Time};
use crate::vocab::Timestamp;

/// Markup that is finished. Made in this file, in [`super::plot`] and in [`super::picture`] only.
#[derive(Debug, Clone, Default)]
pub struct Markup(pub(super) String);

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// Text as a text node or a quoted attribute.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&#34;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Every word for a state, with the colour in which it is shown.
const STATES: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "running",
            "working",
            "preparing",
            "finishing",
            "making",
            "building",
            "filling",
            "provisioning",
            "installing",
            "claimed",
            "up",
            "registered",
            "discovered",
            "delivered",
            "booted",
            "releasing",
            "warm",
        ],
    ),
    (
        "good",
        &[
            "succeeded",
            "ready",
            "reporting",
            "valid",
            "current",
            "hot",
            "whole",
        ],
    ),
    (
        "wait",
        &[
            "held",
            "undoing",
            "undone",
            "quarantined",
            "draining",
            "kept",
            "conflict",
            "paused",
        ],
    ),
    ("bad", &["failed", "dead", "revoked", "expired"]),
    (
        "rest",
        &[
            "queued", "waiting", "aborted", "dropped", "seen", "gone", "former", "draft",
            "standby", "cool", "cold",
        ],
    ),
];

/// A word in its colour, with a dot before it. A word that is not known is shown without one.
pub fn state(word: &str) -> Markup {
    let colour = STATES
        .iter()
        .find(|(_, words)| words.contains(&word))
        .map_or("rest", |(colour, _)| colour);
    Markup(format!(
        "<span class=\"state is-{colour}\">{}</span>",
        escaped(word)
    ))
}

/// How long ago, or until when; the whole time stands in the title, and the script keeps it fresh.
pub fn when(at: &Time, now: &Time) -> Markup {
    let seconds = -at.seconds_from(*now);
    let said = if seconds >= 0.0 {
        format!("{} ago", rough(seconds))
    } else {
        format!("in {}", rough(-seconds))
    };
    // To the second: that is what people read.
    let whole = at.0.round(jiff::Unit::Second).unwrap_or(at.0);
    Markup(format!(
        "<time datetime=\"{whole}\" title=\"{whole}\" data-ago>{said}</time>"
    ))
}

pub fn when_some(at: &Option<Time>, now: &Time) -> Markup {
    at.map_or_else(|| Markup("–".into()), |at| when(&at, now))
}

pub fn at(timestamp: &Timestamp, now: &Time) -> Markup {
    when(&Time::of(*timestamp), now)
}

/// `5 s`, `3 min`, `4 h`, `12 d`.
fn rough(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "0 s".into(),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

// What templates call takes references, because that is what they give.

/// `0.4 s`, `12 s`, `4 min 05 s`, `2 h 10 min`.
pub fn span(seconds: &f64) -> String {
    let seconds = seconds.max(0.0);
    let whole = seconds.round().min(1e15) as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d", whole / 86_400),
    }
}

pub fn between(start: &Time, end: &Time) -> String {
    span(&end.seconds_from(*start))
}

/// `4.2 ms`, `47 ms`, `1.3 s`.
pub fn millis(ms: &f64) -> String {
    match *ms {
        ms if ms < 9.95 => format!("{:.1} ms", ms.max(0.0)),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => span(&(ms / 1000.0)),
    }
}

/// `512 MiB`, `1.5 GiB`.
pub fn mib(mib: &u64) -> String {
    match *mib {
        mib if mib < 1024 => format!("{mib} MiB"),
        mib if mib.is_multiple_of(1024) => format!("{} GiB", mib / 1024),
        mib => format!("{:.1} GiB", mib as f64 / 1024.0),
    }
}

pub fn bytes(bytes: &u64) -> String {
    let of = *bytes as f64;
    match *bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", of / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", of / 1_048_576.0),
        _ => format!("{:.1} GiB", of / 1_073_741_824.0),
    }
}

/// The first characters of a digest or an id, enough to recognise it.
pub fn short<T: ToString + ?Sized>(id: &T) -> String {
    id.to_string().chars().take(12).collect()
}

/// `1 run`, `3 runs`.
pub fn count(n: &usize, noun: &str) -> String {
    match *n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// How much of something is taken, as a bar with a label for those who do not see it.
pub fn meter(used: &f64, total: &f64, label: &str) -> Markup {
    let share = if *total > 0.0 {
        (used / total).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let colour = match share {
        s if s >= 0.9 => "is-bad",
        s if s >= 0.75 => "is-wait",
        _ => "is-run",
    };
    Markup(format!(
        "<svg class=\"meter {colour}\" role=\"img\" aria-label=\"{}\"><rect class=\"track\" width=\"100%\" height=\"100%\" rx=\"4\"/><rect class=\"fill\" width=\"{:.2}%\" height=\"100%\" rx=\"4\"/></svg>",
        escaped(label),
        share * 100.0
    ))
}

/// How large something is beside the largest of its kind.
pub fn plain_bar(value: f64, most: f64, label: &str) -> Markup {
    let share = (value / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * 100.0;
    Markup(format!(
        "<svg class=\"meter is-run\" role=\"img\" aria-label=\"{}\"><rect class=\"track\" width=\"100%\" height=\"100%\" rx=\"4\"/><rect class=\"fill\" width=\"{share:.2}%\" height=\"100%\" rx=\"4\"/></svg>",
        escaped(label)
    ))
}

pub fn meter_of(used: &u64, total: &u64, label: &str) -> Markup {
    meter(&(*used as f64), &(*total as f64), label)
}

/// One thing after the other, each as wide as it took.
pub fn phases(phases: &[(String, f64)]) -> Markup {
    let total: f64 = phases.iter().map(|(_, ms)| ms.max(0.0)).sum();
    if total <= 0.0 {
        return Markup::default();
    }
    let label = phases
        .iter()
        .map(|(name, ms)| format!("{} {}", name.replace('_', " "), millis(ms)))
        .collect::<Vec<_>>()
        .join(", ");
    let (mut x, mut parts) = (0.0, String::new());
    for (n, (name, ms)) in phases.iter().enumerate() {
        let width = ms.max(0.0) / total * 100.0;
        parts.push_str(&format!(
            "<rect class=\"phase-{}\" x=\"{x:.2}%\" width=\"{width:.2}%\" height=\"100%\"><title>{}: {}</title></rect>",
            n % 6,
            escaped(&name.replace('_', " ")),
            millis(ms)
        ));
        x += width;
    }
    Markup(format!(
        "<svg class=\"phases\" role=\"img\" aria-label=\"{}\">{parts}</svg>",
        escaped(&label)
    ))
}

pub fn phases_of(parts: &[PhaseView]) -> Markup {
    let parts: Vec<_> = parts
        .iter()
        .map(|part| (part.phase.clone(), part.ms))
        .collect();
    phases(&parts)
}

/// How long a stage takes beside what was expected: both on one scale, whose end is `scale_s`.
pub struct Bar<'a> {
    pub elapsed_s: f64,
    pub expected_s: Option<f64>,
    pub scale_s: f64,
    pub state: &'a str,
}

impl Bar<'_> {
    pub fn draw(&self) -> Markup {
        let scale = self.scale_s.max(0.001);
        let share = |s: f64| (s / scale * 100.0).clamp(0.0, 100.0);
        let done = match self.state {
            "waiting" | "dropped" => 0.0,
            _ => share(self.elapsed_s).max(0.6),
        };
        let colour = match self.state {
            "succeeded" => "good",
            "failed" => "bad",
            "undone" | "dropped" | "waiting" => "rest",
            _ if self.expected_s.is_some_and(|s| self.elapsed_s > s * 1.5) => "wait",
            _ => "run",
        };
        let (mut expected, mut said) = (String::new(), span(&self.elapsed_s));
        if let Some(s) = self.expected_s {
            let x = share(s);
            expected = format!(
                "<rect class=\"expected\" width=\"{x:.2}%\" height=\"100%\" rx=\"4\"/><rect class=\"mark\" x=\"{:.2}%\" width=\"2\" height=\"100%\"/>",
                (x - 0.3).max(0.0)
            );
            said = format!("{said} of {} expected", span(&s));
        }
        let live = match self.state {
            "working" => format!(
                " data-since=\"{:.3}\" data-scale=\"{scale:.3}\"",
                self.elapsed_s
            ),
            _ => String::new(),
        };
        Markup(format!(
            "<svg class=\"bar is-{colour}\" role=\"img\" aria-label=\"{said}\"{live}><rect class=\"track\" width=\"100%\" height=\"100%\" rx=\"4\"/>{expected}<rect class=\"fill\" width=\"{done:.2}%\" height=\"40%\" y=\"30%\" rx=\"2\"/></svg>"
        ))
    }
}

/// What happened: its message, else its kind in words.
pub fn told<'a>(kind: &str, message: &'a str) -> std::borrow::Cow<'a, str> {
    match message {
        "" => kind.replace('_', " ").into(),
        message => message.into(),
    }
}

/// A unified difference, line by line.
pub fn difference(text: &str) -> Markup {
    let mut marked = String::new();
    for line in text.lines() {
        let class = match line.as_bytes().first() {
            Some(b'+') if !line.starts_with("+++") => "added",
            Some(b'-') if !line.starts_with("---") => "removed",
            Some(b'@') => "place",
            _ => "same",
        };
        marked.push_str(&format!(
            "<span class=\"{class}\">{}</span>\n",
            escaped(line)
        ));
    }
    Markup(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_words_are_text() {
        assert!(!state("<b>").0.contains("<b>"));
        assert!(!difference("+<script>").0.contains("<script>"));
        let drawn = phases(&[("\"><x".into(), 1.0)]).0;
        assert!(!drawn.contains("\"><x"));
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        assert_eq!(
            [0.44, 12.3, 245.0, 7800.0].map(|s| span(&s)),
            ["0.4 s", "12 s", "4 min 05 s", "2 h 10 min"]
        );
        assert_eq!(millis(&47.2), "47 ms");
    }
}
