//! Applications: what the catalogue has for this variant, their ports, settings, secrets and services.

use super::super::catalogue::keeps;
use super::super::read::did_you_mean;
use super::{Finding, Judge, listed};
use crate::chain::faults::quoted;

/// Characters of a setting's value.
const LONGEST_SETTING: usize = 80;
/// Settings of these names must not carry a value of their own.
const SECRET_WORDS: [&str; 5] = ["password", "passwd", "secret", "token", "private_key"];

impl Judge<'_> {
    pub fn applications(&mut self) {
        let document = self.document();
        for application in &document.applications {
            let at = format!("applications[{}]", application.name);
            let name_at = format!("{at}.name");
            let Some(offer) = self.offer(application) else {
                let known = self.matter.catalogue.applications.keys();
                let finding = Finding::new(format!(
                    "there is no application {}",
                    quoted(&application.name)
                ))
                .expecting(format!("one of {}", listed(known.clone())))
                .maybe(did_you_mean(&application.name, known.map(String::as_str)));
                self.fault(&[&name_at], finding);
                continue;
            };
            let variant = &document.os.variant;
            match offer.versions.get(variant) {
                // Without a known variant there is nothing to compare with, and that has its own fault.
                None if self.variant().is_none() => {}
                None => {
                    let finding =
                        Finding::new(format!("{} cannot be had for {variant}", application.name))
                            .expecting(format!(
                                "a variant that has it: {}",
                                listed(offer.versions.keys())
                            ));
                    self.fault(&[&name_at, "os.variant"], finding);
                }
                Some(version) => {
                    if let Some(bound) = application
                        .version
                        .as_ref()
                        .filter(|bound| !keeps(version, bound))
                    {
                        let finding = Finding::new(format!(
                            "{variant} has {} {version}, which is not `{bound}`",
                            application.name
                        ))
                        .suggesting(format!("write `>= {version}`, or leave the version out"));
                        self.fault(&[&format!("{at}.version"), "os.variant", &name_at], finding);
                    }
                }
            }
            self.settings(&at, &application.settings, &offer.settings);
            self.ports(&name_at, &application.name, &offer.ports);
        }
        self.services();
        self.unused_secrets();
    }

    fn settings(
        &mut self,
        at: &str,
        settings: &std::collections::BTreeMap<String, String>,
        known: &std::collections::BTreeMap<String, String>,
    ) {
        for (key, value) in settings {
            let at = format!("{at}.settings.{key}");
            match known.get(key) {
                None => {
                    let finding = Finding::new(format!("there is no setting {}", quoted(key)))
                        .expecting(format!("one of {}", listed(known.keys())))
                        .maybe(did_you_mean(key, known.keys().map(String::as_str)));
                    self.fault(&[&at], finding);
                }
                Some(more) => {
                    let is_fine = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
                    if value.is_empty()
                        || value.len() > LONGEST_SETTING
                        || !value.chars().all(is_fine)
                    {
                        let finding = Finding::new(format!("{} cannot be a {key}", quoted(value)));
                        self.fault(
                            &[&at],
                            finding.expecting(format!(
                                "letters, digits and `{more}`, at most {LONGEST_SETTING}"
                            )),
                        );
                    }
                }
            }
            match value.strip_prefix("secret:") {
                Some(name) => {
                    let secrets = &self.document().security.secrets;
                    if !secrets.iter().any(|secret| secret.name == name) {
                        let finding = Finding::new(format!("there is no secret {}", quoted(name)))
                            .suggesting("name it under `security.secrets`, with `ref:` for where it is kept");
                        self.fault(&[&at], finding);
                    }
                }
                None if SECRET_WORDS.iter().any(|word| key.contains(word)) => {
                    let finding = Finding::new(format!("{} is a secret in plain text", quoted(key)))
                        .suggesting("keep it in a store, name it under `security.secrets`, and write `secret:NAME` here");
                    self.fault(&[&at], finding);
                }
                None => {}
            }
        }
    }

    fn ports(&mut self, at: &str, application: &str, ports: &[String]) {
        let firewall = &self.document().security.firewall;
        for needed in ports {
            let open = firewall
                .allow
                .iter()
                .any(|allow| format!("{}/{}", allow.port, allow.proto) == *needed);
            let number = needed.split('/').next().unwrap_or_default();
            let by_rule = firewall.rules.iter().any(|rule| {
                rule.contains("dport")
                    && rule
                        .split(|c: char| !c.is_ascii_digit())
                        .any(|figures| figures == number)
            });
            if !open && !by_rule {
                let proto = needed.split('/').nth(1).unwrap_or("tcp");
                let finding = Finding::new(format!(
                    "{application} listens on {needed}, which the firewall keeps closed"
                ))
                .suggesting(format!(
                    "open it: `security.firewall.allow: [{{ port: {number}, proto: {proto} }}]`"
                ));
                self.warn(&[at, "security.firewall.allow"], finding);
            }
        }
    }

    /// Services that are expected to run and that nothing brings.
    fn services(&mut self) {
        let document = self.document();
        let Some(variant) = self.variant() else {
            return;
        };
        let mut there: Vec<&String> = variant.services.iter().collect();
        for application in &document.applications {
            there.extend(
                self.offer(application)
                    .into_iter()
                    .flat_map(|offer| &offer.services),
            );
        }
        for (index, service) in document.expected.services.iter().enumerate() {
            if !there.contains(&service) {
                let finding = Finding::new(format!(
                    "nothing here brings the service {}",
                    quoted(service)
                ))
                .expecting(format!("one of {}", listed(there.iter().copied())))
                .maybe(did_you_mean(
                    service,
                    there.iter().map(|name| name.as_str()),
                ));
                self.warn(
                    &[&format!("expected.services[{index}]"), "expected.services"],
                    finding,
                );
            }
        }
    }

    fn unused_secrets(&mut self) {
        let document = self.document();
        for secret in &document.security.secrets {
            let wanted = format!("secret:{}", secret.name);
            let used = document
                .applications
                .iter()
                .any(|application| application.settings.values().any(|value| *value == wanted));
            if !used {
                let at = format!("security.secrets[{}]", secret.name);
                let finding = Finding::new(format!(
                    "no application uses the secret {}",
                    quoted(&secret.name)
                ));
                self.warn(
                    &[&format!("{at}.name"), &at],
                    finding.suggesting(format!("write `{wanted}` in a setting, or remove it")),
                );
            }
        }
    }
}
