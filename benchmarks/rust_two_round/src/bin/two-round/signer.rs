//! Calls to signers: one pooled client, mutual TLS, a fresh token for each call.

use std::{
    error::Error,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    str::FromStr,
    time::Duration,
};

use axum::body::Bytes;
use reqwest::{
    Certificate, Client, Identity, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect, retry, tls,
};
use tokio::sync::Semaphore;

use crate::token::{Party, Secret, Tokens};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Below a signer's own 75 s, so that it is never the one to close.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where a signer is and who it is.
#[derive(Clone)]
pub struct Address {
    pub identifier: u16,
    url: Url,
    at: SocketAddr,
    server_name: String,
    audience: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('=').collect();
        let [identifier, url, server_name, audience] = parts.as_slice() else {
            return Err("expected ID=URL=SERVER_NAME=AUDIENCE".into());
        };
        let identifier = identifier.parse().map_err(|_| "ID is no number")?;
        let mut url: Url = url.parse().map_err(|_| "URL is none")?;
        let host: IpAddr = url
            .host_str()
            .and_then(|host| host.trim_matches(['[', ']']).parse().ok())
            .ok_or("the host of URL is no IP address")?;
        let port = url.port_or_known_default().ok_or("URL has no port")?;
        // The name in the URL is what the certificate must carry; the client is told its address.
        url.set_host(Some(server_name))
            .map_err(|_| "SERVER_NAME is none")?;
        Ok(Self {
            identifier,
            url,
            at: SocketAddr::new(host, port),
            server_name: (*server_name).into(),
            audience: (*audience).into(),
        })
    }
}

pub struct TlsFiles<'a> {
    pub cert: &'a Path,
    pub key: &'a Path,
    pub ca: &'a Path,
}

/// Why a call brought nothing, for the log.
#[derive(Debug)]
pub enum CallError {
    Transport(reqwest::Error),
    Refused(u16, Bytes),
    TooLong,
    Closed,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(error) => {
                write!(formatter, "{error}")?;
                let mut cause = error.source();
                while let Some(each) = cause {
                    write!(formatter, ": {each}")?;
                    cause = each.source();
                }
                Ok(())
            }
            Self::Refused(status, body) => {
                write!(formatter, "{status}: {}", String::from_utf8_lossy(body))
            }
            Self::TooLong => formatter.write_str("the answer is too long or of unknown length"),
            Self::Closed => formatter.write_str("the coordinator is closing"),
        }
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}

pub struct Signer {
    pub identifier: u16,
    client: Client,
    commitments: Url,
    shares: Url,
    tokens: Tokens,
    places: Semaphore,
}

impl Signer {
    pub async fn commitments(
        &self,
        body: Bytes,
        request_id: &HeaderValue,
    ) -> Result<Bytes, CallError> {
        self.call(&self.commitments, body, request_id).await
    }

    pub async fn shares(&self, body: Bytes, request_id: &HeaderValue) -> Result<Bytes, CallError> {
        self.call(&self.shares, body, request_id).await
    }

    /// The caller sets the deadline.
    async fn call(
        &self,
        url: &Url,
        body: Bytes,
        request_id: &HeaderValue,
    ) -> Result<Bytes, CallError> {
        let _place = self.places.acquire().await.map_err(|_| CallError::Closed)?;
        let response = self
            .client
            .post(url.clone())
            .header(AUTHORIZATION, self.tokens.authorization(&body))
            .header(CONTENT_TYPE, JSON)
            .header("x-request-id", request_id)
            .body(body)
            .send()
            .await?;
        let status = response.status();
        if response
            .content_length()
            .is_none_or(|length| length > MAX_ANSWER_BYTES)
        {
            return Err(CallError::TooLong);
        }
        let answer = response.bytes().await?;
        if status.is_success() {
            Ok(answer)
        } else {
            Err(CallError::Refused(status.as_u16(), answer))
        }
    }
}

/// All signers, in the order of their identifiers.
pub struct Signers(pub Vec<Signer>);

impl Signers {
    pub fn new(
        addresses: &[Address],
        tls: &TlsFiles,
        secret: &Secret,
        party: &Party,
        calls_per_signer: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let mut identity = fs::read(tls.cert)?;
        identity.push(b'\n');
        identity.extend(fs::read(tls.key)?);
        let mut builder = Client::builder()
            .tls_backend_rustls()
            .tls_certs_only(Certificate::from_pem_bundle(&fs::read(tls.ca)?)?)
            .identity(Identity::from_pem(&identity)?)
            .tls_version_min(tls::Version::TLS_1_3)
            .https_only(true)
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(calls_per_signer)
            .redirect(redirect::Policy::none())
            // HTTP/2's: it would copy every request. One that found its connection closed is sent again all the same.
            .retry(retry::never())
            .no_proxy();
        for address in addresses {
            builder = builder.resolve_to_addrs(&address.server_name, &[address.at]);
        }
        let client = builder.build()?;
        let mut signers = addresses
            .iter()
            .map(|address| {
                Ok(Signer {
                    identifier: address.identifier,
                    client: client.clone(),
                    commitments: address.url.join("/v1/commitments")?,
                    shares: address.url.join("/v1/shares")?,
                    tokens: Tokens::new(secret, party, &address.audience),
                    places: Semaphore::new(calls_per_signer),
                })
            })
            .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
        signers.sort_by_key(|signer| signer.identifier);
        Ok(Self(signers))
    }
}
