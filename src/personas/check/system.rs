//! The operating system facet and what of preferences depends on it.

use super::super::read::did_you_mean;
use super::{Finding, Judge, listed};
use crate::chain::faults::quoted;

impl Judge<'_> {
    pub fn system(&mut self) {
        let os = &self.document().os;
        self.time_zone();
        let Some(variant) = self.variant() else {
            let names = self.matter.catalogue.variants.keys();
            let message = format!("there is no variant {}", quoted(&os.variant));
            let finding = Finding::new(message)
                .expecting(format!("one of {}", listed(names.clone())))
                .maybe(did_you_mean(&os.variant, names.map(String::as_str)));
            return self.fault(&["os.variant"], finding);
        };
        let preferences = &self.document().preferences;
        let shells: Vec<String> = variant.shells.keys().cloned().collect();
        for (at, what, value, known) in [
            ("os.arch", "architecture", &os.arch, &variant.arch),
            ("os.locale", "locale", &os.locale, &variant.locales),
            (
                "os.keyboard",
                "keyboard layout",
                &os.keyboard,
                &variant.keyboards,
            ),
            (
                "preferences.desktop",
                "desktop",
                &preferences.desktop,
                &variant.desktops,
            ),
            (
                "preferences.editor",
                "editor",
                &preferences.editor,
                &variant.editors,
            ),
            ("preferences.shell", "shell", &preferences.shell, &shells),
        ] {
            if known.contains(value) {
                continue;
            }
            let message = format!("{} has no {what} {}", os.variant, quoted(value));
            let finding = Finding::new(message)
                .expecting(format!("one of {}", listed(known)))
                .maybe(did_you_mean(value, known.iter().map(String::as_str)));
            self.fault(&[at], finding);
        }
    }

    fn time_zone(&mut self) {
        let zone = &self.document().os.timezone;
        let names = zones();
        if names.is_empty() {
            let finding = Finding::new(format!(
                "whether there is a time zone {} was not checked: this host has no list of them",
                quoted(zone)
            ));
            return self.warn(&["os.timezone"], finding.suggesting("install tzdata"));
        }
        if !names.contains(zone) {
            let city = zone.rsplit('/').next().unwrap_or_default().to_lowercase();
            let same = names.iter().find(|name| {
                name.rsplit('/')
                    .next()
                    .is_some_and(|last| last.to_lowercase() == city)
            });
            let near = match same {
                Some(name) => Some(format!("did you mean `{name}`?")),
                None => did_you_mean(zone, names.iter().map(String::as_str)),
            };
            let finding = Finding::new(format!("there is no time zone {}", quoted(zone)))
                .expecting("a name of the tz database, such as `Europe/Berlin`")
                .maybe(near);
            self.fault(&["os.timezone"], finding);
        }
    }
}

/// The names of the tz database that this host has.
fn zones() -> Vec<String> {
    jiff::tz::db()
        .available()
        .map(|name| name.as_str().to_owned())
        .collect()
}
