//! A TCP proxy that makes loopback as far away as another place: half of a round
//! trip in each direction. For machines whose kernel has no netem.

mod check;
mod connection;
mod proxy;

use std::{
    error::Error,
    net::{SocketAddr, TcpListener},
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

use crate::proxy::{Delay, Proxy};

/// Pass TCP connections on, later.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What a round trip takes longer, in milliseconds
    #[arg(long)]
    rtt_ms: f64,
    /// Where connections go; once for each, and each gets a free port on loopback
    #[arg(long = "to", required_unless_present = "check")]
    to: Vec<SocketAddr>,
    /// How long before its time a chunk is waited for without sleeping, in microseconds
    #[arg(long, default_value_t = 30)]
    spin_us: u32,
    /// Serve nobody: measure so many round trips over loopback, and say how exact the delay is
    #[arg(long, value_name = "ROUND_TRIPS")]
    check: Option<u32>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let delay = Delay {
        one_way: Duration::try_from_secs_f64(arguments.rtt_ms / 2000.0)?,
        spin: Duration::from_micros(arguments.spin_us.into()),
    };
    if let Some(round_trips) = arguments.check {
        println!("{}", check::report(delay, round_trips)?);
        return Ok(());
    }
    let routes = arguments
        .to
        .iter()
        .map(|to| Ok((TcpListener::bind("127.0.0.1:0")?, *to)))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    let proxies = routes
        .iter()
        .map(|(listener, to)| {
            let at = listener.local_addr()?;
            Ok(serde_json::json!({"to": to, "at": at, "port": at.port()}))
        })
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    let (stop, signalled) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, signalled.try_clone()?)?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGINT, signalled)?;
    let stdin = std::io::stdin();
    let proxy = Proxy::new(delay, routes)?;
    proxy.ends_with(stop.as_fd())?;
    // A file or /dev/null never closes and cannot be watched: then only a signal ends us.
    proxy
        .ends_with(stdin.as_fd())
        .or_else(|error| match error {
            rustix::io::Errno::PERM => Ok(()),
            other => Err(other),
        })?;
    println!(
        "{}",
        serde_json::json!({"rtt_ms": arguments.rtt_ms, "proxies": proxies})
    );
    Ok(proxy.run()?)
}
