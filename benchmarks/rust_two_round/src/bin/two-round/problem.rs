//! Refusals as problem details (RFC 9457).

use axum::{
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};

/// What can go wrong with a request. The words are for the caller; the log has the cause.
#[derive(Debug, Clone, Copy)]
pub enum Problem {
    Malformed(&'static str),
    TooLarge,
    UnknownKey,
    Participants,
    Signer,
    Deadline,
}

impl Problem {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed(detail) => (StatusCode::BAD_REQUEST, "malformed-request", detail),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "the body is too long",
            ),
            Self::UnknownKey => (StatusCode::NOT_FOUND, "unknown-key", "there is no such key"),
            Self::Participants => (
                StatusCode::BAD_REQUEST,
                "participants",
                "participants must be different signers of the group, and enough of them",
            ),
            Self::Signer => (
                StatusCode::SERVICE_UNAVAILABLE,
                "signer",
                "a signer did not do its part",
            ),
            Self::Deadline => (
                StatusCode::SERVICE_UNAVAILABLE,
                "deadline-exceeded",
                "the signers did not answer in time",
            ),
        }
    }

    /// Whether the request was at fault.
    pub fn is_refusal(self) -> bool {
        self.parts().0.is_client_error()
    }

    pub fn answer(self, request_id: &str) -> Response {
        let (status, slug, detail) = self.parts();
        let body = serde_json::json!({
            "type": format!("urn:rust-two-round:error:{slug}"),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": detail,
            "request_id": request_id,
        });
        (
            status,
            [(CONTENT_TYPE, "application/problem+json")],
            body.to_string(),
        )
            .into_response()
    }
}
