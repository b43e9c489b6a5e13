//! One request and its answer: HTTP/1.1 by hand, for the little that is needed of it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::plan::Plan;

pub const NO_CONNECTION: &str = "no connection";
/// An answer is well below this; what is longer is an error.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 32;

/// An answer was read whole; its body begins at `body`.
pub struct Reply {
    pub status: u16,
    pub body: usize,
    pub close: bool,
}

pub async fn ask(
    plan: &Plan,
    connection: &mut Option<UnixStream>,
    request: &[u8],
    answer: &mut Vec<u8>,
) -> Result<Reply, String> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let opened = UnixStream::connect(&plan.socket)
                .await
                .map_err(|_| NO_CONNECTION)?;
            connection.insert(opened)
        }
    };
    stream
        .write_all(request)
        .await
        .map_err(|error| format!("write: {}", error.kind()))?;
    answer.clear();
    let mut whole = None;
    loop {
        let read = stream
            .read_buf(answer)
            .await
            .map_err(|error| format!("read: {}", error.kind()))?;
        if read == 0 {
            return Err("connection closed".into());
        }
        if whole.is_none() {
            whole = head(answer)?;
        }
        if let Some((status, body, length, close)) = whole {
            if answer.len() > body + length {
                return Err("more than one answer".into());
            }
            if answer.len() == body + length {
                return Ok(Reply {
                    status,
                    body,
                    close,
                });
            }
        }
        if answer.len() > MAX_ANSWER_BYTES {
            return Err("answer too long".into());
        }
    }
}

/// Status, where the body begins, its length, and whether the connection ends; None while it is not all there.
fn head(answer: &[u8]) -> Result<Option<(u16, usize, usize, bool)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let body = match response.parse(answer) {
        Ok(httparse::Status::Complete(body)) => body,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("no HTTP: {error}")),
    };
    let mut length = None;
    let mut close = false;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = std::str::from_utf8(header.value)
                .ok()
                .and_then(|text| text.parse().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            close = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    let length = length.ok_or("no Content-Length")?;
    Ok(Some((
        response.code.unwrap_or_default(),
        body,
        length,
        close,
    )))
}
