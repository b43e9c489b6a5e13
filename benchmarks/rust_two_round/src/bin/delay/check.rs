//! How exact the delay is here: round trips of a few bytes over loopback, with and without it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{fd::AsFd, unix::net::UnixStream},
    thread,
    time::Instant,
};

use crate::proxy::{Delay, Proxy};

const PING_BYTES: usize = 64;

/// Medians and tails, in milliseconds; `added` is what the proxy puts on top of the direct median.
pub fn report(delay: Delay, round_trips: u32) -> io::Result<serde_json::Value> {
    let echo = TcpListener::bind("127.0.0.1:0")?;
    let direct = echo.local_addr()?;
    let entrance = TcpListener::bind("127.0.0.1:0")?;
    let delayed = entrance.local_addr()?;
    let (stop, stopped) = UnixStream::pair()?;
    let echoing = thread::spawn(move || serve_echo(&echo, 2));
    let passing = thread::spawn(move || {
        let proxy = Proxy::new(delay, vec![(entrance, direct)])?;
        proxy.ends_with(stopped.as_fd())?;
        proxy.run()
    });
    let without = round_trip_ms(direct, round_trips)?;
    let with = round_trip_ms(delayed, round_trips)?;
    drop(stop);
    for each in [echoing, passing] {
        each.join()
            .map_err(|_| io::Error::other("a thread panicked"))??;
    }
    let direct_p50 = at(&without, 0.5);
    let added = |share| (at(&with, share) - direct_p50) * 1000.0;
    Ok(serde_json::json!({
        "rtt_ms": delay.one_way.as_secs_f64() * 2000.0,
        "round_trips": round_trips,
        "direct_ms": {"p50": direct_p50, "p99": at(&without, 0.99)},
        "delayed_ms": {"p50": at(&with, 0.5), "p99": at(&with, 0.99)},
        "added_ms": {"p50": added(0.5).round() / 1000.0, "p99": added(0.99).round() / 1000.0},
    }))
}

fn serve_echo(listener: &TcpListener, connections: usize) -> io::Result<()> {
    for _ in 0..connections {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut buffer = [0; PING_BYTES];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&buffer)?;
        }
    }
    Ok(())
}

/// Round trips one after the other, ascending.
fn round_trip_ms(to: SocketAddr, round_trips: u32) -> io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    let mut buffer = [7; PING_BYTES];
    let mut times = Vec::new();
    for _ in 0..round_trips.max(1) {
        let began = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// To three digits.
fn at(sorted: &[f64], share: f64) -> f64 {
    let place = (share * (sorted.len() - 1) as f64).round() as usize;
    (sorted[place] * 1000.0).round() / 1000.0
}
