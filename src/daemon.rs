//! Stub.
pub async fn serve(config: crate::config::Config) -> anyhow::Result<()> {
    let _ = config;
    anyhow::bail!("the daemon is not wired yet")
}
