//! Sizes, durations and rates as people write them: a number and a unit, `256 MiB`, `1h30m`,
//! `10 MB/s`. A number alone is refused, because its reader would have to guess.

use std::fmt;

/// What is wrong with a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAQuantity {
    pub message: String,
    pub suggestion: Option<String>,
}

impl fmt::Display for NotAQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

const SIZES: [(&str, f64); 10] = [
    ("MiB", 1048576.0),
    ("GiB", 1073741824.0),
    ("KiB", 1024.0),
    ("TiB", 1099511627776.0),
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
];

const RATES: [(&str, f64); 9] = [
    ("MB/s", 1e6),
    ("kB/s", 1e3),
    ("KB/s", 1e3),
    ("GB/s", 1e9),
    ("KiB/s", 1024.0),
    ("MiB/s", 1048576.0),
    ("kbit/s", 125.0),
    ("Mbit/s", 125e3),
    ("Gbit/s", 125e6),
];

const TIMES: [(&str, f64); 5] = [
    ("s", 1.0),
    ("ms", 0.001),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86400.0),
];

/// `1.5 GiB` → bytes, rounded up to a whole one.
pub fn size_bytes(text: &str) -> Result<u64, NotAQuantity> {
    let (number, unit) = split(text)?;
    whole(number * factor(number, unit, &SIZES)?)
}

/// `10 MB/s` → bytes a second, rounded up to a whole one.
pub fn rate_bytes_per_s(text: &str) -> Result<u64, NotAQuantity> {
    let (number, unit) = split(text)?;
    whole(number * factor(number, unit, &RATES)?)
}

/// `90s`, `1h30m`, `1.5 h`, `500ms` → seconds.
pub fn duration_s(text: &str) -> Result<f64, NotAQuantity> {
    let mut rest = text.trim();
    let mut total = 0.0;
    let mut smallest = f64::INFINITY;
    loop {
        let end = rest
            .find(|c: char| c.is_ascii_alphabetic() || c == 'µ')
            .map_or(rest.len(), |unit| {
                rest[unit..]
                    .find(|c: char| c.is_ascii_digit() || c == ' ')
                    .map_or(rest.len(), |n| unit + n)
            });
        let (part, after) = rest.split_at(end);
        let (number, unit) = split(part)?;
        let factor = factor(number, unit, &TIMES)?;
        if factor >= smallest {
            return Err(NotAQuantity {
                message: "the parts of a duration go from large to small".into(),
                suggestion: Some("write for example `1h30m`".into()),
            });
        }
        smallest = factor;
        total += number * factor;
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// `256 MiB` → (256.0, "MiB").
fn split(text: &str) -> Result<(f64, &str), NotAQuantity> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (figures, unit) = text.split_at(end);
    let not_a_number = || NotAQuantity {
        message: "it does not begin with a number".into(),
        suggestion: None,
    };
    if figures.len() > 18 || figures.starts_with('.') || figures.ends_with('.') {
        return Err(not_a_number());
    }
    let number = figures.parse::<f64>().map_err(|_| not_a_number())?;
    Ok((number, unit.trim()))
}

fn factor(number: f64, unit: &str, units: &[(&str, f64)]) -> Result<f64, NotAQuantity> {
    if let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) {
        return Ok(*factor);
    }
    if unit.is_empty() {
        return Err(NotAQuantity {
            message: "it has no unit".into(),
            suggestion: Some(format!("write for example `{number} {}`", units[0].0)),
        });
    }
    let near = units.iter().find(|(name, _)| {
        let (name, unit) = (name.to_lowercase(), unit.to_lowercase());
        name == unit || name.starts_with(&unit) || unit.starts_with(&name) && name.len() > 1
    });
    let word = time_word(unit).filter(|word| units.iter().any(|(name, _)| name == word));
    Err(NotAQuantity {
        message: format!("{} is not a unit for this", super::faults::quoted(unit)),
        suggestion: word
            .or(near.map(|(name, _)| *name))
            .map(|name| format!("did you mean `{number} {name}`?")),
    })
}

fn time_word(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        _ => None,
    }
}

fn whole(value: f64) -> Result<u64, NotAQuantity> {
    // Above 2^53 a float no longer counts in ones; nothing here is that large.
    if value > 9_007_199_254_740_992.0 {
        return Err(NotAQuantity {
            message: "it is absurdly large".into(),
            suggestion: None,
        });
    }
    Ok(value.ceil() as u64)
}
