//! Messages to and from signers, version 1. Answers borrow from their bytes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

#[derive(Serialize)]
pub struct CommitmentsRequest<'a> {
    pub key: &'a str,
    pub count: u16,
}

#[derive(Deserialize)]
pub struct CommitmentsAnswer<'a> {
    pub identifier: u16,
    #[serde(borrow)]
    pub epoch: Cow<'a, str>,
    #[serde(borrow)]
    pub commitments: [Commitment<'a>; 1],
}

#[derive(Serialize, Deserialize)]
pub struct Commitment<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub hiding: Cow<'a, str>,
    #[serde(borrow)]
    pub binding: Cow<'a, str>,
}

/// The session is the same for all signers and written once; the epoch is each signer's own.
#[derive(Serialize)]
pub struct SharesRequest<'a> {
    pub key: &'a str,
    pub epoch: &'a str,
    pub sessions: [&'a RawValue; 1],
}

#[derive(Serialize)]
pub struct Session<'a> {
    pub session: &'a str,
    pub msg: &'a str,
    #[serde(serialize_with = "by_identifier")]
    pub commitments: &'a [CommitmentsAnswer<'a>],
}

fn by_identifier<S: Serializer>(
    answers: &[CommitmentsAnswer],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        answers
            .iter()
            .map(|each| (each.identifier, &each.commitments[0])),
    )
}

#[derive(Deserialize)]
pub struct SharesAnswer<'a> {
    #[serde(borrow)]
    pub results: [Outcome<'a>; 1],
}

#[derive(Deserialize)]
pub struct Outcome<'a> {
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    #[serde(borrow, default)]
    pub share: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub error: Option<Cow<'a, str>>,
}
