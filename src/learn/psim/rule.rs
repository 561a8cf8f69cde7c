//! The rules of pool sizes by name, and how each would have done on a trace.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use super::super::sizing::{Expected, Hysteresis};
use super::known::Known;
use super::{Host, MOST, Outcome, Trace, foresee, foretell, policies, replay, run};

/// A rule with its one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// So many shells, always.
    Fixed(usize),
    /// The largest need of so many last ticks.
    Reactive(usize),
    /// The moving average and so many standard deviations.
    Moving(f64),
    /// A quantile of the same time of earlier weeks.
    Seasonal(f64),
    /// The sample average over the same time of earlier weeks, a miss costing so many idle seconds.
    Sample(f64),
    /// The forecast's quantiles, as the daemon uses them, a miss costing so many idle seconds.
    Forecast(f64),
    /// Learned curves, a miss costing so many idle seconds.
    Foresight(f64),
}

/// The rules that a comparison shows.
pub const COMPARED: [Rule; 25] = [
    Rule::Fixed(0),
    Rule::Fixed(1),
    Rule::Fixed(2),
    Rule::Fixed(4),
    Rule::Fixed(8),
    Rule::Fixed(16),
    Rule::Reactive(3),
    Rule::Moving(0.0),
    Rule::Moving(1.0),
    Rule::Moving(2.0),
    Rule::Seasonal(0.8),
    Rule::Seasonal(0.95),
    Rule::Seasonal(0.99),
    Rule::Sample(1000.0),
    Rule::Sample(10_000.0),
    Rule::Forecast(300.0),
    Rule::Forecast(1000.0),
    Rule::Forecast(3000.0),
    Rule::Forecast(10_000.0),
    Rule::Foresight(300.0),
    Rule::Foresight(700.0),
    Rule::Foresight(1500.0),
    Rule::Foresight(2000.0),
    Rule::Foresight(3000.0),
    Rule::Foresight(5000.0),
];

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(shells) => write!(f, "fixed:{shells}"),
            Self::Reactive(ticks) => write!(f, "reactive:{ticks}"),
            Self::Moving(deviations) => write!(f, "moving:{deviations}"),
            Self::Seasonal(level) => write!(f, "seasonal:{level}"),
            Self::Sample(cost) => write!(f, "sample:{cost}"),
            Self::Forecast(cost) => write!(f, "forecast:{cost}"),
            Self::Foresight(cost) => write!(f, "foresight:{cost}"),
        }
    }
}

/// Why a text names no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rule of pool sizes: expected fixed:SHELLS, reactive:TICKS, moving:DEVIATIONS, seasonal:QUANTILE, sample:COST, forecast:COST or foresight:COST, such as foresight:2000"
)]
pub struct NoRule(pub String);

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        let wrong = || NoRule(text.to_owned());
        let (name, number) = text.split_once(':').ok_or_else(wrong)?;
        let whole = || {
            number
                .parse::<usize>()
                .ok()
                .filter(|n| *n <= 1000)
                .ok_or_else(wrong)
        };
        let within = |range: std::ops::RangeInclusive<f64>| {
            number
                .parse::<f64>()
                .ok()
                .filter(|n| range.contains(n))
                .ok_or_else(wrong)
        };
        match name {
            "fixed" => Ok(Self::Fixed(whole()?)),
            "reactive" => Ok(Self::Reactive(whole()?)),
            "moving" => Ok(Self::Moving(within(-10.0..=10.0)?)),
            "seasonal" => Ok(Self::Seasonal(within(0.0..=1.0)?)),
            "sample" => Ok(Self::Sample(within(0.0..=1e9)?)),
            "forecast" => Ok(Self::Forecast(within(0.0..=1e9)?)),
            "foresight" => Ok(Self::Foresight(within(0.0..=1e9)?)),
            _ => Err(wrong()),
        }
    }
}

/// A trace made ready for judging rules on some of its ticks.
pub struct Ground<'a> {
    trace: &'a Trace,
    host: Host,
    ticks: Range<usize>,
    hysteresis: Hysteresis,
    needs: Vec<f64>,
    misses: Vec<Vec<f32>>,
    /// Learned and foretold when a rule first asks for it: it takes seconds.
    learned: std::cell::OnceCell<Vec<Expected>>,
    told: std::cell::OnceCell<Vec<Expected>>,
    /// Ticks between two forecasts.
    every: usize,
}

impl<'a> Ground<'a> {
    /// Rules are judged on `ticks`; what came before is there to learn from.
    pub fn new(trace: &'a Trace, host: Host, ticks: Range<usize>, hysteresis: Hysteresis) -> Self {
        Self {
            trace,
            host,
            ticks,
            hysteresis,
            needs: trace.needs(host.lead_s),
            misses: replay::isolated_misses(trace, host.lead_s),
            learned: std::cell::OnceCell::new(),
            told: std::cell::OnceCell::new(),
            every: 1,
        }
    }

    /// With a forecast each `every` ticks only: cheaper, for a first look.
    pub fn forecasting_each(mut self, every: usize) -> Self {
        self.every = every;
        self
    }

    pub fn judge(&self, rule: Rule) -> Outcome {
        self.judge_within(rule, 0..=MOST)
    }

    /// The same for foresight and forecasts that keep to bounds.
    pub fn judge_within(&self, rule: Rule, bounds: RangeInclusive<usize>) -> Outcome {
        let targets = self.targets(rule, bounds);
        run(self.trace, self.host, self.ticks.clone(), |tick| {
            targets[tick - self.ticks.start]
        })
    }

    /// The target of each tick; those of foresight and forecasts keep to bounds.
    pub fn targets(&self, rule: Rule, bounds: RangeInclusive<usize>) -> Vec<usize> {
        let judged = |all: Vec<usize>| all[self.ticks.clone()].to_vec();
        let mut targets = match rule {
            Rule::Fixed(shells) => vec![shells; self.ticks.len()],
            Rule::Reactive(ticks) => judged(policies::reactive(&self.needs, ticks)),
            Rule::Moving(deviations) => judged(policies::moving_average(&self.needs, deviations)),
            Rule::Seasonal(level) => judged(policies::seasonal_quantile(&self.needs, level)),
            Rule::Sample(cost) => judged(policies::sample_average(&self.misses, cost)),
            Rule::Forecast(cost) => {
                let expected = self.told.get_or_init(|| {
                    let (ticks, lead_s) = (self.ticks.clone(), self.host.lead_s);
                    foretell::expect(self.trace, lead_s, ticks, self.every)
                });
                foresee::targets(expected, cost, self.hysteresis)
            }
            Rule::Foresight(cost) => {
                let expected = self.learned.get_or_init(|| {
                    let curves = replay::curves(self.trace, self.host);
                    let known = Known::new(self.trace, self.host.lead_s);
                    foresee::expect(&known, &curves, self.ticks.clone())
                });
                foresee::targets(expected, cost, self.hysteresis)
            }
        };
        let (least, most) = (*bounds.start(), *bounds.end().max(bounds.start()));
        let is_chosen = matches!(rule, Rule::Forecast(_) | Rule::Foresight(_));
        for target in &mut targets {
            *target = (*target).min(MOST);
            if is_chosen {
                *target = (*target).clamp(least, most);
            }
        }
        targets
    }

    /// The ticks that are judged.
    pub fn ticks(&self) -> Range<usize> {
        self.ticks.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::DAY;
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for rule in COMPARED {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        for text in [
            "fixed",
            "fixed:-1",
            "fixed:9999999",
            "seasonal:2",
            "sample:NaN",
            "guess:1",
        ] {
            assert_eq!(text.parse::<Rule>(), Err(NoRule(text.to_owned())));
        }
    }

    #[test]
    fn every_rule_serves_the_same_requests() {
        let at_s: Vec<f64> = (0..5 * 24)
            .flat_map(|hour| [f64::from(hour) * 3600.0, f64::from(hour) * 3600.0 + 2.0])
            .collect();
        let trace = Trace {
            hold_s: vec![60.0; at_s.len()],
            at_s,
        };
        let host = Host {
            lead_s: 6.7,
            reuse_s: Some(30.0),
        };
        let ground = Ground::new(&trace, host, 3 * DAY..4 * DAY, Hysteresis { share: 0.05 });
        for rule in [
            Rule::Fixed(2),
            Rule::Reactive(3),
            Rule::Moving(1.0),
            Rule::Seasonal(0.9),
            Rule::Sample(1e3),
            Rule::Forecast(1e4),
            Rule::Foresight(1e5),
        ] {
            let outcome = ground.judge(rule);
            assert_eq!(outcome.requests, 48, "{rule}");
        }
        assert!(ground.judge(Rule::Foresight(1e5)).cold < ground.judge(Rule::Fixed(0)).cold);
    }
}
