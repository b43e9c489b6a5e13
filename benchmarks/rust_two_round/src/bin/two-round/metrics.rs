//! Counters and a histogram, as any service has them.

use prometheus::{
    Encoder, Error, Histogram, HistogramOpts, IntCounterVec, Opts, Registry, TextEncoder,
    core::{AtomicU64, GenericCounter},
};

pub type Counter = GenericCounter<AtomicU64>;

pub struct Metrics {
    registry: Registry,
    pub signed: Counter,
    pub refused: Counter,
    pub failed: Counter,
    pub commitments: Counter,
    pub shares: Counter,
    pub seconds: Histogram,
}

impl Metrics {
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("two_round_requests_total", "Requests by outcome"),
            &["outcome"],
        )?;
        let calls = IntCounterVec::new(
            Opts::new(
                "two_round_signer_calls_total",
                "Calls to signers that succeeded, by round",
            ),
            &["round"],
        )?;
        let seconds = Histogram::with_opts(
            HistogramOpts::new("two_round_sign_seconds", "Time of a request")
                .buckets(prometheus::exponential_buckets(0.000_5, 2.0, 14)?),
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            signed: requests.with_label_values(&["signed"]),
            refused: requests.with_label_values(&["refused"]),
            failed: requests.with_label_values(&["failed"]),
            commitments: calls.with_label_values(&["commitments"]),
            shares: calls.with_label_values(&["shares"]),
            registry,
            seconds,
        })
    }

    /// The text format of Prometheus.
    pub fn text(&self) -> Result<Vec<u8>, Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
