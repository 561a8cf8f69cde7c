//! The chains that are put through it. Their stages count how often they were executed, on the
//! guest's own disk and on the handoff disk, and say so in their log and in their document.

use crate::checker::{Expected, Try};

/// Two stages, the first with the handoff disk. `{sleep}` seconds pass in each.
pub fn marks(sleep_s: u32) -> String {
    format!(
        r#"
chain: marks
handoff_disk: {{ size: 4 MiB }}
stages:
  - name: one
    kind: custom
    image: tiny
    resources: {{ vcpus: 1, memory: 128 MiB, disk: 64 MiB }}
    handoff_disk: true
    deadline: 2m
    run: |
      set -eu
      echo x >> /tmp/marks
      times=$(wc -l < /tmp/marks | tr -d ' ')
      before=$(head -c 16 "$GREENROOM_HANDOFF_DISK" | tr -d '\000')
      printf '%sA' "$before" > "$GREENROOM_HANDOFF_DISK"
      echo "one begins: time $times, disk <$before>"
      sleep {sleep_s}
      printf '{{"times": %d, "disk": "%s"}}' "$times" "$before" > "$GREENROOM_OUTPUT"
      echo "one ends"
    output: {{ format: json, merge: /one }}
  - name: two
    kind: custom
    image: tiny
    resources: {{ vcpus: 1, memory: 128 MiB, disk: 64 MiB }}
    deadline: 2m
    run: |
      set -eu
      echo x >> /tmp/marks
      times=$(wc -l < /tmp/marks | tr -d ' ')
      echo "two begins: time $times"
      sleep {sleep_s}
      printf '{{"times": %d}}' "$times" > "$GREENROOM_OUTPUT"
      echo "two ends"
    output: {{ format: json, merge: /two }}
"#
    )
}

/// What a run of [`marks`] comes to when `tries` machines were used up at its first stage.
pub fn marks_done(run: i64, tries: usize) -> Expected {
    let mut log = vec!["one begins: time 1, disk <>"; tries];
    log.extend(["one ends", "two begins: time 1", "two ends"]);
    Expected {
        run,
        state: "succeeded",
        tries: vec![Try::work("one", tries), Try::work("two", 1)],
        log: Some(log.into_iter().map(str::to_owned).collect()),
        document: vec![
            ("/one/times", 1.into()),
            ("/one/disk", "".into()),
            ("/two/times", 1.into()),
        ],
    }
}

/// The second stage fails both times, so the first takes back what it did.
pub fn undone() -> String {
    r#"
chain: undone
handoff_disk: { size: 4 MiB }
on_failure: { hold: 1h }
stages:
  - name: one
    kind: custom
    image: tiny
    resources: { vcpus: 1, memory: 128 MiB, disk: 64 MiB }
    handoff_disk: true
    deadline: 2m
    run: |
      set -eu
      echo x >> /tmp/marks
      printf A > "$GREENROOM_HANDOFF_DISK"
      echo "one: time $(wc -l < /tmp/marks | tr -d ' ')"
    undo:
      run: |
        set -eu
        echo x >> /tmp/marks
        echo "undo: time $(wc -l < /tmp/marks | tr -d ' '), disk <$(head -c 1 "$GREENROOM_HANDOFF_DISK")>"
    output: none
  - name: two
    kind: custom
    image: tiny
    resources: { vcpus: 1, memory: 128 MiB, disk: 64 MiB }
    deadline: 2m
    run: |
      echo "two: try $GREENROOM_ATTEMPT"
      exit 3
    output: none
    retry:
      - { on: exit, attempts: 2, backoff: { first: 1s, factor: 1, max: 1s } }
"#
    .to_owned()
}

pub fn undone_done(run: i64) -> Expected {
    let log = [
        "one: time 1",
        "two: try 1",
        "two: try 2",
        "undo: time 1, disk <A>",
    ];
    Expected {
        run,
        state: "failed",
        tries: vec![
            Try::work("one", 1),
            Try::work("two", 2),
            Try::undo("one", 1),
        ],
        log: Some(log.map(str::to_owned).to_vec()),
        document: vec![],
    }
}

/// One stage on image `tiny` with this script; `more` are further keys of the stage.
pub fn single(name: &str, script: &str, more: &str) -> String {
    let indented: String = script
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "chain: {name}\nstages:\n  - name: only\n    kind: custom\n    image: tiny\n    resources: {{ vcpus: 1, memory: 128 MiB, disk: 64 MiB }}\n    run: |\n{indented}{more}"
    )
}
