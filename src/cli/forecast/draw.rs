//! Forecasts on a terminal: tables, and a line of bars.

use std::fmt::Write as _;

use super::super::output::Paint;
use super::super::table::Table;
use super::super::text;
use crate::api::Time;
use crate::api::demand::{ComparedHour, ComparedView, ForecastStep, ForecastView, LevelsView};

/// A line per persona, then one per class.
pub fn list(forecasts: &[ForecastView], paint: Paint) -> String {
    let (classes, personas): (Vec<_>, Vec<_>) = forecasts.iter().partition(|f| f.class.is_some());
    let mut out = String::new();
    if !personas.is_empty() {
        out.push_str(&lines("PERSONA", &personas, paint));
    }
    if !classes.is_empty() || personas.is_empty() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&lines("CLASS", &classes, paint));
    }
    out
}

fn lines(what: &str, forecasts: &[&ForecastView], paint: Paint) -> String {
    let mut headers = vec![
        what,
        "NEXT HOUR",
        "80 %",
        "NEXT DAY",
        "DAY BEFORE → NEXT",
        "FROM",
    ];
    let are_personas = forecasts.first().is_some_and(|f| f.class.is_none());
    if are_personas {
        headers.push("MACHINES");
    }
    let mut table = Table::new(paint, &headers);
    for forecast in forecasts {
        let (next, band) = match forecast.steps.first() {
            Some(step) => (number(step.median), band(step)),
            None => ("-".into(), "-".into()),
        };
        let day: f64 = forecast.steps.iter().map(|step| step.median).sum();
        let mut cells = vec![
            forecast.name().to_owned(),
            next,
            band,
            number(day),
            bars(forecast),
            forecast.basis.clone(),
        ];
        if are_personas {
            cells.push(machines(forecast));
        }
        table.row(cells);
    }
    table.render("nothing is known yet: nobody has asked for a machine")
}

/// Classes of a persona's machines, with their shares where there are several.
fn machines(forecast: &ForecastView) -> String {
    match &*forecast.classes {
        [] => "none yet".to_owned(),
        [only] => only.class.clone(),
        several => several
            .iter()
            .map(|of| format!("{} {:.0}%", of.class, 100.0 * of.share))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// One class or persona by the hour.
pub fn forecast(forecast: &ForecastView, paint: Paint) -> String {
    let mut out = String::new();
    let mut field = |label: &str, value: &str| {
        let _ = writeln!(out, "{label:<9} {}", text::line(value));
    };
    match &forecast.class {
        Some(class) => field("class", class),
        None => field("persona", forecast.name()),
    }
    if let Some(parent) = &forecast.parent {
        field("parent", parent);
    }
    if forecast.class.is_none() {
        field("machines", &machines(forecast));
    }
    if let Some(client) = &forecast.client {
        field("client", client);
    }
    field("from", &forecast.because);
    let history = format!(
        "{} h of history{}{}",
        forecast.known_hours,
        some(forecast.gaps, "not watched"),
        some(forecast.capped, "cut down, absurd")
    );
    field("history", &history);
    if !forecast.events.is_empty() {
        field("events", &forecast.events.join(", "));
    }
    if let Some(choice) = &forecast.choice {
        let mut weights = choice.weights.clone();
        weights.sort_by(|a, b| b.value.total_cmp(&a.value));
        let told: Vec<String> = weights
            .iter()
            .map(|weight| format!("{} {:.0}%", weight.method, 100.0 * weight.value))
            .collect();
        field("methods", &told.join(", "));
        if let Some(loss) = choice.losses.iter().find(|loss| loss.method == "combined") {
            let told = format!(
                "{:.2} of the plain rule's loss in the back-tests",
                loss.value
            );
            field("judged", &told);
        }
    }
    if let Some(sized) = &forecast.sized {
        field("waiting", sized);
    }
    field(
        "day",
        &format!("{}  (the last 24 h, then the next)", bars(forecast)),
    );
    out.push('\n');
    let headers = ["HOUR", "EXPECTED", "80 %", "95 %", ""];
    let mut table = Table::new(paint, &headers);
    let most = highest(forecast);
    for step in &forecast.steps {
        table.row([
            hour(step.at),
            number(step.median),
            band(step),
            format!("{} – {}", number(step.low95), number(step.high95)),
            bar(step, most),
        ]);
    }
    out.push_str(&table.render("nothing is expected"));
    out
}

pub fn compared(compared: &ComparedView, paint: Paint) -> String {
    let mut table = Table::new(paint, &["HOUR", "CAME", "EXPECTED", "80 %", "NOTE"]);
    for found in &compared.hours {
        let (median, band) = match &found.expected {
            Some(step) => (number(step.median), band(step)),
            None => ("-".into(), "-".into()),
        };
        let actual = found.actual.map_or_else(|| "-".into(), number);
        table.row([hour(found.at), actual, median, band, note(found).into()]);
    }
    let mut out = table.render("no hours");
    if compared.judged == 0 {
        out.push_str("\nno hour has both a forecast and an outcome yet\n");
        return out;
    }
    let plain = compared.plain_error.map_or_else(
        || "which is not known yet".to_owned(),
        |plain| format!("{plain:.2}"),
    );
    let _ = writeln!(
        out,
        "\n{} hours: error {:.2} per hour (as yesterday at this time: {plain}), pinball {:.3}, {:.0}% within the 80 % interval, {:.0}% within the 95 %",
        compared.judged,
        compared.error,
        compared.pinball,
        100.0 * compared.within80,
        100.0 * compared.within95
    );
    out
}

/// A line per step in which anybody came or the number changed.
pub fn levels(levels: &LevelsView, paint: Paint) -> String {
    let headers = ["FROM", "WAITED", "WANTED", "CAME", "HOT", "FORKED", "COLD"];
    let mut table = Table::new(paint, &headers);
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut before = None;
    for step in &levels.steps {
        let came = step.hot + step.warm + step.cold;
        let stands = (step.ready, step.wanted);
        if came == 0 && before == Some(stands) {
            continue;
        }
        before = Some(stands);
        let Time(at) = step.at;
        table.row([
            at.strftime("%a %H:%M").to_string(),
            number(step.ready),
            number(step.wanted),
            came.to_string(),
            step.hot.to_string(),
            step.warm.to_string(),
            step.cold.to_string(),
        ]);
    }
    table.render("nobody has looked or come")
}

fn note(hour: &ComparedHour) -> &'static str {
    match (&hour.expected, hour.actual) {
        (_, None) => "nobody watched",
        (None, _) => "no forecast",
        (Some(step), Some(actual)) if actual > step.high95 => "above the 95 % interval",
        (Some(step), Some(actual)) if actual < step.low95 => "below the 95 % interval",
        (Some(step), Some(actual)) if actual > step.high80 => "above",
        (Some(step), Some(actual)) if actual < step.low80 => "below",
        _ => "",
    }
}

fn some(count: usize, what: &str) -> String {
    match count {
        0 => String::new(),
        n => format!(", {n} {what}"),
    }
}

fn band(step: &ForecastStep) -> String {
    format!("{} – {}", number(step.low80), number(step.high80))
}

fn number(value: f64) -> String {
    if value.abs() < 9.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

fn hour(at: Time) -> String {
    at.0.strftime("%a %d %b %H:%M").to_string()
}

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The last day as it came, a bar, and the next as it is expected; `·` where nobody watched.
fn bars(forecast: &ForecastView) -> String {
    let medians = || forecast.steps.iter().map(|step| step.median);
    let known = forecast.last_day.iter().flatten().copied();
    let most = known.chain(medians()).fold(0.0, f64::max);
    let of = |value: f64| {
        if most <= 0.0 || !value.is_finite() {
            return EIGHTHS[0];
        }
        EIGHTHS[((value / most * 7.0).round() as usize).min(7)]
    };
    let before: String = forecast
        .last_day
        .iter()
        .map(|count| count.map_or('·', of))
        .collect();
    let ahead: String = medians().map(of).collect();
    format!("{before}│{ahead}")
}

fn highest(forecast: &ForecastView) -> f64 {
    let upper = forecast.steps.iter().map(|step| step.high80);
    upper.fold(0.0, f64::max)
}

/// The median as a bar, and up to where the 80 % interval reaches.
fn bar(step: &ForecastStep, most: f64) -> String {
    const WIDTH: f64 = 40.0;
    if most <= 0.0 {
        return String::new();
    }
    let cells = |value: f64| (value.max(0.0) / most * WIDTH).round().min(WIDTH) as usize;
    let median = cells(step.median);
    let upper = cells(step.high80).saturating_sub(median);
    format!("{}{}", "█".repeat(median), "░".repeat(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(hour: u32, median: f64) -> serde_json::Value {
        serde_json::json!({
            "at": format!("2026-01-05T{hour:02}:00:00Z"), "low95": 0.0, "low80": 0.5 * median,
            "median": median, "high80": 2.0 * median, "high95": 3.0 * median,
        })
    }

    fn view() -> ForecastView {
        serde_json::from_value(serde_json::json!({
            "class": "tiny:1x128", "client": null, "made_at": "2026-01-05T10:00:00Z", "step_s": 3600,
            "steps": [step(10, 2.0), step(11, 20.0), step(12, 0.0)],
            "basis": "combined", "because": "what won", "last_day": [0.0, null, 10.0, 20.0],
            "known_hours": 400, "gaps": 3, "capped": 0, "events": ["release"],
            "choice": {
                "made_at": "2026-01-05T06:00:00Z", "method": "combined",
                "weights": [{"method": "smoothing", "value": 0.3}, {"method": "linear-log", "value": 0.7}],
                "losses": [{"method": "combined", "value": 0.81}],
            },
            "sized": "2: one more would cost more than it saves", "model": "demand-1",
        }))
        .unwrap()
    }

    #[test]
    fn a_forecast_is_a_table_and_a_line_of_bars() {
        let text = forecast(&view(), Paint::Plain);
        for line in [
            "class     tiny:1x128",
            "history   400 h of history, 3 not watched",
            "methods   linear-log 70%, smoothing 30%",
            "judged    0.81 of the plain rule's loss in the back-tests",
            "day       ▁·▅█│▂█▁  (the last 24 h, then the next)",
            "Mon 05 Jan 10:00  2.0       1.0 – 4.0  0.0 – 6.0  ██░░",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let persona = ForecastView {
            class: None,
            persona: Some("kiosk".into()),
            parent: Some("plain".into()),
            basis: "family".into(),
            classes: serde_json::from_value(serde_json::json!([
                {"class": "tiny:1x128", "share": 0.75}, {"class": "tiny:2x256", "share": 0.25},
            ]))
            .unwrap(),
            ..view()
        };
        let text = list(&[persona.clone(), view()], Paint::Plain);
        let line = "kiosk    2.0        1.0 – 4.0  22        ▁·▅█│▂█▁           family  tiny:1x128 75%, tiny:2x256 25%";
        assert!(text.lines().any(|found| found == line), "{text}");
        let shown = forecast(&persona, Paint::Plain);
        assert!(
            shown.starts_with("persona   kiosk\nparent    plain\nmachines  tiny:1x128 75%"),
            "{shown}"
        );
        let line = "tiny:1x128  2.0        1.0 – 4.0  22        ▁·▅█│▂█▁           combined";
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn a_comparison_says_what_was_missed() {
        let compared_view: ComparedView = serde_json::from_value(serde_json::json!({
            "class": "tiny:1x128", "client": null, "ahead_s": 3600, "judged": 1, "error": 3.0,
            "plain_error": 4.5, "pinball": 0.9, "within80": 0.0, "within95": 1.0,
            "hours": [
                {"at": "2026-01-05T10:00:00Z", "expected": step(10, 2.0), "made_at": "2026-01-05T09:00:00Z", "actual": 5.0},
                {"at": "2026-01-05T11:00:00Z", "expected": null, "made_at": null, "actual": 1.0},
                {"at": "2026-01-05T12:00:00Z", "expected": step(12, 2.0), "made_at": null, "actual": null},
            ],
        }))
        .unwrap();
        let text = compared(&compared_view, Paint::Plain);
        for line in [
            "HOUR              CAME  EXPECTED  80 %       NOTE",
            "Mon 05 Jan 10:00  5.0   2.0       1.0 – 4.0  above",
            "Mon 05 Jan 11:00  1.0   -         -          no forecast",
            "Mon 05 Jan 12:00  -     2.0       1.0 – 4.0  nobody watched",
            "1 hours: error 3.00 per hour (as yesterday at this time: 4.50), pinball 0.900, 0% within the 80 % interval, 100% within the 95 %",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn nothing_known_draws_nothing_absurd() {
        let mut empty = view();
        empty.steps.clear();
        empty.last_day = vec![None];
        assert_eq!(bars(&empty), "·│");
        assert!(forecast(&empty, Paint::Plain).contains("nothing is expected"));
    }
}
