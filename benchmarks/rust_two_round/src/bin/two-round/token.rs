//! A fresh HS256 token for every call (docs/signer-protocol.md, section Token).

use std::{
    error::Error,
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

const LIFETIME_SECONDS: u64 = 30;
const SCHEME: &str = "Bearer ";
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

/// The key schedule of the secret, made once.
pub struct Secret(Hmac<Sha256>);

impl Secret {
    pub fn load(path: &Path) -> Result<Self, Box<dyn Error>> {
        let secret = BASE64_STANDARD.decode(fs::read_to_string(path)?.trim())?;
        Ok(Self(Hmac::new_from_slice(&secret)?))
    }
}

pub struct Party<'a> {
    pub issuer: &'a str,
    pub subject: &'a str,
}

/// Makes tokens for one signer. What never changes is made once.
pub struct Tokens {
    secret: Hmac<Sha256>,
    header: String,
    claims: String,
}

impl Tokens {
    pub fn new(secret: &Secret, party: &Party, audience: &str) -> Self {
        let fixed = serde_json::json!({"iss": party.issuer, "sub": party.subject, "aud": audience});
        let mut claims = fixed.to_string();
        claims.pop();
        Self {
            secret: secret.0.clone(),
            header: format!("{SCHEME}{}.", BASE64_URL_SAFE_NO_PAD.encode(HEADER)),
            claims,
        }
    }

    /// The value of the header `Authorization` for a call with this body.
    pub fn authorization(&self, body: &[u8]) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let claims = format!(
            r#"{},"iat":{now},"nbf":{now},"exp":{},"jti":"{:032x}","body_sha256":"{}"}}"#,
            self.claims,
            now + LIFETIME_SECONDS,
            rand::random::<u128>(),
            BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(body)),
        );
        let mut value = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 64);
        value.push_str(&self.header);
        BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut value);
        let mut mac = self.secret.clone();
        mac.update(&value.as_bytes()[SCHEME.len()..]);
        value.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut value);
        value
    }
}
