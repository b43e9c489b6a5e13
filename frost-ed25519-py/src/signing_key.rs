//! An existing private key, on its way into shares.

use ed25519_dalek::hazmat::ExpandedSecretKey;
use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyType},
};

use crate::{
    element::VerifyingKey,
    error::Error,
    secret::{Secret, detached, scrubbed},
};

/// A whole private key, held only to be split. It cannot be read back.
///
/// Secret.
#[pyclass(frozen, module = "frost_ed25519")]
pub struct SigningKey(pub Secret<frost::SigningKey>);

#[pymethods]
impl SigningKey {
    /// Read a private scalar: 32 bytes, little-endian, canonical, not zero.
    #[classmethod]
    #[pyo3(signature = (data, /))]
    fn deserialize(_class: &Bound<'_, PyType>, data: &Bound<'_, PyBytes>) -> Result<Self, Error> {
        scrubbed(|| {
            let key = frost::SigningKey::deserialize(data.as_bytes())?;
            Ok(Self(Secret::new(key)))
        })
    }

    /// Read an RFC 8032 private key, the 32-byte seed of ordinary Ed25519 keys.
    ///
    /// The public key stays the one the seed has everywhere else.
    #[classmethod]
    #[pyo3(signature = (seed, /))]
    fn from_ed25519_seed(
        _class: &Bound<'_, PyType>,
        seed: &Bound<'_, PyBytes>,
    ) -> Result<Self, Error> {
        let seed: &[u8; 32] = seed
            .as_bytes()
            .try_into()
            .map_err(|_| frost::Error::MalformedSigningKey)?;
        scrubbed(|| {
            // Hashing, clamping and the reduction are ed25519-dalek's.
            let expanded = ExpandedSecretKey::from(seed);
            let key = frost::SigningKey::from_scalar(expanded.scalar)?;
            Ok(Self(Secret::new(key)))
        })
    }

    /// The public key.
    #[getter]
    fn verifying_key(&self, py: Python<'_>) -> VerifyingKey {
        VerifyingKey(detached(py, || frost::VerifyingKey::from(&*self.0)))
    }

    fn __repr__(&self) -> &'static str {
        "<SigningKey>"
    }
}

crate::secret::no_copies!(SigningKey);
