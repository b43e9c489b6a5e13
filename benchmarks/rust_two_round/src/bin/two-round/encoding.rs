//! Base64 as signers and callers write it: either alphabet, padded or not.

use base64::{
    DecodeError, Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const EITHER_STANDARD: GeneralPurpose = GeneralPurpose::new(&STANDARD, CONFIG);
const EITHER_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, CONFIG);

fn engine(text: &str) -> &'static GeneralPurpose {
    if text.bytes().any(|each| each == b'-' || each == b'_') {
        &EITHER_URL_SAFE
    } else {
        &EITHER_STANDARD
    }
}

/// The bytes of any length.
pub fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    engine(text).decode(text)
}

/// 32 bytes: a point or a scalar. None for anything else.
pub fn decode_32(text: &str) -> Option<[u8; 32]> {
    // The decoder wants room for what the length of the text would allow.
    let mut buffer = [0; 33];
    match engine(text).decode_slice(text, &mut buffer) {
        Ok(32) => buffer.first_chunk().copied(),
        _ => None,
    }
}
