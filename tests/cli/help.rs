//! Help texts, so that a change of them is seen by whoever reviews it.

use crate::command::greenroom;

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let commands: &[&[&str]] = &[
        &[],
        &["serve"],
        &["doctor"],
        &["status"],
        &["chain", "check"],
        &["chain", "apply"],
        &["chain", "show"],
        &["device", "add"],
        &["persona", "check"],
        &["persona", "apply"],
        &["persona", "show"],
        &["persona", "history"],
        &["persona", "diff"],
        &["persona", "promote"],
        &["persona", "rollback"],
        &["persona", "preview"],
        &["persona", "assign"],
        &["persona", "unassign"],
        &["persona", "why"],
        &["persona", "rules", "apply"],
        &["persona", "rules", "list"],
        &["run", "start"],
        &["run", "list"],
        &["run", "show"],
        &["run", "watch"],
        &["run", "logs"],
        &["run", "abort"],
        &["run", "retry"],
        &["run", "replay"],
        &["image", "build"],
        &["token", "create"],
        &["user", "create"],
        &["audit", "list"],
        &["audit", "verify"],
        &["webhook", "add"],
        &["template", "build"],
        &["template", "list"],
        &["template", "show"],
        &["template", "verify"],
        &["template", "retire"],
        &["pool", "list"],
        &["pool", "show"],
        &["pool", "set"],
        &["pool", "top"],
        &["claim"],
        &["claim", "list"],
        &["release"],
    ];
    let mut all = String::new();
    for path in commands {
        let mut arguments = path.to_vec();
        arguments.push("--help");
        let said = greenroom(folder.path(), &arguments).exits(0);
        assert!(
            path.is_empty() || said.out.contains("Examples:"),
            "{path:?} has no examples"
        );
        // The options of every command are shown once.
        let own = match said.out.split_once("\nGlobal options:") {
            Some((own, rest)) if !path.is_empty() => {
                let after = rest.find("\nExamples:").map_or("", |at| &rest[at..]);
                format!("{own}\n{after}")
            }
            _ => said.out,
        };
        all.push_str(&format!("=== greenroom {}\n{own}\n", path.join(" ")));
    }
    insta::assert_snapshot!("help", all);
}
