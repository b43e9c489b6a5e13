//! What the crate's own `aggregate` costs: the floor under every coordinator.

use std::{collections::BTreeMap, error::Error, process::ExitCode, time::Instant};

use clap::Parser;
use frost_ed25519::{
    SigningPackage, aggregate,
    keys::{IdentifierList, KeyPackage, PublicKeyPackage, generate_with_dealer},
    round1::{self, NonceCommitment, SigningCommitments},
    round2::{self, SignatureShare},
};
use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::TimeValLike,
};
use rand_core::OsRng;

/// CPU microseconds of the bare crate's `aggregate`, which verifies the signature; one thread.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Signers that make a signature
    #[arg(long)]
    min: u16,
    /// Signers of the group
    #[arg(long)]
    max: u16,
    /// For how long to measure
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// Different sessions, so that no branch predictor learns one by heart.
const SESSIONS: usize = 64;
/// CPU time of one repetition: well above the clock's steps.
const REPETITION_US: i64 = 50_000;
const MESSAGE_BYTES: usize = 300;

struct Session {
    package: SigningPackage,
    shares: BTreeMap<frost_ed25519::Identifier, SignatureShare>,
    /// Both points of each commitment, as they arrive.
    points: Vec<Vec<u8>>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<serde_json::Value, Box<dyn Error>> {
    let (shares, public) =
        generate_with_dealer(arguments.max, arguments.min, IdentifierList::Default, OsRng)?;
    let keys = shares
        .into_values()
        .map(KeyPackage::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    let sessions = (0..SESSIONS)
        .map(|number| deal(&keys[..usize::from(arguments.min)], number))
        .collect::<Result<Vec<_>, _>>()?;
    for session in &sessions {
        aggregate(&session.package, &session.shares, &public)?;
    }
    let aggregates = measure(arguments.seconds, &sessions, |session| {
        aggregate(&session.package, &session.shares, &public).map(drop)
    })?;
    // What any coordinator does besides: every point is decoded and checked once.
    let decodes = measure(arguments.seconds / 4.0, &sessions, |session| {
        session.points.chunks(2).try_for_each(decode)
    })?;
    Ok(report(arguments, &public, &aggregates, &decodes))
}

fn decode(points: &[Vec<u8>]) -> Result<(), frost_ed25519::Error> {
    let [hiding, binding] = points else {
        return Ok(());
    };
    let hiding = NonceCommitment::deserialize(hiding)?;
    let binding = NonceCommitment::deserialize(binding)?;
    std::hint::black_box(SigningCommitments::new(hiding, binding));
    Ok(())
}

fn deal(keys: &[KeyPackage], number: usize) -> Result<Session, frost_ed25519::Error> {
    let mut nonces = Vec::new();
    let mut commitments = BTreeMap::new();
    let mut points = Vec::new();
    for key in keys {
        let (secret, public) = round1::commit(key.signing_share(), &mut OsRng);
        points.push(public.hiding().serialize()?);
        points.push(public.binding().serialize()?);
        nonces.push(secret);
        commitments.insert(*key.identifier(), public);
    }
    let mut message = vec![b'm'; MESSAGE_BYTES];
    message[..8].copy_from_slice(&number.to_le_bytes());
    let package = SigningPackage::new(commitments, &message);
    let shares = keys
        .iter()
        .zip(&nonces)
        .map(|(key, nonces)| Ok((*key.identifier(), round2::sign(&package, nonces, key)?)))
        .collect::<Result<_, frost_ed25519::Error>>()?;
    Ok(Session {
        package,
        shares,
        points,
    })
}

fn cpu_us() -> Result<i64, nix::Error> {
    let usage: Usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}

/// CPU microseconds of one call, once for each repetition, ascending.
fn measure(
    seconds: f64,
    sessions: &[Session],
    call: impl Fn(&Session) -> Result<(), frost_ed25519::Error>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let began = Instant::now();
    let mut repetitions = Vec::new();
    while repetitions.len() < 5 || began.elapsed().as_secs_f64() < seconds {
        let start = cpu_us()?;
        let mut calls = 0_u32;
        let spent = loop {
            for session in sessions {
                call(std::hint::black_box(session))?;
            }
            calls += SESSIONS as u32;
            let spent = cpu_us()? - start;
            if spent >= REPETITION_US {
                break spent;
            }
        };
        repetitions.push(spent as f64 / f64::from(calls));
    }
    repetitions.sort_by(f64::total_cmp);
    Ok(repetitions)
}

fn report(
    arguments: &Arguments,
    public: &PublicKeyPackage,
    aggregates: &[f64],
    decodes: &[f64],
) -> serde_json::Value {
    let at = |sorted: &[f64], share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        (sorted[place.round() as usize] * 100.0).round() / 100.0
    };
    serde_json::json!({
        "min": arguments.min,
        "max": public.verifying_shares().len(),
        "repetitions": aggregates.len(),
        "cpu_us": at(aggregates, 0.5),
        "cpu_us_p10": at(aggregates, 0.1),
        "cpu_us_p90": at(aggregates, 0.9),
        "decode_cpu_us": at(decodes, 0.5),
    })
}
