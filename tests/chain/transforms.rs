//! Transforms: JMESPath in process and jq in its cage.

use std::time::{Duration, Instant};

use greenroom::chain::model::Transform;
use greenroom::chain::transform::TransformError;
use serde_json::{Value, json};

async fn select(expression: &str, input: &Value) -> Result<Value, TransformError> {
    Transform::Jmespath {
        expression: expression.into(),
    }
    .apply(input)
    .await
}

async fn jq(expression: &str, input: &Value) -> Result<Value, TransformError> {
    Transform::Jq {
        expression: expression.into(),
    }
    .apply(input)
    .await
}

fn device() -> Value {
    json!({ "device": { "disks": [{ "name": "sda", "gib": 20 }, { "name": "sdb", "gib": 500 }], "id": 12345678901u64 } })
}

#[tokio::test]
async fn jmespath_selects_and_builds() {
    let input = device();
    for (expression, expected) in [
        ("device.disks[?gib > `100`].name", json!(["sdb"])),
        (
            "device.{ id: id, first: disks[0].name }",
            json!({ "id": 12345678901u64, "first": "sda" }),
        ),
        ("length(device.disks)", json!(2)),
        ("device.nothing", Value::Null),
        ("to_array(device.id)", json!([12345678901u64])),
        ("@", input.clone()),
    ] {
        assert_eq!(
            select(expression, &input).await,
            Ok(expected),
            "{expression}"
        );
    }
}

#[tokio::test]
async fn jmespath_mistakes_name_their_place() {
    let error = select("lenght(device)", &device())
        .await
        .expect_err("no such function");
    assert_eq!(error.to_string(), "there is no function `lenght`");
    assert_eq!(error.way_out().as_deref(), Some("did you mean `length`?"));
    assert!(matches!(
        select("device.[", &device()).await,
        Err(TransformError::Expression {
            offset: Some(_),
            ..
        })
    ));
    assert!(matches!(
        select("sort(device)", &device()).await,
        Err(TransformError::Evaluation(_))
    ));
    assert!(matches!(
        select("&device", &device()).await,
        Err(TransformError::Evaluation(_))
    ));
    assert!(matches!(
        select("  ", &device()).await,
        Err(TransformError::Expression { .. })
    ));
}

#[tokio::test]
async fn deep_jmespath_does_not_overflow() {
    let deep = [
        "(".repeat(2000),
        "!".repeat(2000) + "a",
        "a".to_owned() + &"[*]".repeat(600),
        "a".to_owned() + &".a".repeat(1000),
        "[".repeat(1000) + "a" + &"]".repeat(1000),
        "{a:".repeat(500) + "a" + &"}".repeat(500),
        "a|".repeat(1000) + "a",
        "a||".repeat(600) + "a",
        "a".to_owned() + &"[?a".repeat(500) + &"]".repeat(500),
        "not_null(".repeat(200) + "a" + &")".repeat(200),
        "&".repeat(2000) + "a",
    ];
    for expression in deep {
        let _ = select(&expression, &device()).await;
    }
}

#[tokio::test]
async fn what_the_expression_puts_beside_each_element_counts() {
    let many = json!(vec!["x"; 100_000]);
    let text = "t".repeat(1_900);
    for expression in [
        format!("join('', map(&'{text}', @))"),
        format!("join('{text}', @)"),
        format!("[].{{{text}: @}}"),
        format!("join('', [].['{text}'][])"),
    ] {
        let answer = select(&expression, &many).await;
        let Err(TransformError::Limit(_)) = answer else {
            panic!("{} was not refused", &expression[..20]);
        };
        assert!(select(&expression, &json!(["x"])).await.is_ok());
    }
    // A document of ordinary size and density, and an expression as people write them.
    let disks: Vec<Value> = (0..5_000)
        .map(|n| json!({"name": format!("disk-{n}"), "kind": "solid", "gib": n}))
        .collect();
    let expression = format!(
        "{{about: '{text}', disks: [?kind == 'solid'].{{name: name, gib: gib, vendor: 'unknown vendor'}}, names: join(', ', [].name)}}"
    );
    assert!(select(&expression, &json!(disks)).await.is_ok());
}

#[tokio::test]
async fn jmespath_that_multiplies_its_input_is_refused() {
    let doubling = vec!["[@,@]"; 20].join("|");
    let error = select(&doubling, &device()).await.expect_err("a bomb");
    assert!(error.to_string().contains("4,096 times"), "{error}");
    // Below the static limit, it depends on the document.
    let some = ["[@,@]"; 6].join("|");
    assert!(select(&some, &json!("x")).await.is_ok());
    let large = json!("x".repeat(1 << 20));
    assert!(matches!(
        select(&some, &large).await,
        Err(TransformError::Limit(_))
    ));
    assert!(
        matches!(
            select("[@,@,@,@,@]", &large).await,
            Err(TransformError::Limit(_))
        ),
        "5 MiB out"
    );
    // Many different members are not a multiplication.
    let members = (0..60)
        .map(|n| format!("m{n}: m{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    assert!(
        select(
            &format!("{{ {members} }}"),
            &json!({ "m1": "x".repeat(3 << 20) })
        )
        .await
        .is_ok()
    );
}

#[tokio::test]
async fn jq_reshapes() {
    let input = device();
    for (expression, expected) in [
        (
            ".device.disks | map(select(.gib > 100) | .name)",
            json!(["sdb"]),
        ),
        ("-1", json!(-1)),
        ("env", json!({})),
        (".device.include", Value::Null),
        (
            ".device | {\"import\": .id}",
            json!({ "import": 12345678901u64 }),
        ),
    ] {
        assert_eq!(jq(expression, &input).await, Ok(expected), "{expression}");
    }
}

#[tokio::test]
async fn jq_gives_exactly_one_result() {
    for (expression, words) in [
        (".device.disks[]", "several results"),
        ("empty", "no result"),
        (".device.id.x", "Cannot index number"),
    ] {
        let error = jq(expression, &device()).await.expect_err(expression);
        assert!(error.to_string().contains(words), "{expression}: {error}");
    }
    let error = jq(".[", &device()).await.expect_err("syntax");
    assert!(
        matches!(&error, TransformError::Expression { .. }),
        "{error}"
    );
    assert!(
        error.to_string().starts_with("jq says: syntax error"),
        "{error}"
    );
}

#[tokio::test]
async fn jq_reads_no_files() {
    for expression in [
        "import \"x\" as $x; $x",
        "include \"x\"; .",
        "# a comment\r\nimport \"/etc/x\" as $x; .",
        "import\"x\" as $x;.",
    ] {
        assert!(
            matches!(
                jq(expression, &device()).await,
                Err(TransformError::Expression { .. })
            ),
            "{expression}"
        );
    }
}

#[tokio::test]
async fn runaway_jq_is_stopped() {
    let runaways = [
        "def f: f; f",
        "[range(1e12)]",
        "range(1e12)",
        "\"x\" * 1000000000",
        "[limit(3000000; repeat(1))]",
    ];
    let input = device();
    let start = Instant::now();
    let ends = futures::future::join_all(runaways.map(|expression| jq(expression, &input))).await;
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    for (expression, end) in runaways.iter().zip(ends) {
        assert!(
            matches!(end, Err(TransformError::Limit(_))),
            "{expression}: {end:?}"
        );
    }
}
