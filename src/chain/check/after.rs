//! `after:` of a stage: what the run waits for before it.

use super::Checker;
use super::fields::Fields;
use super::stage::Found;
use crate::chain::faults::Fault;
use crate::chain::model::{After, AfterEvent};
use crate::chain::read::{Content, Node};
use crate::vocab::StageKind;

const EVENTS: [(&str, AfterEvent); 1] = [("delivered", AfterEvent::Delivered)];
/// Two reports and what takes longer to find out.
const WATCH_S: u64 = 30;
const WITHIN_S: u64 = 3600;

impl Checker<'_> {
    /// `delivered`, or a mapping that says more.
    pub(super) fn after(&mut self, node: &Node, path: &str) -> Option<After> {
        if !matches!(node.content, Content::Map(_)) {
            let event = self.word(node, path, "something to wait for", &EVENTS)?;
            return Some(After {
                event,
                watch_s: WATCH_S,
                within_s: WITHIN_S,
            });
        }
        let fields = Fields::open(self, node, path, &["event", "watch", "within"])?;
        let event = fields.need(
            self,
            "event",
            "what is waited for: `delivered`",
            |checker, node, path| checker.word(node, path, "something to wait for", &EVENTS),
        );
        let watch = fields.may(self, "watch", |checker, node, path| {
            checker.whole_seconds(node, path, 0, 3600)
        });
        let within = fields.may(self, "within", |checker, node, path| {
            checker.whole_seconds(node, path, 60, 7 * 86_400)
        });
        let after = After {
            event: event.unwrap_or(AfterEvent::Delivered),
            watch_s: watch.unwrap_or(WATCH_S),
            within_s: within.unwrap_or(WITHIN_S),
        };
        if after.watch_s >= after.within_s {
            let fault = Fault::new(
                node.span,
                path,
                "the device would be watched for longer than the run waits",
            )
            .expecting("`watch` shorter than `within`");
            self.report(fault);
        }
        Some(after)
    }

    /// One stage of a chain waits for the device; what the device gets is made before it, and not
    /// changed after it.
    pub(super) fn device_gets_something(&mut self, stages: &[Found]) {
        let Some(index) = stages.iter().position(|found| found.stage.after.is_some()) else {
            return;
        };
        let found = &stages[index];
        let (Some(span), path) = (found.after_span, format!("{}.after", found.path)) else {
            return;
        };
        if found.stage.kind != StageKind::Monitoring {
            let message = format!(
                "a stage of kind `{}` cannot wait for the device",
                found.stage.kind.word()
            );
            self.report(
                Fault::new(span, path.clone(), message).suggesting("write `kind: monitoring`"),
            );
        }
        if !stages[..index]
            .iter()
            .any(|earlier| earlier.stage.handoff_disk)
        {
            let fault = Fault::new(span, path, "no stage before this one has the handoff disk")
                .expecting("a disk that can be delivered")
                .suggesting("write `handoff_disk: true` in the stages that make it");
            self.report(fault);
        }
        for later in &stages[index..] {
            if let Some(span) = later.wants_disk {
                let path = format!("{}.handoff_disk", later.path);
                let fault = Fault::new(
                    span,
                    path,
                    "the device has the disk by then: changes would not reach it",
                );
                self.report(fault.suggesting(format!("do this before {}", found.stage.name)));
            }
        }
        for second in stages[index + 1..]
            .iter()
            .filter(|second| second.stage.after.is_some())
        {
            if let Some(span) = second.after_span {
                let path = format!("{}.after", second.path);
                let message = format!("{} waits for the device already", found.stage.name);
                self.report(
                    Fault::new(span, path, message)
                        .suggesting("remove this: later stages come after it anyway"),
                );
            }
        }
    }
}
