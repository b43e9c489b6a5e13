//! One signature: choose signers, two rounds, aggregate.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{body::Bytes, http::HeaderValue};
use base64::{Engine, prelude::BASE64_STANDARD};
use frost_ed25519::{
    Identifier, SigningPackage,
    round1::{NonceCommitment, SigningCommitments},
    round2::SignatureShare,
};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{
    encoding::{decode, decode_32},
    group::Group,
    metrics::Metrics,
    problem::Problem,
    signer::{CallError, Signer, Signers},
    wire::{CommitmentsAnswer, CommitmentsRequest, Session, SharesAnswer, SharesRequest},
};

/// As many bytes as signers take.
const MAX_MESSAGE_BYTES: usize = 65_536;

/// What a caller asks for.
pub struct Order<'a> {
    pub msg_b64: &'a str,
    pub key: Option<&'a str>,
    pub participants: Option<&'a [u16]>,
}

pub struct Signed {
    pub signature_b64: String,
    pub participants: Vec<u16>,
}

pub struct Coordinator {
    pub group: Group,
    pub key: String,
    signers: Vec<Signer>,
    budget: Duration,
    pub metrics: Metrics,
    turn: AtomicUsize,
    /// Round one asks everybody the same, always.
    round_one: Bytes,
}

impl Coordinator {
    pub fn new(
        group: Group,
        key: String,
        Signers(signers): Signers,
        budget: Duration,
        metrics: Metrics,
    ) -> Result<Self, Box<dyn Error>> {
        if signers
            .windows(2)
            .any(|pair| pair[0].identifier == pair[1].identifier)
        {
            return Err("a signer is given twice".into());
        }
        if signers.len() < group.min_signers {
            return Err("there are fewer signers than --min-signers".into());
        }
        let round_one = serde_json::to_vec(&CommitmentsRequest {
            key: &key,
            count: 1,
        })?
        .into();
        Ok(Self {
            group,
            key,
            signers,
            budget,
            metrics,
            turn: AtomicUsize::new(0),
            round_one,
        })
    }

    /// Within the budget, a signature that verified, or what was in the way.
    pub async fn sign(
        &self,
        order: Order<'_>,
        request_id: &str,
        header: &HeaderValue,
    ) -> Result<Signed, Problem> {
        if order.key.is_some_and(|key| key != self.key) {
            return Err(Problem::UnknownKey);
        }
        let message =
            decode(order.msg_b64).map_err(|_| Problem::Malformed("msg_b64 is no base64"))?;
        if message.is_empty() {
            return Err(Problem::Malformed("the message is empty"));
        }
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(Problem::TooLarge);
        }
        let quorum = self.quorum(order.participants)?;
        let session = self.session(&quorum, &message, order.msg_b64, request_id, header);
        timeout(self.budget, session)
            .await
            .unwrap_or(Err(Problem::Deadline))
    }

    /// A window over the candidates that moves on by one with each request, in the order of identifiers.
    fn quorum(&self, wanted: Option<&[u16]>) -> Result<Vec<&Signer>, Problem> {
        let needed = self.group.min_signers;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut quorum: Vec<&Signer> = match wanted {
            None => {
                let count = self.signers.len();
                (0..needed)
                    .map(|step| &self.signers[(turn % count + step) % count])
                    .collect()
            }
            Some(wanted) => {
                let candidates: Vec<&Signer> = self
                    .signers
                    .iter()
                    .filter(|signer| wanted.contains(&signer.identifier))
                    .collect();
                // Somebody unknown, or twice the same.
                if candidates.len() != wanted.len() || candidates.len() < needed {
                    return Err(Problem::Participants);
                }
                let count = candidates.len();
                (0..needed)
                    .map(|step| candidates[(turn % count + step) % count])
                    .collect()
            }
        };
        quorum.sort_unstable_by_key(|signer| signer.identifier);
        Ok(quorum)
    }

    async fn session(
        &self,
        quorum: &[&Signer],
        message: &[u8],
        msg_b64: &str,
        session: &str,
        header: &HeaderValue,
    ) -> Result<Signed, Problem> {
        // Nobody's call is dropped because another's failed: that would cost its connection.
        let first = join_all(quorum.iter().map(async |signer| {
            signer
                .commitments(self.round_one.clone(), header)
                .await
                .map_err(|error| failed(signer, session, &error))
        }))
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
        self.metrics.commitments.inc_by(quorum.len() as u64);
        let (package, bodies) = self.second_round(quorum, &first, message, msg_b64, session)?;
        let second = join_all(quorum.iter().zip(bodies).map(async |(signer, body)| {
            signer
                .shares(body, header)
                .await
                .map_err(|error| failed(signer, session, &error))
        }))
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
        self.metrics.shares.inc_by(quorum.len() as u64);
        let mut shares = BTreeMap::new();
        for (signer, answer) in quorum.iter().zip(&second) {
            let share = read_share(answer, session).map_err(|why| wrong(signer, session, why))?;
            shares.insert(identifier(signer)?, share);
        }
        // Verifies the signature, and if it is wrong finds out whose share is.
        let signature = frost_ed25519::aggregate(&package, &shares, &self.group.public)
            .and_then(|signature| signature.serialize())
            .map_err(|error| {
                tracing::warn!(session, "the shares make no signature: {error}");
                Problem::Signer
            })?;
        Ok(Signed {
            signature_b64: BASE64_STANDARD.encode(signature),
            participants: quorum.iter().map(|signer| signer.identifier).collect(),
        })
    }

    /// The signing package, and for each signer the body of its second call.
    fn second_round(
        &self,
        quorum: &[&Signer],
        first: &[Bytes],
        message: &[u8],
        msg_b64: &str,
        session: &str,
    ) -> Result<(SigningPackage, Vec<Bytes>), Problem> {
        let mut answers = Vec::with_capacity(quorum.len());
        let mut commitments = BTreeMap::new();
        for (signer, answer) in quorum.iter().zip(first) {
            let (answer, points) =
                read_commitment(answer, signer).map_err(|why| wrong(signer, session, why))?;
            commitments.insert(identifier(signer)?, points);
            answers.push(answer);
        }
        let package = SigningPackage::new(commitments, message);
        let shared = serde_json::value::to_raw_value(&Session {
            session,
            msg: msg_b64,
            commitments: &answers,
        })
        .map_err(|_| Problem::Signer)?;
        let bodies = answers
            .iter()
            .map(|answer| {
                serde_json::to_vec(&SharesRequest {
                    key: &self.key,
                    epoch: &answer.epoch,
                    sessions: [&shared],
                })
                .map(Bytes::from)
                .map_err(|_| Problem::Signer)
            })
            .collect::<Result<_, _>>()?;
        Ok((package, bodies))
    }
}

fn identifier(signer: &Signer) -> Result<Identifier, Problem> {
    Identifier::try_from(signer.identifier).map_err(|_| Problem::Participants)
}

fn failed(signer: &Signer, session: &str, error: &CallError) -> Problem {
    tracing::warn!(
        signer = signer.identifier,
        session,
        "a call failed: {error}"
    );
    Problem::Signer
}

fn wrong(signer: &Signer, session: &str, why: &str) -> Problem {
    tracing::warn!(signer = signer.identifier, session, "a wrong answer: {why}");
    Problem::Signer
}

fn read_commitment<'a>(
    answer: &'a [u8],
    signer: &Signer,
) -> Result<(CommitmentsAnswer<'a>, SigningCommitments), &'static str> {
    let answer: CommitmentsAnswer = serde_json::from_slice(answer).map_err(|_| "no commitment")?;
    if answer.identifier != signer.identifier {
        return Err("another identifier");
    }
    let [commitment] = &answer.commitments;
    let point = |text| {
        decode_32(text)
            .and_then(|bytes| NonceCommitment::deserialize(&bytes).ok())
            .ok_or("a point that is none")
    };
    let points = SigningCommitments::new(point(&commitment.hiding)?, point(&commitment.binding)?);
    Ok((answer, points))
}

fn read_share(answer: &[u8], session: &str) -> Result<SignatureShare, &'static str> {
    let SharesAnswer { results: [result] } =
        serde_json::from_slice(answer).map_err(|_| "no result")?;
    if result.session != session {
        return Err("another session");
    }
    let Some(share) = result.share else {
        return Err(match result.error.as_deref() {
            Some("unknown-commitment") => "unknown-commitment",
            Some("denied") => "denied",
            Some("malformed") => "malformed",
            Some("not-a-participant") => "not-a-participant",
            _ => "no share",
        });
    };
    decode_32(&share)
        .and_then(|bytes| SignatureShare::deserialize(&bytes).ok())
        .ok_or("a share that is none")
}
