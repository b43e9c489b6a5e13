//! What a run asks for, and the parts of its requests that are always the same.

use std::{
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::VerifyingKey;

use crate::Arguments;

/// What all connections share and nothing changes.
pub struct Plan {
    pub socket: PathBuf,
    pub in_flight: usize,
    pub begin: Instant,
    pub end: Instant,
    pub requests: Option<u64>,
    pub timeout: Duration,
    pub verify_every: u64,
    pub group_public: Option<VerifyingKey>,
    /// The request up to the message in base64, and what follows it.
    pub before: Vec<u8>,
    pub after: Vec<u8>,
    pub message_bytes: usize,
    /// Makes the messages of two runs differ.
    pub run: u64,
}

impl Plan {
    pub fn new(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        let message_bytes = arguments.message_bytes as usize;
        let group_public = arguments.verify.as_deref().map(public_key).transpose()?;
        let begin = Instant::now() + Duration::try_from_secs_f64(arguments.warm_up)?;
        let after = if arguments.participants.is_empty() {
            "\"}".to_owned()
        } else {
            format!(
                "\",\"participants\":{}}}",
                serde_json::to_string(&arguments.participants)?
            )
        };
        let opening = "{\"msg_b64\":\"";
        let length = opening.len() + message_bytes.div_ceil(3) * 4 + after.len();
        let before = format!(
            "POST /sign HTTP/1.1\r\nHost: sidecar\r\nX-Frost-Sidecar: 1\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{opening}"
        );
        Ok(Self {
            socket: arguments.socket.clone(),
            in_flight: arguments.in_flight,
            begin,
            end: begin + Duration::try_from_secs_f64(arguments.seconds)?,
            requests: arguments.requests,
            timeout: Duration::try_from_secs_f64(arguments.timeout)?,
            verify_every: arguments.verify_every.unwrap_or(if group_public.is_some() {
                1
            } else {
                50
            }),
            group_public,
            before: before.into_bytes(),
            after: after.into_bytes(),
            message_bytes,
            run: rand::random(),
        })
    }
}

pub fn public_key(text: &str) -> Result<VerifyingKey, Box<dyn Error>> {
    let bytes = BASE64_STANDARD.decode(text)?;
    Ok(VerifyingKey::from_bytes(bytes.as_slice().try_into()?)?)
}
