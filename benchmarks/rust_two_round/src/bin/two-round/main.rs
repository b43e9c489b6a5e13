//! The plain two-round coordinator: `POST /sign` on a Unix socket, and for each
//! signature one call for commitments and one for shares to every signer of the
//! quorum. No stock, no batches; otherwise as good as the author could make it.

mod encoding;
mod group;
mod metrics;
mod problem;
mod server;
mod session;
mod signer;
mod token;
mod wire;

use std::{error::Error, fs, path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use tokio::{
    net::UnixListener,
    runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    group::Group,
    metrics::Metrics,
    session::Coordinator,
    signer::{Address, Signers},
    token::Secret,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A plain two-round FROST(Ed25519) coordinator on a Unix socket.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Unix socket to serve /sign, /healthz and /metrics on
    #[arg(long)]
    socket: PathBuf,
    /// Public side of the group, as `frost-sidecar keygen` writes it
    #[arg(long)]
    group: PathBuf,
    /// Name that signers know the key by
    #[arg(long, default_value = "default")]
    key_name: String,
    /// Client certificate chain, PEM
    #[arg(long)]
    cert: PathBuf,
    /// Its private key, PEM
    #[arg(long)]
    key: PathBuf,
    /// The only authority that vouches for signers, PEM
    #[arg(long)]
    ca: PathBuf,
    /// File with the base64 of the secret that tokens are signed with
    #[arg(long)]
    hs256_b64_file: PathBuf,
    /// `iss` of tokens
    #[arg(long, default_value = "frost-coord")]
    issuer: String,
    /// `sub` of tokens
    #[arg(long)]
    subject: String,
    /// One signer, `ID=URL=SERVER_NAME=AUDIENCE`; once for each
    #[arg(long = "signer", required = true)]
    signers: Vec<Address>,
    /// How many signers make a signature
    #[arg(long)]
    min_signers: u16,
    /// Calls that may be under way to one signer; a signer closes what is over its own bound
    #[arg(long, default_value_t = 128)]
    calls_per_signer: usize,
    /// How long one signature may take
    #[arg(long, default_value_t = 5.0)]
    budget_seconds: f64,
    /// Worker threads; by default one for each processor
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let group = Group::load(&arguments.group, arguments.min_signers)?;
    for signer in &arguments.signers {
        group.check_member(signer.identifier)?;
    }
    let secret = Secret::load(&arguments.hs256_b64_file)?;
    let signers = Signers::new(
        &arguments.signers,
        &signer::TlsFiles {
            cert: &arguments.cert,
            key: &arguments.key,
            ca: &arguments.ca,
        },
        &secret,
        &token::Party {
            issuer: &arguments.issuer,
            subject: &arguments.subject,
        },
        arguments.calls_per_signer,
    )?;
    let coordinator = Coordinator::new(
        group,
        arguments.key_name,
        signers,
        std::time::Duration::try_from_secs_f64(arguments.budget_seconds)?,
        Metrics::new()?,
    )?;
    let mut builder = runtime::Builder::new_multi_thread();
    if let Some(threads) = arguments.threads {
        builder.worker_threads(threads.max(1));
    }
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        match fs::remove_file(&arguments.socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&arguments.socket)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        println!("{}", serde_json::json!({"socket": arguments.socket}));
        tokio::select! {
            served = axum::serve(listener, server::router(Arc::new(coordinator))) => served?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        fs::remove_file(&arguments.socket)?;
        Ok(())
    })
}
