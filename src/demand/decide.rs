//! How many shells of each class are to wait, and why. Pure; the sizes are those of
//! [`crate::learn::sizing`], which simulations use too.

use crate::learn::forecast::Step;
use crate::learn::psim::MOST;
use crate::learn::sizing::tiers::Waits;
use crate::learn::sizing::{
    self, Class as SizedClass, Costs, Curve, Expected, Hysteresis, Reason, Sized,
};
use crate::vocab::demand::Policy;
use crate::vocab::pool::{Class, Target, Tier};

/// Shells are let go only where that saves a twentieth of the period's cost.
pub const HYSTERESIS: Hysteresis = Hysteresis { share: 0.05 };

/// One class whose size is to be decided.
pub struct Candidate<'a> {
    pub policy: &'a Policy,
    pub expected: &'a Expected,
    /// Requests per hour of the coming day.
    pub steps: &'a [Step],
    /// From what `expected` comes, for people.
    pub source: &'static str,
    /// What the pool is told now.
    pub standing: Option<Target>,
    /// One shell, MiB.
    pub each_mib: f64,
    /// How long each tier makes people wait.
    pub waits: &'a Waits,
}

impl Candidate<'_> {
    /// Whether a template is kept although no shell may wait.
    fn keeps_template(&self) -> bool {
        sizing::keeps_template(self.steps, self.has_template())
    }

    fn has_template(&self) -> bool {
        let standing = self.standing;
        standing.is_none_or(|target| target.hot > 0 || target.floor <= Tier::Warm)
    }

    /// What serves a request that finds no shell.
    fn instead(&self) -> Tier {
        match self.keeps_template() {
            true => Tier::Warm,
            false => Tier::Cool,
        }
    }
}

/// A shortage that this tier serves, in seconds of one idle shell.
pub fn miss_s(policy: &Policy, waits: &Waits, instead: Tier) -> f64 {
    policy.miss_s() * waits.cold_starts(instead as usize)
}

#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub class: Class,
    pub target: Target,
    pub sized: Sized,
    /// What serves who finds no shell: the shortage is priced by it.
    pub instead: Tier,
    /// Why it is as many as it is.
    pub why: String,
}

/// Decides for all classes of the host together, within `budget_mib`.
pub fn decide(candidates: &[Candidate], budget_mib: f64) -> Vec<Decision> {
    let empty = Curve::default();
    let classes: Vec<SizedClass> = candidates
        .iter()
        .map(|candidate| {
            let policy = candidate.policy;
            let alone = SizedClass {
                curve: &empty,
                costs: Costs {
                    miss_s: miss_s(policy, candidate.waits, candidate.instead()),
                },
                now: candidate.standing.map_or(0, |target| target.hot as usize),
                least: policy.least as usize,
                most: (policy.most as usize).min(MOST),
                memory_mib: candidate.each_mib.ceil().max(1.0) as u64,
            };
            let (curve, _) = candidate.expected.larger(&alone, HYSTERESIS);
            SizedClass { curve, ..alone }
        })
        .collect();
    let sized = sizing::size(&classes, budget_mib.max(0.0) as u64, HYSTERESIS);
    candidates
        .iter()
        .zip(sized)
        .map(|(candidate, sized)| told(candidate, sized))
        .collect()
}

fn told(candidate: &Candidate, sized: Sized) -> Decision {
    let standing = candidate.standing;
    // Nothing known takes nothing away: what there was stays, within the bounds.
    let shells = match (sized.reason, standing) {
        (Reason::Unknown, Some(target)) => {
            let (least, most) = (candidate.policy.least, candidate.policy.most);
            target.hot.clamp(least, most.max(least))
        }
        _ => u32::try_from(sized.shells).unwrap_or(u32::MAX),
    };
    let floor = if shells > 0 || candidate.keeps_template() {
        Tier::Warm
    } else {
        Tier::Cool
    };
    Decision {
        class: candidate.policy.class.clone(),
        target: Target { hot: shells, floor },
        sized,
        instead: candidate.instead(),
        why: words(candidate, sized, shells, floor),
    }
}

fn words(candidate: &Candidate, sized: Sized, shells: u32, floor: Tier) -> String {
    let because = match sized.reason {
        Reason::Balanced if shells == 0 => {
            "a shell that waits would cost more than the cold starts it saves"
        }
        Reason::Balanced => "one more would cost more than it saves",
        Reason::Held => "fewer would do, but letting them go saves too little",
        Reason::Budget => {
            "more would be worth it, but the memory budget is spent where it saves more"
        }
        Reason::Bound => "a bound of the policy",
        Reason::Unknown => "nothing is known yet, so what was set stays",
    };
    let expected = candidate.steps.first().map_or_else(String::new, |step| {
        format!(
            "; {:.1} requests expected in the coming hour (80 %: {:.1} to {:.1}; from {})",
            step[2], step[1], step[3], candidate.source
        )
    });
    let cold = match candidate.steps.first() {
        Some(step) if sized.misses.is_finite() && step[2] > 0.0 => {
            format!(", {:.2} of the next five minutes' cold", sized.misses)
        }
        _ => String::new(),
    };
    let demoted = match (shells, floor) {
        (0, Tier::Cool) => "; nobody is expected within a day, so no template is kept either",
        _ => "",
    };
    format!("{because}{expected}{cold}{demoted}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::demand::Mode;

    fn policy(class: &str) -> Policy {
        Policy {
            mode: Mode::Forecast,
            ..Policy::of(class.parse().unwrap())
        }
    }

    fn steady(count: f64) -> (Vec<Step>, Expected) {
        let steps = vec![[0.6 * count, 0.8 * count, count, 1.3 * count, 1.6 * count]; 24];
        let expected = Expected::of_forecast(&steps, 3600.0, 300.0, 10.0, 1.0, 20);
        (steps, expected)
    }

    fn candidate<'a>(
        policy: &'a Policy,
        of: &'a (Vec<Step>, Expected),
        now: Option<u32>,
    ) -> Candidate<'a> {
        Candidate {
            policy,
            expected: &of.1,
            steps: &of.0,
            source: "a test",
            standing: now.map(|hot| Target {
                hot,
                floor: Tier::Warm,
            }),
            each_mib: 50.0,
            waits: &BOOTS,
        }
    }

    /// A fork answers as late as a boot.
    const BOOTS: Waits = Waits {
        seconds: [0.0, 6.0, 6.0, 60.0],
        measured: [0; 4],
    };

    #[test]
    fn a_shortage_is_priced_by_the_tier_that_serves_it() {
        let class = policy("busy:1x128");
        let much = steady(700.0);
        let of = |waits: &Waits, at: &(Vec<Step>, Expected)| {
            let one = Candidate {
                waits,
                ..candidate(&class, at, Some(0))
            };
            decide(&[one], 1e6).remove(0)
        };
        let forks = Waits {
            seconds: [0.0, 0.06, 6.0, 60.0],
            measured: [9; 4],
        };
        let (slow, fast) = (of(&BOOTS, &much), of(&forks, &much));
        assert_eq!((slow.instead, fast.instead), (Tier::Warm, Tier::Warm));
        assert!(fast.target.hot < slow.target.hot, "{fast:?} {slow:?}");
        assert_eq!(miss_s(&class, &forks, Tier::Warm), 18.0);
        assert_eq!(miss_s(&class, &forks, Tier::Cool), 1800.0);
        assert_eq!(miss_s(&class, &forks, Tier::Cold), 18_000.0);
        // Where no template is kept, who finds no shell waits for a boot.
        assert_eq!(of(&forks, &steady(0.0)).instead, Tier::Cool);
    }

    #[test]
    fn busy_classes_get_shells_and_idle_ones_lose_even_their_template() {
        let (busy, idle) = (policy("busy:1x128"), policy("idle:1x128"));
        let (much, nothing) = (steady(700.0), steady(0.0));
        let decided = decide(
            &[
                candidate(&busy, &much, None),
                candidate(&idle, &nothing, Some(3)),
            ],
            1e6,
        );
        assert!(decided[0].target.hot >= 2, "{decided:?}");
        assert_eq!(
            decided[1].target,
            Target {
                hot: 0,
                floor: Tier::Cool
            }
        );
        assert!(decided[0].why.contains("700.0 requests expected"));
        assert!(decided[1].why.contains("no template"));
    }

    #[test]
    fn the_budget_bounds_all_and_the_bounds_hold() {
        let (mut a, b) = (policy("a:1x128"), policy("b:1x128"));
        let much = steady(2000.0);
        a.least = 1;
        let of = [candidate(&a, &much, None), candidate(&b, &much, None)];
        let free = decide(&of, 1e6);
        let tight = decide(&of, 150.0);
        let sum = |d: &[Decision]| d.iter().map(|d| d.target.hot).sum::<u32>();
        assert!(sum(&free) > 3);
        assert_eq!(sum(&tight), 3);
        assert_eq!(decide(&of, 0.0)[0].target.hot, 1);
        a.least = 0;
        a.most = 2;
        let bound = decide(&[candidate(&a, &much, None)], 1e6);
        assert_eq!(bound[0].target.hot, 2);
        assert!(bound[0].why.contains("bound"), "{}", bound[0].why);
    }

    #[test]
    fn nothing_known_leaves_what_was_set() {
        let class = policy("new:1x128");
        let unknown = (vec![], Expected::default());
        let decided = decide(&[candidate(&class, &unknown, Some(5))], 1e6);
        assert_eq!(decided[0].target.hot, 5);
    }
}
