//! Users: that somebody can log in and administer the device.

use super::super::read::did_you_mean;
use super::{Finding, Judge, listed};
use crate::chain::faults::quoted;

impl Judge<'_> {
    pub fn people(&mut self) {
        let users = &self.document().preferences.users;
        for user in users {
            let at = format!("preferences.users[{}]", user.name);
            let name_at = format!("{at}.name");
            // Keys that were refused have had their faults.
            let is_written = self.matter.places.get(&format!("{at}.keys[0]")).is_some();
            if user.keys.is_empty() && !is_written {
                let finding = Finding::new(format!(
                    "{} has no key and could never log in",
                    quoted(&user.name)
                ));
                self.fault(
                    &[&name_at],
                    finding.suggesting("give one: `keys: [ssh-ed25519 AAAA… name@host]`"),
                );
            }
            let Some(variant) = self.variant() else {
                continue;
            };
            for (index, group) in user.groups.iter().enumerate() {
                if !variant.groups.contains(group) {
                    let finding = Finding::new(format!("there is no group {}", quoted(group)))
                        .expecting(format!("one of {}", listed(&variant.groups)))
                        .maybe(did_you_mean(
                            group,
                            variant.groups.iter().map(String::as_str),
                        ));
                    self.fault(&[&format!("{at}.groups[{index}]"), &name_at], finding);
                }
            }
            if let Some(shell) = user
                .shell
                .as_ref()
                .filter(|shell| !variant.shells.contains_key(*shell))
            {
                let finding = Finding::new(format!("there is no shell {}", quoted(shell)))
                    .expecting(format!("one of {}", listed(variant.shells.keys())));
                self.fault(&[&format!("{at}.shell"), &name_at], finding);
            }
        }
        for (index, user) in users.iter().enumerate() {
            let shared = users[..index]
                .iter()
                .find(|other| user.keys.iter().any(|key| has_key(other, key)));
            if let Some(other) = shared {
                let finding = Finding::new(format!(
                    "{} and {} have the same key",
                    quoted(&user.name),
                    quoted(&other.name)
                ));
                self.warn(
                    &[&format!("preferences.users[{}].keys", user.name)],
                    finding.suggesting("a key for each, so that logs tell who it was"),
                );
            }
        }
        if !users.is_empty() && !users.iter().any(|user| user.sudo && !user.keys.is_empty()) {
            let finding =
                Finding::new("nobody could administer the device: no user has both sudo and a key");
            self.warn(
                &["preferences.users"],
                finding.suggesting("give one of them `sudo: true`"),
            );
        }
    }
}

fn has_key(user: &crate::vocab::persona::User, key: &str) -> bool {
    let blob = |key: &str| key.split(' ').nth(1).map(str::to_owned);
    user.keys.iter().any(|theirs| blob(theirs) == blob(key))
}
