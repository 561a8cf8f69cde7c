//! The tables of keys: everything that a persona file may say.

mod links;

pub use links::port_key;
use links::{NETWORK, SECURITY};

use serde_json::Value;

use super::keys;
use super::shape::{Field, Shape, by_name, text_of};
use super::words as w;

use Shape::{AtLeast, Count, Fields, Flag, List, Named, Scalar, Seconds, SizeMib, Table, Text};

/// The facets, and what is beside them in a layer.
pub static LAYER: Shape = Fields(&[
    Field::may(
        "labels",
        Table {
            key: &w::LABEL,
            value: &LABEL,
            most: 64,
        },
    ),
    Field::may("os", Fields(OS)),
    Field::may(
        "applications",
        Named {
            what: "application",
            key: by_name,
            fields: APPLICATION,
            most: 256,
        },
    ),
    Field::may("security", Fields(SECURITY)),
    Field::may("network", Fields(NETWORK)),
    Field::may("preferences", Fields(PREFERENCES)),
    Field::may("resources", Fields(RESOURCES)),
    Field::may("expected", Fields(EXPECTED)),
]);

static LABEL: Shape = Text(&w::LABEL_VALUE);
static SETTING: Shape = Scalar(&w::SETTING_VALUE);
static SYSCTL: Shape = Scalar(&w::SYSCTL_VALUE);

const OS: &[Field] = &[
    Field::may("variant", Text(&w::NAME)),
    Field::may("arch", Text(&w::NAME)),
    Field::may(
        "cmdline",
        List {
            of: &w::KERNEL_WORD,
            most: 32,
        },
    ),
    Field::may("locale", Text(&w::LOCALE)),
    Field::may("timezone", Text(&w::TIMEZONE)),
    Field::may("keyboard", Text(&w::NAME)),
    Field::may("cloud_init", Flag),
];

const APPLICATION: &[Field] = &[
    Field::need("name", "the application's name", Text(&w::PACKAGE)),
    Field::may("version", Text(&w::CONSTRAINT)),
    Field::may(
        "settings",
        Table {
            key: &w::SETTING,
            value: &SETTING,
            most: 64,
        },
    ),
];

const PREFERENCES: &[Field] = &[
    Field::may("desktop", Text(&w::NAME)),
    Field::may("shell", Text(&w::NAME)),
    Field::may("editor", Text(&w::NAME)),
    Field::may("motd", Text(&w::PROSE)),
    Field::may(
        "users",
        Named {
            what: "user",
            key: by_name,
            fields: USER,
            most: 32,
        },
    ),
];

const USER: &[Field] = &[
    Field::need("name", "the user's name", Text(&w::USER_NAME)),
    Field::may("sudo", Flag),
    Field::may(
        "groups",
        List {
            of: &w::GROUP_NAME,
            most: 32,
        },
    ),
    Field::may("shell", Text(&w::NAME)),
    Field::may(
        "keys",
        List {
            of: &keys::SSH_KEY,
            most: 32,
        },
    ),
];

const RESOURCES: &[Field] = &[
    Field::may(
        "vcpus",
        AtLeast(&[
            Field::may(
                "min",
                Count {
                    least: 1,
                    most: 4096,
                },
            ),
            Field::may(
                "max",
                Count {
                    least: 1,
                    most: 4096,
                },
            ),
        ]),
    ),
    Field::may("memory", AtLeast(SIZES)).named("memory_mib"),
    Field::may("disk", AtLeast(SIZES)).named("disk_mib"),
    Field::may(
        "partitions",
        Named {
            what: "partition",
            key: by_mount,
            fields: PARTITION,
            most: 16,
        },
    ),
];

/// 1 MiB to 16 PiB.
const SIZES: &[Field] = &[
    Field::may(
        "min",
        SizeMib {
            least: 1,
            most: 1 << 34,
        },
    ),
    Field::may(
        "max",
        SizeMib {
            least: 1,
            most: 1 << 34,
        },
    ),
];

fn by_mount(value: &Value) -> String {
    text_of(value, "mount")
}

const PARTITION: &[Field] = &[
    Field::need(
        "mount",
        "the folder it appears at, such as `/srv/data`",
        Text(&w::MOUNT),
    ),
    Field::need(
        "size",
        "the size it starts with, such as `1 GiB`",
        SizeMib {
            least: 32,
            most: 1 << 34,
        },
    )
    .named("size_mib"),
];

const EXPECTED: &[Field] = &[
    Field::may(
        "boot",
        Seconds {
            least: 0.1,
            most: 3600.0,
        },
    )
    .named("boot_s"),
    Field::may(
        "idle_memory",
        SizeMib {
            least: 1,
            most: 1 << 34,
        },
    )
    .named("idle_memory_mib"),
    Field::may(
        "services",
        List {
            of: &w::UNIT,
            most: 256,
        },
    ),
];

/// The lists and tables that `remove:` can take something from: its word for them, and their place.
pub const REMOVABLE: &[(&str, &[&str])] = &[
    ("labels", &["labels"]),
    ("applications", &["applications"]),
    ("allow", &["security", "firewall", "allow"]),
    ("sysctl", &["security", "sysctl"]),
    ("secrets", &["security", "secrets"]),
    ("interfaces", &["network", "interfaces"]),
    ("bonds", &["network", "bonds"]),
    ("users", &["preferences", "users"]),
    ("partitions", &["resources", "partitions"]),
];
