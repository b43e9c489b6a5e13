//! What came of a run.

use std::{collections::BTreeMap, error::Error, time::Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::Signature;
use hdrhistogram::Histogram;
use serde::Deserialize;

use crate::{
    exchange::Reply,
    plan::{Plan, public_key},
};

const WRONG: &str = "wrong signature";

/// What all connections count.
pub struct Tally {
    /// Requests so far, those of the warm-up and the end too: the number of the next message.
    pub asked: u64,
    /// Measured requests that were begun.
    pub begun: u64,
    /// Answers with a signature, right or not, whenever they came.
    signed: u64,
    /// Answered within the time.
    pub ok: u64,
    pub warm_up: u64,
    /// Begun before the end and answered after it.
    pub late: u64,
    pub verified: u64,
    pub wrong: u64,
    pub errors: BTreeMap<String, u64>,
    pub reconnects: u64,
    pub latencies: Histogram<u64>,
    pub last: Option<Instant>,
}

impl Tally {
    pub fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            asked: 0,
            begun: 0,
            signed: 0,
            ok: 0,
            warm_up: 0,
            late: 0,
            verified: 0,
            wrong: 0,
            errors: BTreeMap::new(),
            reconnects: 0,
            // Microseconds, to three digits.
            latencies: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            last: None,
        })
    }

    pub fn count(
        &mut self,
        plan: &Plan,
        begun: Instant,
        done: Instant,
        message: &[u8],
        answer: &[u8],
        reply: Result<Reply, String>,
    ) {
        self.reconnects += u64::from(reply.as_ref().map_or(true, |reply| reply.close));
        match reply.and_then(|reply| self.check(plan, &reply, answer, message)) {
            Err(kind) if kind == WRONG => self.wrong += 1,
            Err(kind) if begun < plan.begin => self.error(format!("warm-up: {kind}")),
            Err(kind) => {
                self.error(kind);
                self.last = Some(done);
            }
            Ok(()) if done < plan.begin => self.warm_up += 1,
            Ok(()) if done > plan.end => self.late += 1,
            Ok(()) => {
                self.ok += 1;
                self.last = Some(done);
                let us = u64::try_from((done - begun).as_micros()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(us.max(1));
            }
        }
    }

    /// Whether the answer is a signature; every so often, whether it is the right one. If not, what it is.
    fn check(
        &mut self,
        plan: &Plan,
        reply: &Reply,
        answer: &[u8],
        message: &[u8],
    ) -> Result<(), String> {
        let body = &answer[reply.body..];
        if reply.status != 200 {
            let problem: Result<ProblemType, _> = serde_json::from_slice(body);
            let slug = problem.map_or("untyped", |problem| {
                problem.r#type.rsplit(':').next().unwrap_or_default()
            });
            return Err(format!("{} {slug}", reply.status));
        }
        let answer: Answer = serde_json::from_slice(body).map_err(|_| "200 untyped")?;
        self.signed += 1;
        if self.signed % plan.verify_every == 0 {
            verify(plan, &answer, message).ok_or(WRONG)?;
            self.verified += 1;
        }
        Ok(())
    }

    fn error(&mut self, kind: String) {
        *self.errors.entry(kind).or_default() += 1;
    }

    pub fn report(&self, plan: &Plan, cpu: f64) -> serde_json::Value {
        let end = match (plan.requests, self.last) {
            (Some(_), Some(last)) => last.min(plan.end),
            _ => plan.end,
        };
        let seconds = end.saturating_duration_since(plan.begin).as_secs_f64();
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |share| ms(self.latencies.value_at_quantile(share));
        let failed: u64 = self.errors.values().sum();
        let rounded = |value: f64, digits: i32| {
            let scale = 10_f64.powi(digits);
            (value * scale).round() / scale
        };
        serde_json::json!({
            "in_flight": plan.in_flight,
            "requests": self.ok + self.late + failed + self.wrong,
            "ok": self.ok,
            "late_ok": self.late,
            "warm_up_ok": self.warm_up,
            "failed": failed,
            "errors": self.errors,
            "wrong": self.wrong,
            "verified": self.verified,
            "reconnects": self.reconnects,
            "seconds": rounded(seconds, 3),
            "throughput": rounded(self.ok as f64 / seconds.max(1e-9), 1),
            "latency_ms": {
                "p50": at(0.5),
                "p90": at(0.9),
                "p99": at(0.99),
                "p999": at(0.999),
                "max": ms(self.latencies.max()),
                "mean": rounded(self.latencies.mean() / 1000.0, 3),
            },
            "cpu_seconds": rounded(cpu, 4),
            "cpu_us_per_request": rounded(cpu * 1e6 / (self.ok + self.late + failed + self.wrong).max(1) as f64, 1),
        })
    }
}

/// The answer's members that matter here.
#[derive(Deserialize)]
struct Answer<'a> {
    signature_b64: &'a str,
    group_public_b64: &'a str,
}

#[derive(Deserialize)]
struct ProblemType<'a> {
    r#type: &'a str,
}

/// None for a signature that is none of this message under the right key.
fn verify(plan: &Plan, answer: &Answer, message: &[u8]) -> Option<()> {
    let key = match plan.group_public {
        Some(key) => key,
        None => public_key(answer.group_public_b64).ok()?,
    };
    let signature = BASE64_STANDARD.decode(answer.signature_b64).ok()?;
    let signature = Signature::from_slice(&signature).ok()?;
    key.verify_strict(message, &signature).ok()
}
