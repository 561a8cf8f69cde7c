//! The client: typed requests over the daemon's Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{Stream, StreamExt};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::boot::{
    BootEventView, BootView, ChangeBoot, CreateBootCode, CreatedBootCode, ExplainBoot,
    ExplainedBoot,
};
use super::personas::{
    AppliedPersona, ApplyPersonas, ApplyRules, AssignPersona, AssignmentView, EndAssignment,
    MovePersona, PersonaDifference, PersonaHistory, PersonaPreview, PersonaSummary, PersonaView,
    PersonaWhy, PreviewPersona, RulesView,
};
use super::telemetry::TelemetryView;
use super::{
    AbortRun, AppliedChainView, ApplyChain, BuildTemplate, ChainSummary, ChainView, ClaimView,
    ConsoleView, DeviceView, HoldRun, ImageView, LogPiece, PREFIX, Page, PoolDetail,
    PoolStatusView, PoolView, Problem, PutDevice, ReplayRun, RetryRun, RunOutput, RunSummary,
    RunView, SetPool, StartRun, StartedRun, StatusView, TakeClaim, TakenView, TemplateDetail,
    TemplateView, VersionView, WatchUpdate,
};
use crate::vocab::telemetry::Metric;

mod administration;
mod demand;
mod learned;
mod power;

/// Longest wait for the head of an answer. Requests to a run's driver wait for a write to disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for a claim, beside its command's time: room on the host is waited for, and a fork that
/// has to be made on demand may be that of a slow guest.
const CLAIM_PATIENCE: Duration = Duration::from_secs(300);
/// The same for reading a template's files: 10 GiB at 20 MiB/s.
const VERIFY_PATIENCE: Duration = Duration::from_secs(600);
/// Longest line of a stream: a log piece is at most a few hundred KiB.
const MAX_LINE_BYTES: usize = 16 << 20;

#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

/// Why a request was not answered as hoped. What a caller chooses by is the variant.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The request is not what the daemon expects.
    #[error("{}", .0.detail)]
    Mistake(Problem),
    #[error("{}", .0.detail)]
    NotFound(Problem),
    /// It does not fit the present state of things.
    #[error("{}", .0.detail)]
    Conflict(Problem),
    /// The document has faults, all of them listed.
    #[error("{}", with_faults(.0))]
    Invalid(Problem),
    /// The daemon failed, or waits for the world around it.
    #[error("the daemon failed: {}", .0.detail)]
    Server(Problem),
    #[error("the daemon does not answer at {socket}: {why}")]
    Unreachable { socket: String, why: String },
    #[error("the daemon did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection ended in the middle of an answer.
    #[error("the connection to the daemon broke: {0}")]
    Broken(String),
    /// An answer that this program does not understand.
    #[error("the daemon's answer is not understood: {0}")]
    Foreign(String),
}

fn with_faults(problem: &Problem) -> String {
    let mut text = problem.detail.clone();
    for fault in &problem.errors {
        text.push_str(&format!("\n  {fault}"));
    }
    text
}

impl Client {
    /// A client of the daemon at this socket. Connects with the first request.
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .unix_socket(socket.to_owned())
            .no_proxy()
            .user_agent(concat!("greenroom/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Broken(causes(&error)))?;
        Ok(Self {
            http,
            socket: socket.to_owned(),
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub async fn version(&self) -> Result<VersionView, ClientError> {
        self.get("/version", &[]).await
    }

    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.get("/status", &[]).await
    }

    pub async fn chain_list(&self) -> Result<Vec<ChainSummary>, ClientError> {
        self.all("/chains", &[]).await
    }

    pub async fn chain_show(
        &self,
        name: &str,
        version: Option<i64>,
    ) -> Result<ChainView, ClientError> {
        let version = version.map(|version| ("version", version.to_string()));
        self.get(&format!("/chains/{}", segment(name)), version.as_slice())
            .await
    }

    pub async fn chain_apply(&self, order: &ApplyChain) -> Result<AppliedChainView, ClientError> {
        self.post("/chains", order).await
    }

    /// A dry run answers with faults, a real one refuses them.
    pub async fn persona_apply(
        &self,
        order: &ApplyPersonas,
    ) -> Result<Vec<AppliedPersona>, ClientError> {
        self.post("/personas", order).await
    }

    pub async fn persona_list(&self) -> Result<Vec<PersonaSummary>, ClientError> {
        self.all("/personas", &[]).await
    }

    pub async fn persona_show(
        &self,
        name: &str,
        version: Option<i64>,
    ) -> Result<PersonaView, ClientError> {
        let version = version.map(|version| ("version", version.to_string()));
        self.get(&format!("/personas/{}", segment(name)), version.as_slice())
            .await
    }

    pub async fn persona_history(&self, name: &str) -> Result<PersonaHistory, ClientError> {
        self.get(&format!("/personas/{}/history", segment(name)), &[])
            .await
    }

    pub async fn persona_diff(
        &self,
        name: &str,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<PersonaDifference, ClientError> {
        let mut query = Vec::new();
        query.extend(from.map(|from| ("from", from.to_string())));
        query.extend(to.map(|to| ("to", to.to_string())));
        self.get(&format!("/personas/{}/diff", segment(name)), &query)
            .await
    }

    pub async fn persona_promote(
        &self,
        name: &str,
        order: &MovePersona,
    ) -> Result<PersonaView, ClientError> {
        self.post(&format!("/personas/{}/promote", segment(name)), order)
            .await
    }

    pub async fn persona_roll_back(
        &self,
        name: &str,
        order: &MovePersona,
    ) -> Result<PersonaView, ClientError> {
        self.post(&format!("/personas/{}/rollback", segment(name)), order)
            .await
    }

    pub async fn persona_preview(
        &self,
        order: &PreviewPersona,
    ) -> Result<PersonaPreview, ClientError> {
        self.post("/persona-previews", order).await
    }

    pub async fn persona_assign(
        &self,
        order: &AssignPersona,
    ) -> Result<AssignmentView, ClientError> {
        self.post("/persona-assignments", order).await
    }

    pub async fn persona_unassign(
        &self,
        id: i64,
        order: &EndAssignment,
    ) -> Result<AssignmentView, ClientError> {
        self.post(&format!("/persona-assignments/{id}/end"), order)
            .await
    }

    pub async fn persona_assignments(&self) -> Result<Vec<AssignmentView>, ClientError> {
        self.all("/persona-assignments", &[]).await
    }

    pub async fn persona_why(&self, device: &str) -> Result<PersonaWhy, ClientError> {
        self.get(&format!("/devices/{}/persona", segment(device)), &[])
            .await
    }

    pub async fn persona_rules(&self, version: Option<i64>) -> Result<RulesView, ClientError> {
        let version = version.map(|version| ("version", version.to_string()));
        self.get("/persona-rules", version.as_slice()).await
    }

    pub async fn persona_rules_apply(&self, order: &ApplyRules) -> Result<RulesView, ClientError> {
        self.post("/persona-rules", order).await
    }

    pub async fn device_list(&self) -> Result<Vec<DeviceView>, ClientError> {
        self.all("/devices", &[]).await
    }

    pub async fn device_show(&self, name: &str) -> Result<DeviceView, ClientError> {
        self.get(&format!("/devices/{}", segment(name)), &[]).await
    }

    pub async fn device_put(&self, order: &PutDevice) -> Result<DeviceView, ClientError> {
        self.post("/devices", order).await
    }

    pub async fn image_list(&self) -> Result<Vec<ImageView>, ClientError> {
        self.get("/images", &[]).await
    }

    pub async fn pool_list(&self) -> Result<Vec<PoolView>, ClientError> {
        self.all("/pools", &[]).await
    }

    /// By class, or by an image of which there is one class.
    pub async fn pool_show(&self, which: &str) -> Result<PoolDetail, ClientError> {
        self.get(&format!("/pools/{}", segment(which)), &[]).await
    }

    pub async fn pool_set(&self, order: &SetPool) -> Result<PoolDetail, ClientError> {
        let request = self.request(Method::PUT, "/pools", &[]).json(order);
        self.read(self.send(request).await?).await
    }

    pub async fn pool_status(&self) -> Result<PoolStatusView, ClientError> {
        self.get("/pool/status", &[]).await
    }

    /// Newest first.
    pub async fn template_list(&self, all: bool) -> Result<Vec<TemplateView>, ClientError> {
        let all = all.then(|| ("all", "1".to_owned()));
        self.all("/templates", all.as_slice()).await
    }

    /// By id, the beginning of one, or a class: its newest.
    pub async fn template_show(&self, which: &str) -> Result<TemplateDetail, ClientError> {
        self.get(&format!("/templates/{}", segment(which)), &[])
            .await
    }

    /// The one that is begun, or is there already. Does not wait for it.
    pub async fn template_build(&self, order: &BuildTemplate) -> Result<TemplateView, ClientError> {
        self.post("/templates", order).await
    }

    /// Reads all its files, which takes as long as the disk takes.
    pub async fn template_verify(&self, which: &str) -> Result<TemplateView, ClientError> {
        let path = format!("/templates/{}/verify", segment(which));
        let request = self.request(Method::POST, &path, &[]);
        let request = request.json(&serde_json::json!({}));
        self.read(self.send_within(request, VERIFY_PATIENCE).await?)
            .await
    }

    pub async fn template_retire(&self, which: &str) -> Result<TemplateView, ClientError> {
        let path = format!("/templates/{}/retire", segment(which));
        self.post(&path, &serde_json::json!({})).await
    }

    /// Claims that are not released, oldest first.
    pub async fn claim_list(&self) -> Result<Vec<ClaimView>, ClientError> {
        self.all("/claims", &[]).await
    }

    /// Takes a machine and runs the order's command in it: one request.
    pub async fn claim_take(&self, order: &TakeClaim) -> Result<TakenView, ClientError> {
        let exec_s = order.exec.as_ref().map_or(0, |exec| {
            exec.deadline_s.unwrap_or(super::claims::DEFAULT_EXEC_S)
        });
        let patience = CLAIM_PATIENCE + Duration::from_secs(exec_s);
        let request = self.request(Method::POST, "/claims", &[]).json(order);
        self.read(self.send_within(request, patience).await?).await
    }

    /// Returns when the machine is gone.
    pub async fn claim_release(&self, key: &str) -> Result<(), ClientError> {
        let path = format!("/claims/{}", segment(key));
        let request = self.request(Method::DELETE, &path, &[]);
        self.send(request).await.map(|_| ())
    }

    pub async fn run_start(&self, order: &StartRun) -> Result<StartedRun, ClientError> {
        self.post("/runs", order).await
    }

    /// Newest first.
    pub async fn run_list(
        &self,
        state: Option<&str>,
        device: Option<&str>,
        limit: u32,
        below: Option<i64>,
    ) -> Result<Vec<RunSummary>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(state.map(|state| ("state", state.to_owned())));
        query.extend(device.map(|device| ("device", device.to_owned())));
        query.extend(below.map(|below| ("below", below.to_string())));
        let page: Page<RunSummary> = self.get("/runs", &query).await?;
        Ok(page.items)
    }

    pub async fn run_show(&self, id: i64, journal: bool) -> Result<RunView, ClientError> {
        let query = [("journal", "1".to_owned())];
        self.get(&format!("/runs/{id}"), if journal { &query } else { &[] })
            .await
    }

    pub async fn run_abort(&self, id: i64, order: &AbortRun) -> Result<RunSummary, ClientError> {
        self.post(&format!("/runs/{id}/abort"), order).await
    }

    pub async fn run_hold(&self, id: i64, order: &HoldRun) -> Result<RunSummary, ClientError> {
        self.post(&format!("/runs/{id}/hold"), order).await
    }

    pub async fn run_resume(&self, id: i64) -> Result<RunSummary, ClientError> {
        self.post(&format!("/runs/{id}/resume"), &serde_json::json!({}))
            .await
    }

    pub async fn run_retry(&self, id: i64, order: &RetryRun) -> Result<RunSummary, ClientError> {
        self.post(&format!("/runs/{id}/retry"), order).await
    }

    pub async fn run_console(&self, id: i64) -> Result<Vec<ConsoleView>, ClientError> {
        self.get(&format!("/runs/{id}/console"), &[]).await
    }

    pub async fn run_output(&self, id: i64) -> Result<RunOutput, ClientError> {
        self.get(&format!("/runs/{id}/output"), &[]).await
    }

    /// The bytes of a binary output.
    pub async fn run_artefact(&self, id: i64, stage: &str) -> Result<Vec<u8>, ClientError> {
        let request = self.request(Method::GET, &format!("/runs/{id}/artefacts/{stage}"), &[]);
        self.bytes(self.send(request).await?).await
    }

    pub async fn run_discard(&self, id: i64) -> Result<RunSummary, ClientError> {
        self.post(&format!("/runs/{id}/discard"), &serde_json::json!({}))
            .await
    }

    /// The new run.
    pub async fn run_replay(&self, id: i64, order: &ReplayRun) -> Result<RunSummary, ClientError> {
        self.post(&format!("/runs/{id}/replay"), order).await
    }

    pub async fn run_watch(
        &self,
        id: i64,
    ) -> Result<impl Stream<Item = Result<WatchUpdate, ClientError>> + use<>, ClientError> {
        self.stream(&format!("/runs/{id}/watch"), &[]).await
    }

    pub async fn run_logs(
        &self,
        id: i64,
        follow: bool,
        stage: Option<&str>,
    ) -> Result<impl Stream<Item = Result<LogPiece, ClientError>> + use<>, ClientError> {
        let mut query = Vec::new();
        query.extend(follow.then(|| ("follow", "1".to_owned())));
        query.extend(stage.map(|stage| ("stage", stage.to_owned())));
        self.stream(&format!("/runs/{id}/logs"), &query).await
    }

    /// A whole list, page by page.
    async fn all<T: DeserializeOwned>(
        &self,
        path: &str,
        which: &[(&str, String)],
    ) -> Result<Vec<T>, ClientError> {
        let mut items = Vec::new();
        let mut query = which.to_vec();
        query.push(("limit", "1000".to_owned()));
        let without_cursor = query.len();
        loop {
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            let Some(next) = page.next else {
                return Ok(items);
            };
            query.truncate(without_cursor);
            query.push(("cursor", next));
        }
    }

    pub async fn boot_list(&self) -> Result<Vec<BootView>, ClientError> {
        self.all("/boot/devices", &[]).await
    }

    pub async fn boot_show(&self, device: &str) -> Result<BootView, ClientError> {
        self.get(&format!("/devices/{}/boot", segment(device)), &[])
            .await
    }

    pub async fn boot_change(
        &self,
        device: &str,
        order: &ChangeBoot,
    ) -> Result<BootView, ClientError> {
        self.post(&format!("/devices/{}/boot", segment(device)), order)
            .await
    }

    pub async fn boot_forget(&self, device: &str) -> Result<(), ClientError> {
        let path = format!("/devices/{}/boot", segment(device));
        let request = self.request(Method::DELETE, &path, &[]);
        self.send(request).await.map(|_| ())
    }

    pub async fn boot_code_create(
        &self,
        order: &CreateBootCode,
    ) -> Result<CreatedBootCode, ClientError> {
        self.post("/boot/codes", order).await
    }

    pub async fn boot_events(
        &self,
        device: Option<&str>,
        after: i64,
    ) -> Result<Vec<BootEventView>, ClientError> {
        let mut query = vec![("after", after.to_string())];
        query.extend(device.map(|device| ("device", device.to_owned())));
        self.all("/boot/events", &query).await
    }

    /// What a device measured in the last `span_s` seconds.
    pub async fn device_telemetry(
        &self,
        device: &str,
        span_s: u64,
        metric: Option<Metric>,
        step: Option<&str>,
    ) -> Result<TelemetryView, ClientError> {
        let mut query = vec![("span_s", span_s.to_string())];
        query.extend(metric.map(|metric| ("metric", metric.word().to_owned())));
        query.extend(step.map(|step| ("step", step.to_owned())));
        self.get(&format!("/devices/{}/telemetry", segment(device)), &query)
            .await
    }

    pub async fn boot_explain(
        &self,
        mac: &str,
        order: &ExplainBoot,
    ) -> Result<Vec<ExplainedBoot>, ClientError> {
        self.post(&format!("/boot/explain/{}", segment(mac)), order)
            .await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path, query);
        self.read(self.send(request).await?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.request(Method::POST, path, &[]).json(body);
        self.read(self.send(request).await?).await
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let mut url = format!("http://greenroom{PREFIX}{path}");
        for (index, (key, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(&format!("{key}={}", segment(value)));
        }
        self.http.request(method, url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        self.send_within(request, PATIENCE).await
    }

    async fn send_within(
        &self,
        request: RequestBuilder,
        patience: Duration,
    ) -> Result<Response, ClientError> {
        let answer = tokio::time::timeout(patience, request.send())
            .await
            .map_err(|_| ClientError::TimedOut(patience))?;
        let response = answer.map_err(|error| {
            if error.is_connect() {
                ClientError::Unreachable {
                    socket: self.socket.display().to_string(),
                    why: causes(&error),
                }
            } else {
                ClientError::Broken(causes(&error))
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    async fn bytes(&self, response: Response) -> Result<Vec<u8>, ClientError> {
        let bytes = tokio::time::timeout(PATIENCE, response.bytes())
            .await
            .map_err(|_| ClientError::TimedOut(PATIENCE))?
            .map_err(|error| ClientError::Broken(causes(&error)))?;
        Ok(bytes.to_vec())
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let bytes = self.bytes(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Foreign(error.to_string()))
    }

    /// The documents of an NDJSON answer, each as soon as its line has ended.
    async fn stream<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<impl Stream<Item = Result<T, ClientError>> + use<T>, ClientError> {
        let request = self.request(Method::GET, path, query);
        let response = self.send(request).await?;
        Ok(lines(response.bytes_stream().boxed()).map(|line| {
            serde_json::from_slice(&line?).map_err(|error| ClientError::Foreign(error.to_string()))
        }))
    }
}

/// Cuts a stream of bytes into lines, without their ends; empty lines are left out.
fn lines<B, S>(bytes: S) -> impl Stream<Item = Result<Vec<u8>, ClientError>>
where
    B: AsRef<[u8]>,
    S: Stream<Item = Result<B, reqwest::Error>> + Unpin,
{
    futures::stream::try_unfold((bytes, Vec::new()), |(mut bytes, mut rest)| async move {
        let mut searched = 0;
        loop {
            let end = rest[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| searched + end) {
                let after = rest.split_off(end + 1);
                rest.pop();
                let line = std::mem::replace(&mut rest, after);
                searched = 0;
                if line.is_empty() {
                    continue;
                }
                return Ok(Some((line, (bytes, rest))));
            }
            searched = rest.len();
            if rest.len() > MAX_LINE_BYTES {
                return Err(ClientError::Foreign("a line without an end".into()));
            }
            match bytes.next().await {
                Some(Ok(more)) => rest.extend_from_slice(more.as_ref()),
                Some(Err(error)) => return Err(ClientError::Broken(causes(&error))),
                None if rest.is_empty() => return Ok(None),
                None => return Err(ClientError::Broken("it ended within a line".into())),
            }
        }
    })
}

async fn refusal(response: Response) -> ClientError {
    let status = response.status();
    let bytes = response.bytes().await.unwrap_or_default();
    let problem: Problem = match serde_json::from_slice(&bytes) {
        Ok(problem) => problem,
        Err(_) => {
            let text: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            return ClientError::Foreign(format!("status {status}: {text}"));
        }
    };
    match status {
        StatusCode::NOT_FOUND => ClientError::NotFound(problem),
        StatusCode::CONFLICT
        | StatusCode::PRECONDITION_FAILED
        | StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN => ClientError::Conflict(problem),
        StatusCode::UNPROCESSABLE_ENTITY => ClientError::Invalid(problem),
        status if status.is_client_error() => ClientError::Mistake(problem),
        _ => ClientError::Server(problem),
    }
}

/// An error's innermost cause: the outer ones only say that a request failed.
fn causes(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Text as one segment of a path or one value of a query: everything but RFC 3986's unreserved
/// characters is percent-encoded.
fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cut(chunks: &[&str]) -> Vec<Result<String, String>> {
        let chunks: Vec<Result<Vec<u8>, reqwest::Error>> = chunks
            .iter()
            .map(|chunk| Ok(chunk.as_bytes().to_vec()))
            .collect();
        lines(futures::stream::iter(chunks))
            .map(|line| match line {
                Ok(line) => Ok(String::from_utf8(line).unwrap()),
                Err(error) => Err(error.to_string()),
            })
            .collect()
            .await
    }

    #[tokio::test]
    async fn lines_come_whole_however_they_were_sent() {
        let found = cut(&["{\"a\"", ":1}\n{}", "\n\n[", "]\n"]).await;
        assert_eq!(
            found,
            [
                Ok("{\"a\":1}".to_owned()),
                Ok("{}".to_owned()),
                Ok("[]".to_owned())
            ]
        );
    }

    #[tokio::test]
    async fn a_line_without_its_end_is_an_error() {
        let found = cut(&["{}\n{"]).await;
        assert_eq!(found[0], Ok("{}".to_owned()));
        assert!(found[1].is_err());
    }

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(segment("a/../b?c=d&e"), "a%2F..%2Fb%3Fc%3Dd%26e");
    }
}
