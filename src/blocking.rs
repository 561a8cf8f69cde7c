//! The one way to do blocking work from async code: keeps the tracing span, passes panics on.

/// Runs `work` on tokio's pool for blocking work. Work that may block for long without a limit of its
/// own (libvirt calls) does not belong here but behind `hypervisor::libvirt`'s bridge.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The same for work on what strangers wrote: a panic is an error that says so.
pub async fn attempt<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    spawn(work).await.map_err(|error| error.to_string())
}

fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
}
