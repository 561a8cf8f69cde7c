//! Points in time as the API writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vocab::Timestamp;

/// An instant, RFC 3339 in UTC with microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub jiff::Timestamp);

impl Time {
    pub fn of(at: Timestamp) -> Self {
        Self(jiff::Timestamp::from_microsecond(at.0).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Seconds until `self`; negative once it has passed.
    pub fn seconds_from(self, now: Time) -> f64 {
        self.0.duration_since(now.0).as_secs_f64()
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, UTC, microseconds.",
        })
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_survive_the_wire() {
        let time = Time(jiff::Timestamp::from_microsecond(1_700_000_000_000_001).unwrap());
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, r#""2023-11-14T22:13:20.000001Z""#);
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
    }
}
