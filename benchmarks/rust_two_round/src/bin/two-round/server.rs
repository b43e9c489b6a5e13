//! HTTP on the Unix socket.

use std::{borrow::Cow, sync::Arc, time::Instant};

use axum::{
    Router,
    body::{self, Body},
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use crate::{
    problem::Problem,
    session::{Coordinator, Order, Signed},
};

/// The largest message in base64, and room for the rest.
const MAX_BODY_BYTES: usize = 96 * 1024;
const MAX_ID_CHARS: usize = 64;

pub fn router(coordinator: Arc<Coordinator>) -> Router {
    Router::new()
        .route("/sign", post(sign))
        .route("/healthz", get(async || "ok"))
        .route("/metrics", get(metrics))
        .with_state(coordinator)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignRequest<'a> {
    #[serde(borrow)]
    msg_b64: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    participants: Option<Vec<u16>>,
}

#[derive(Serialize)]
struct SignAnswer<'a> {
    signature_b64: &'a str,
    group_public_b64: &'a str,
    participants: &'a [u16],
    key: &'a str,
    request_id: &'a str,
}

async fn sign(State(coordinator): State<Arc<Coordinator>>, request: Request) -> Response {
    let started = Instant::now();
    let metrics = &coordinator.metrics;
    let id = request_id(&request);
    let outcome = answer(&coordinator, request.into_body(), &id).await;
    metrics.seconds.observe(started.elapsed().as_secs_f64());
    match outcome {
        Ok(response) => {
            metrics.signed.inc();
            response
        }
        Err(problem) => {
            if problem.is_refusal() {
                metrics.refused.inc();
            } else {
                metrics.failed.inc();
            }
            problem.answer(&id)
        }
    }
}

async fn answer(coordinator: &Coordinator, body: Body, id: &str) -> Result<Response, Problem> {
    let body = body::to_bytes(body, MAX_BODY_BYTES)
        .await
        .map_err(|_| Problem::TooLarge)?;
    let request: SignRequest = serde_json::from_slice(&body)
        .map_err(|_| Problem::Malformed("the body is not the JSON of a request"))?;
    let header = HeaderValue::from_str(id).map_err(|_| Problem::Malformed("X-Request-ID"))?;
    let order = Order {
        msg_b64: &request.msg_b64,
        key: request.key.as_deref(),
        participants: request.participants.as_deref(),
    };
    let Signed {
        signature_b64,
        participants,
    } = coordinator.sign(order, id, &header).await?;
    let answer = SignAnswer {
        signature_b64: &signature_b64,
        group_public_b64: &coordinator.group.public_b64,
        participants: &participants,
        key: &coordinator.key,
        request_id: id,
    };
    let json = serde_json::to_vec(&answer).map_err(|_| Problem::Signer)?;
    Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
}

/// The caller's, if it is one that signers take for a session's name too; else a fresh one.
fn request_id(request: &Request) -> String {
    request
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (1..=MAX_ID_CHARS).contains(&id.len())
                && id
                    .bytes()
                    .all(|each| each.is_ascii_alphanumeric() || b"_-".contains(&each))
        })
        .map_or_else(|| format!("{:032x}", rand::random::<u128>()), String::from)
}

async fn metrics(State(coordinator): State<Arc<Coordinator>>) -> Response {
    match coordinator.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!("metrics: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
