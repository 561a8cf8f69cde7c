//! The page of foresight draws weeks of demand, of stages with what was said of them, and of models.

use greenroom::vocab::access::Role;

use crate::ground::Ground;
use crate::sample::HOSTILE_LINE;
use crate::weeks::lived;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_foreseen_is_drawn_and_before_that_it_says_what_is_missing() {
    let ground = Ground::new().await;
    let token = ground.token(Role::Viewer, None).await;
    let page = async |path: &str| {
        let ask = ground
            .ask(axum::http::Method::GET, path)
            .header("accept", "text/html");
        let reply = ask.token(&token).send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    };
    let empty = page("/foresight").await;
    assert_eq!(empty.matches("<svg class=\"plot\"").count(), 0, "{empty}");
    assert!(empty.matches("class=\"empty\"").count() >= 4, "{empty}");
    lived(&ground.running, HOSTILE_LINE).await;
    let whole = page("/foresight").await;
    assert!(whole.len() < 150_000, "{} bytes", whole.len());
    for drawn in [
        "Requests per hour for tiny:1x128, expected and come",
        "Machines of tiny:1x128 that waited, and requests",
        "Percent off by day of stage install of chain onboard",
        "How often promises were kept",
    ] {
        assert!(
            whole.contains(&format!("aria-label=\"{drawn}\"")),
            "{drawn}: {whole}"
        );
    }
    assert!(whole.contains("<polygon"), "bands");
    assert!(
        whole.contains("of memory</div>") && whole.contains("of tries in vain"),
        "{whole}"
    );
    assert!(whole.contains("it does not beat the plain rule"), "{whole}");
    let saved = page("/foresight?class=tiny:1x128&saved=yes").await;
    assert!(saved.contains("of waiting people saved a week"), "{saved}");
    let kiosk = page("/foresight?persona=kiosk").await;
    let drawn = "aria-label=\"Requests per hour for kiosk, expected and come\"";
    assert!(kiosk.contains(drawn), "{kiosk}");
    for persona in ["kiosk", "desk"] {
        let link = format!("href=\"/foresight?persona={persona}#personas\"");
        assert!(whole.contains(&link), "{link}: {whole}");
    }
    for nobody in ["class=none:1x64", "persona=nobody"] {
        let path = format!("/foresight?{nobody}");
        let none = ground.ask(axum::http::Method::GET, &path).token(&token);
        assert_eq!(none.send().await.status, 404, "{nobody}");
    }
    // The command line has the same numbers from the same place.
    let record = ground.local.prediction_record().await.unwrap();
    assert_eq!(record.saved.tries, 7 * 6 * 3, "{:?}", record.saved);
    assert!(
        record
            .days
            .iter()
            .any(|day| day.stage == "install" && day.by_model == 6)
    );
    let personas = ground.local.persona_forecast_list(None).await.unwrap();
    let names: Vec<&str> = personas.iter().map(|one| one.name()).collect();
    assert_eq!(names, ["desk", "kiosk"]);
    let of_class = ground.local.forecast_show("tiny", None).await.unwrap();
    for (hour, of_class) in of_class.steps.iter().enumerate() {
        let sum: f64 = personas.iter().map(|one| one.steps[hour].median).sum();
        assert!((sum - of_class.median).abs() < 1e-6, "{sum} {of_class:?}");
    }
    let compared = ground
        .local
        .persona_forecast_compare("kiosk", None, 48, 3600)
        .await
        .unwrap();
    assert!(compared.judged >= 40, "{compared:?}");
    let levels = ground.local.forecast_levels("tiny", 24).await.unwrap();
    assert!(levels.steps.len() >= 12 * 22, "{}", levels.steps.len());
    assert!(
        levels
            .steps
            .iter()
            .any(|step| step.wanted.is_some() && step.cold > 0)
    );
}
