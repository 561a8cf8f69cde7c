//! The part of W3C WebDriver that the stories need, spoken to chromedriver. Client crates for it make
//! `serde_json` keep the order of keys in every test build, which the program itself is built without.

use std::time::Duration;

use base64::Engine;
use reqwest::Method;
use serde_json::{Value, json};

/// Key of an element's id in answers (W3C WebDriver, "web element identifier").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A session: one browser.
pub struct Driver {
    client: reqwest::Client,
    session: String,
    /// Of the browser itself, which outlives a driver that is killed.
    pub process: Option<i32>,
}

/// Something on the page as it was when it was found.
pub struct Element<'a> {
    driver: &'a Driver,
    id: String,
}

impl Driver {
    /// `server` is such as `http://127.0.0.1:9515`; `wanted` are the capabilities that it must have.
    pub async fn open(server: &str, wanted: Value) -> Self {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(120))
            .no_proxy()
            .build()
            .expect("a client");
        let order = json!({ "capabilities": { "alwaysMatch": wanted } });
        let answer = ask(&client, Method::POST, &format!("{server}/session"), order).await;
        let answer = answer.expect("a session");
        let id = answer["sessionId"].as_str().expect("a session's id");
        Self {
            session: format!("{server}/session/{id}"),
            process: answer["capabilities"]["goog:processID"]
                .as_i64()
                .and_then(|id| i32::try_from(id).ok()),
            client,
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        ask(
            &self.client,
            method,
            &format!("{}{path}", self.session),
            body,
        )
        .await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.ask(Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        self.ask(Method::GET, path, Value::Null).await
    }

    pub async fn quit(&self) -> Result<(), String> {
        self.ask(Method::DELETE, "", Value::Null).await.map(|_| ())
    }

    pub async fn goto(&self, url: &str) -> Result<(), String> {
        self.post("/url", json!({ "url": url })).await.map(|_| ())
    }

    pub async fn url(&self) -> Result<String, String> {
        let url = self.get("/url").await?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// A command of the Chrome DevTools Protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<Value, String> {
        let order = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", order).await
    }

    /// What the page shows, as PNG.
    pub async fn picture(&self) -> Result<Vec<u8>, String> {
        let text = self.get("/screenshot").await?;
        base64::engine::general_purpose::STANDARD
            .decode(text.as_str().unwrap_or_default())
            .map_err(|error| error.to_string())
    }

    /// Runs a function's body in the page; its value.
    pub async fn script(&self, text: &str) -> Result<Value, String> {
        let order = json!({ "script": text, "args": [] });
        self.post("/execute/sync", order).await
    }

    /// The same for one that calls its last argument with the value.
    pub async fn script_that_calls_back(&self, text: &str) -> Result<Value, String> {
        let order = json!({ "script": text, "args": [] });
        self.post("/execute/async", order).await
    }

    /// The words of a box that the page has opened; an error where there is none.
    pub async fn alert(&self) -> Result<String, String> {
        let words = self.get("/alert/text").await?;
        Ok(words.as_str().unwrap_or_default().to_owned())
    }

    pub async fn find(&self, css: &str) -> Result<Element<'_>, String> {
        let order = json!({ "using": "css selector", "value": css });
        let found = self.post("/element", order).await?;
        let id = found[ELEMENT].as_str().ok_or("an element without an id")?;
        Ok(Element {
            driver: self,
            id: id.to_owned(),
        })
    }
}

impl Element<'_> {
    pub async fn click(&self) -> Result<(), String> {
        let path = format!("/element/{}/click", self.id);
        self.driver.post(&path, json!({})).await.map(|_| ())
    }

    pub async fn send_keys(&self, text: &str) -> Result<(), String> {
        let path = format!("/element/{}/value", self.id);
        self.driver
            .post(&path, json!({ "text": text }))
            .await
            .map(|_| ())
    }
}

async fn ask(
    client: &reqwest::Client,
    method: Method,
    url: &str,
    body: Value,
) -> Result<Value, String> {
    let mut request = client.request(method, url);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let is_good = answer.status().is_success();
    let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
    let value = answer["value"].take();
    if is_good {
        Ok(value)
    } else {
        Err(format!("{}: {}", value["error"], value["message"]))
    }
}
