//! A closed loop of `POST /sign` requests on a Unix socket: as many connections as
//! requests in flight, one thread, as little work per request as will do.

mod exchange;
mod plan;
mod tally;

use std::{
    cell::RefCell,
    error::Error,
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::Parser;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use tokio::{
    net::UnixStream,
    task::LocalSet,
    time::{sleep, timeout},
};

use crate::{
    exchange::{NO_CONNECTION, ask},
    plan::Plan,
    tally::Tally,
};

/// Ask for signatures in a closed loop and say how fast they come.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Unix socket of the coordinator
    #[arg(long)]
    socket: PathBuf,
    /// Requests in flight, each on a connection of its own
    #[arg(long)]
    in_flight: usize,
    /// For how long to measure, after the warm-up
    #[arg(long)]
    seconds: f64,
    /// For how long to ask before anything counts
    #[arg(long, default_value_t = 0.0)]
    warm_up: f64,
    /// End after so many measured requests, if that is earlier
    #[arg(long)]
    requests: Option<u64>,
    /// Length of each message; no two are alike
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    message_bytes: u32,
    /// The group's public key, base64; then every signature is verified under it
    #[arg(long)]
    verify: Option<String>,
    /// Verify one in so many signatures [default: 1 with --verify, else 50, under the key that the answer names]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    verify_every: Option<u64>,
    /// Signers that may take part, as in 1,2
    #[arg(long, value_delimiter = ',')]
    participants: Vec<u16>,
    /// How long one request may take
    #[arg(long, default_value_t = 15.0)]
    timeout: f64,
}

/// After a connection that could not be opened, so that a dead server costs no busy loop.
const AGAIN: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok((report, true)) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Ok((report, false)) => {
            println!("{report}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments) -> Result<(serde_json::Value, bool), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let plan = Rc::new(Plan::new(&arguments)?);
        let tally = Rc::new(RefCell::new(Tally::new()?));
        let tasks: Vec<_> = (0..arguments.in_flight)
            .map(|_| tokio::task::spawn_local(worker(Rc::clone(&plan), Rc::clone(&tally))))
            .collect();
        sleep(plan.begin.saturating_duration_since(Instant::now())).await;
        let cpu = cpu_seconds()?;
        for task in tasks {
            task.await?;
        }
        let tally = tally.borrow();
        let cpu = cpu_seconds()? - cpu;
        Ok((tally.report(&plan, cpu), tally.wrong == 0))
    })
}

fn cpu_seconds() -> Result<f64, nix::Error> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let spent = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(spent as f64 / 1e6)
}

async fn worker(plan: Rc<Plan>, tally: Rc<RefCell<Tally>>) {
    let mut message = vec![b'#'; plan.message_bytes];
    message[..8].copy_from_slice(&plan.run.to_le_bytes());
    let mut request = Vec::with_capacity(plan.before.len() + plan.message_bytes * 2);
    let mut text = String::new();
    let mut answer = Vec::with_capacity(4096);
    let mut connection: Option<UnixStream> = None;
    loop {
        let begun = Instant::now();
        let measured = begun >= plan.begin;
        {
            let mut tally = tally.borrow_mut();
            let enough = plan.requests.is_some_and(|most| tally.begun >= most);
            if begun >= plan.end || enough {
                return;
            }
            tally.asked += 1;
            tally.begun += u64::from(measured);
            message[8..16].copy_from_slice(&tally.asked.to_le_bytes());
        }
        request.clear();
        request.extend_from_slice(&plan.before);
        text.clear();
        BASE64_STANDARD.encode_string(&message, &mut text);
        request.extend_from_slice(text.as_bytes());
        request.extend_from_slice(&plan.after);
        let asked = ask(&plan, &mut connection, &request, &mut answer);
        let reply = timeout(plan.timeout, asked)
            .await
            .unwrap_or_else(|_| Err("timeout".into()));
        let done = Instant::now();
        let unreachable = reply.as_ref().is_err_and(|kind| kind == NO_CONNECTION);
        if reply.as_ref().map_or(true, |reply| reply.close) {
            connection = None;
        }
        tally
            .borrow_mut()
            .count(&plan, begun, done, &message, &answer, reply);
        if unreachable {
            sleep(AGAIN).await;
        }
    }
}
