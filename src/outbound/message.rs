//! What a webhook is sent: a CloudEvent, signed. Pure.
//!
//! CloudEvents 1.0.2, JSON format, structured mode. Signed as Standard Webhooks does: HMAC-SHA256 over
//! `id.timestamp.body` with the webhook's key, in the headers `webhook-id`, `webhook-timestamp` (seconds)
//! and `webhook-signature` (`v1,` and base64). A receiver refuses timestamps that are far from its clock,
//! so that a recorded message cannot be played again later.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::access::secret::Secret;
use crate::store::pages::EventOfClient;
use crate::vocab::{Deployment, Timestamp};

pub const MEDIA_TYPE: &str = "application/cloudevents+json";
const SECRET_PREFIX: &str = "whsec_";

/// A key for signatures: `whsec_` and the base64 of 32 random bytes.
pub fn fresh_key() -> Secret {
    let bytes: [u8; 32] = rand::random();
    Secret::of(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)))
}

/// What an event says, as the event stream says it too.
pub fn data(told: &EventOfClient) -> Value {
    let event = &told.event;
    json!({
        "id": event.id,
        "at": rfc3339(event.at),
        "kind": event.kind,
        "message": event.message,
        "run": event.run.0,
        "chain": told.chain,
        "device": told.device,
        "client": told.client,
    })
}

/// The message about an event. `id` is the same for each try, and with it a receiver can drop doubles.
pub fn of_event(deployment: Deployment, id: &str, told: &EventOfClient) -> String {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("urn:uuid:{deployment}"),
        "type": format!("greenroom.run.{}", told.event.kind),
        "subject": format!("runs/{}", told.event.run),
        "time": rfc3339(told.event.at),
        "datacontenttype": "application/json",
        "data": data(told),
    })
    .to_string()
}

/// A message that only shows that messages arrive.
pub fn of_test(deployment: Deployment, id: &str, now: Timestamp) -> String {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": format!("urn:uuid:{deployment}"),
        "type": "greenroom.webhook.test",
        "time": rfc3339(now),
        "datacontenttype": "application/json",
        "data": { "message": "this is a test" },
    })
    .to_string()
}

/// The headers that go with a message that is sent now.
pub fn headers(key: &Secret, id: &str, now: Timestamp, body: &str) -> Vec<(&'static str, String)> {
    let seconds = now.0.div_euclid(1_000_000);
    let text = key.reveal();
    let encoded = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(&bytes).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

fn rfc3339(at: Timestamp) -> String {
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::events::Event;
    use crate::vocab::RunId;

    #[test]
    fn the_signature_is_that_of_the_standard_webhooks_example() {
        // From the specification's reference test (standardwebhooks.com, libraries/python/tests).
        let key = Secret::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let now = Timestamp(1_614_265_330 * 1_000_000);
        let headers = headers(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            now,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(headers[1].1, "1614265330");
        assert_eq!(
            headers[2].1,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_message_is_a_cloudevent() {
        let told = EventOfClient {
            event: Event {
                id: 7,
                run: RunId(3),
                at: Timestamp(1_700_000_000_000_000),
                kind: "run_succeeded".into(),
                message: "done".into(),
            },
            client: "lab".into(),
            chain: "hello".into(),
            device: "box".into(),
        };
        let text = of_event(Deployment::fresh(), "m1", &told);
        let message: Value = serde_json::from_str(&text).unwrap();
        for required in ["specversion", "id", "source", "type"] {
            assert!(
                !message[required].as_str().unwrap().is_empty(),
                "{required}"
            );
        }
        assert_eq!(message["type"], "greenroom.run.run_succeeded");
        assert_eq!(message["time"], "2023-11-14T22:13:20.000Z");
        assert_eq!(message["data"]["device"], "box");
    }
}
