//! The library on a database.

use greenroom::personas::compile::Source;
use greenroom::personas::library::{self, Act, Applied, LibraryError, Mode, Wanted};
use greenroom::store::{Store, devices, personas as rows};
use greenroom::vocab::persona::Subject;
use greenroom::vocab::{Device, DeviceId, Timestamp};
use serde_json::json;

struct Place {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Place {
    async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("db"))
            .await
            .expect("a database");
        Self {
            _folder: folder,
            store,
        }
    }

    async fn apply(&self, mode: Mode, texts: &[&str]) -> Vec<Applied> {
        let sources = texts
            .iter()
            .map(|text| Source {
                file: String::new(),
                text: (*text).to_owned(),
            })
            .collect();
        library::apply(&self.store, sources, mode, act(10))
            .await
            .expect("an answer")
    }

    async fn device(&self, facts: serde_json::Value) -> Device {
        let device = Device {
            id: DeviceId::fresh(),
            name: "box".into(),
            client: "c".into(),
            facts: facts.as_object().expect("facts").clone(),
            added_at: Timestamp(0),
        };
        self.store
            .write(move |connection| {
                Box::pin(async move { devices::device_put(connection, &device).await })
            })
            .await
            .expect("a device")
    }
}

fn act(at: i64) -> Act {
    Act {
        by: "anna".into(),
        reason: "because".into(),
        now: Timestamp(at),
    }
}

fn numbers(applied: &[Applied]) -> Vec<(i64, bool)> {
    applied
        .iter()
        .map(|one| (one.version.as_ref().expect("good").version, one.is_new))
        .collect()
}

fn zone(zone: &str) -> String {
    format!("# about {zone}\npersona: p\nos: {{ timezone: {zone} }}\n")
}

/// Migrations are numbered by whoever writes them first, and not merged in that order.
#[tokio::test]
async fn a_migration_may_come_after_one_with_a_higher_number() {
    use sqlx::Connection as _;
    let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:")
        .await
        .expect("a database");
    let all = sqlx::migrate!("src/store/migrations");
    let mut late = sqlx::migrate::Migrator::DEFAULT;
    late.migrations = all
        .iter()
        .filter(|one| one.version == 4)
        .cloned()
        .collect::<Vec<_>>()
        .into();
    late.run(&mut connection).await.expect("the fourth alone");
    all.run(&mut connection).await.expect("the others after it");
    all.run(&mut connection).await.expect("and again");
}

#[tokio::test]
async fn only_a_change_of_meaning_makes_a_version_and_texts_come_back_as_they_were() {
    let place = Place::open().await;
    assert_eq!(
        numbers(&place.apply(Mode::Store, &[&zone("UTC")]).await),
        [(1, true)]
    );
    assert_eq!(
        numbers(&place.apply(Mode::Store, &["persona: p\n"]).await),
        [(1, false)]
    );
    let dry = place.apply(Mode::DryRun, &[&zone("Europe/Rome")]).await;
    assert_eq!(numbers(&dry), [(2, true)]);
    assert!(
        dry[0].difference.contains("+  timezone: Europe/Rome"),
        "{}",
        dry[0].difference
    );
    assert_eq!(
        numbers(&place.apply(Mode::Store, &[&zone("Europe/Rome")]).await),
        [(2, true)]
    );
    let mut connection = place.store.read().await.expect("a connection");
    let stored = rows::version_list(&mut connection, "p")
        .await
        .expect("versions");
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].source, zone("Europe/Rome"));
    assert_eq!(stored[1].source, zone("UTC"));
    assert_eq!(
        (stored[0].applied_by.as_str(), stored[0].reason.as_str()),
        ("anna", "because")
    );
}

#[tokio::test]
async fn of_a_batch_with_a_fault_nothing_is_stored() {
    let place = Place::open().await;
    let applied = place
        .apply(
            Mode::StoreAndPromote,
            &["persona: good\n", "persona: bad\nos: { variant: x }\n"],
        )
        .await;
    assert!(applied[0].faults.is_none() && applied[1].faults.is_some());
    let mut connection = place.store.read().await.expect("a connection");
    assert!(
        rows::persona_list(&mut connection)
            .await
            .expect("a list")
            .is_empty()
    );
}

#[tokio::test]
async fn drafts_are_promoted_and_rolled_back_one_by_one() {
    let place = Place::open().await;
    for name in ["UTC", "Europe/Rome", "Europe/Oslo"] {
        place.apply(Mode::Store, &[&zone(name)]).await;
    }
    let current = || async {
        let mut connection = place.store.read().await.expect("a connection");
        rows::current_get(&mut connection, "p")
            .await
            .expect("an answer")
    };
    assert_eq!(current().await, None);
    let refused = library::roll_back(&place.store, "p", None, act(20))
        .await
        .expect_err("nothing is current");
    assert!(matches!(refused, LibraryError::Refused(_)), "{refused}");
    for version in [1, 2, 3] {
        library::promote(&place.store, "p", Some(version), act(20 + version))
            .await
            .expect("promoted");
    }
    for expected in [2, 1] {
        let back = library::roll_back(&place.store, "p", None, act(30))
            .await
            .expect("rolled back");
        assert_eq!(back.version, expected);
        assert_eq!(current().await, Some(expected));
    }
    library::roll_back(&place.store, "p", None, act(31))
        .await
        .expect_err("nothing was before");
    library::roll_back(&place.store, "p", Some(3), act(32))
        .await
        .expect("by number");
    assert_eq!(current().await, Some(3));
    library::promote(&place.store, "p", Some(9), act(33))
        .await
        .expect_err("no such version");
    let mut connection = place.store.read().await.expect("a connection");
    let moves = rows::move_list(&mut connection, "p").await.expect("moves");
    let words: Vec<(&str, i64)> = moves
        .iter()
        .map(|moved| (moved.what.as_str(), moved.version))
        .collect();
    assert_eq!(
        words[..3],
        [("rolled back", 3), ("rolled back", 1), ("rolled back", 2)]
    );
    assert_eq!(moves.len(), 9);
}

#[tokio::test]
async fn a_child_pins_its_parents_version_and_changes_when_it_is_applied_again() {
    let place = Place::open().await;
    let child = "persona: child\nparent: p\n";
    place
        .apply(Mode::StoreAndPromote, &[&zone("UTC"), child])
        .await;
    place
        .apply(Mode::StoreAndPromote, &[&zone("Europe/Rome")])
        .await;
    let mut connection = place.store.read().await.expect("a connection");
    let stored = library::find(&mut connection, "child", None)
        .await
        .expect("a child");
    assert_eq!(stored.compiled.document.os.timezone, "UTC");
    assert_eq!(stored.compiled.lineage[0].to_string(), "p@1");
    assert_eq!(
        numbers(&place.apply(Mode::Store, &[child]).await),
        [(2, true)]
    );
    let newer = library::find(&mut connection, "child", Some(2))
        .await
        .expect("a child");
    assert_eq!(newer.compiled.origins["os.timezone"], "p@2");
    // The other way round is a circle, although the two never meet in one version.
    let applied = place
        .apply(Mode::Store, &["persona: p\nparent: child\n"])
        .await;
    let faults = applied[0].faults.as_ref().expect("a fault");
    assert!(
        faults.faults[0].message.contains("p → child → p"),
        "{faults}"
    );
}

#[tokio::test]
async fn a_run_gets_what_is_current_and_refuses_what_is_unclear() {
    let place = Place::open().await;
    place
        .apply(Mode::Store, &[&zone("UTC"), "persona: q\n"])
        .await;
    let device = place.device(json!({ "role": "web", "serial": "X1" })).await;
    let for_run = |at: i64| {
        let (store, device) = (place.store.clone(), device.clone());
        async move {
            let mut connection = store.read().await.expect("a connection");
            library::for_run(&mut connection, &device, None, Timestamp(at)).await
        }
    };
    assert!(for_run(50).await.expect("an answer").is_none());
    let assign = |subject: Subject, persona: &str, until: Option<i64>| {
        let wanted = Wanted {
            subject,
            persona: persona.parse().expect("a persona"),
            precedence: 0,
            until: until.map(Timestamp),
        };
        let store = place.store.clone();
        async move { library::assign(&store, wanted, act(40)).await }
    };
    assign(Subject::Device("box".into()), "nobody", None)
        .await
        .expect_err("no such persona");
    assign(Subject::Device("box".into()), "p@7", None)
        .await
        .expect_err("no such version");
    assign(Subject::Device("box".into()), "p", Some(40))
        .await
        .expect_err("over before it begins");
    let first = assign(Subject::Role("web".into()), "p", None)
        .await
        .expect("assigned");
    let refused = for_run(50).await.expect_err("a draft");
    assert!(
        refused.to_string().contains("persona promote p"),
        "{refused}"
    );
    library::promote(&place.store, "p", None, act(41))
        .await
        .expect("promoted");
    let given = for_run(50).await.expect("an answer").expect("a persona");
    assert_eq!((given.pinned.name.as_str(), given.pinned.version), ("p", 1));
    assert!(
        given.pinned.reason.contains("role web"),
        "{}",
        given.pinned.reason
    );
    assert_eq!(given.document["resolved"]["hostname"], "box");
    assert_eq!(given.document["os"]["timezone"], "UTC");
    let second = assign(Subject::Role("web".into()), "q@1", Some(60))
        .await
        .expect("assigned");
    let refused = for_run(50).await.expect_err("a conflict");
    assert!(refused.to_string().contains("persona why box"), "{refused}");
    assert_eq!(
        for_run(61)
            .await
            .expect("an answer")
            .expect("a persona")
            .pinned
            .name,
        "p"
    );
    library::unassign(&place.store, second.id, act(51))
        .await
        .expect("ended");
    library::unassign(&place.store, second.id, act(52))
        .await
        .expect_err("ended already");
    library::unassign(&place.store, first.id, act(53))
        .await
        .expect("ended");
    assert!(for_run(54).await.expect("an answer").is_none());
}

#[tokio::test]
async fn rules_are_versions_too_and_name_personas_that_exist() {
    let place = Place::open().await;
    place.apply(Mode::StoreAndPromote, &["persona: p\n"]).await;
    let apply = |text: &str| {
        let (store, text) = (place.store.clone(), text.to_owned());
        async move {
            library::apply_rules(&store, text, Mode::Store, act(20))
                .await
                .expect("an answer")
        }
    };
    let text = "persona_rules: [{ name: all, when: device.role == 'web', persona: p }]\n";
    let (first, is_new) = apply(text).await.expect("good");
    assert_eq!((first.version, is_new), (1, true));
    let (again, is_new) = apply(&format!("# again\n{text}")).await.expect("good");
    assert_eq!((again.version, is_new), (1, false));
    let faults = apply("persona_rules: []\ndefault: nobody\n")
        .await
        .expect_err("no such persona");
    assert!(
        faults.to_string().contains("there is no persona `nobody`"),
        "{faults}"
    );
    let device = place.device(json!({ "role": "web" })).await;
    let mut connection = place.store.read().await.expect("a connection");
    let chosen = library::choose_for(&mut connection, &device, None, Timestamp(30))
        .await
        .expect("an answer");
    assert_eq!(chosen.version.expect("a persona").name(), "p");
    assert_eq!(chosen.choice.reason, "rule all");
}
