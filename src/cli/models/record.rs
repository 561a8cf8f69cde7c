//! What came of predictions, on a terminal.

use std::fmt::Write as _;

use super::super::output::Paint;
use super::super::table::Table;
use crate::api::Time;
use crate::api::models::RecordView;

pub fn draw(record: &RecordView, paint: Paint) -> String {
    let headers = [
        "DAY",
        "CHAIN",
        "STAGE",
        "WHAT",
        "TRIES",
        "BY MODEL",
        "OFF",
        "PLAIN OFF",
    ];
    let mut table = Table::new(paint, &headers);
    for day in &record.days {
        let Time(at) = day.day;
        table.row([
            at.strftime("%Y-%m-%d").to_string(),
            day.chain.clone(),
            day.stage.clone(),
            day.resource.clone(),
            day.tries.to_string(),
            day.by_model.to_string(),
            format!("×{:.2}", day.off),
            day.plain_off
                .map_or_else(|| "-".to_owned(), |off| format!("×{off:.2}")),
        ]);
    }
    let mut out = table.render("nothing that was said of a stage has been put to the test yet");
    if record.calibration.is_empty() {
        return out;
    }
    out.push('\n');
    let headers = ["WHAT", "TRIES", "BELOW 10 %", "BELOW 50 %", "BELOW 90 %"];
    let mut table = Table::new(paint, &headers);
    let share = |value: f64| format!("{:.0} %", 100.0 * value);
    for of in &record.calibration {
        table.row([
            of.resource.clone(),
            of.tries.to_string(),
            share(of.below_low),
            share(of.below_middle),
            share(of.below_high),
        ]);
    }
    out.push_str(&table.render(""));
    let saved = &record.saved;
    let _ = writeln!(
        out,
        "\nsaved against the plain rule on {} tries: {:.2} vCPU-hours, {:.2} GiB-hours, {:.0} s of tries in vain",
        saved.tries, saved.vcpu_hours, saved.gib_hours, saved.seconds
    );
    out
}
