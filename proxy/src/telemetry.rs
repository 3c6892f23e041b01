//! What an operator debugs with: diagnostics on standard error, apart from the audit log.

use std::io;

use tracing_subscriber::EnvFilter;

/// Warnings and worse, unless `SLUICEGATE_TRACE` asks for more (`debug`, or `sluicegate::flow=trace`).
pub fn start() {
    let filter = EnvFilter::builder()
        .with_env_var("SLUICEGATE_TRACE")
        .with_default_directive(tracing_subscriber::filter::LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
}
