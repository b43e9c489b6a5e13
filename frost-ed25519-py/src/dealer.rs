//! Key generation by a trusted dealer (RFC 9591, appendix C).

use frost_ed25519 as frost;
use pyo3::{prelude::*, types::PyDict};
use rand_core::{CryptoRng, OsRng, RngCore};

use crate::{
    error::Error,
    mapping::to_dict,
    public_key_package::PublicKeyPackage,
    secret::{Secret, detached, secrets},
    secret_share::SecretShare,
    signers::{Count, identifier_list, identifiers},
    signing_key::SigningKey,
};

/// What a dealer made: everybody's share, and the public data.
pub struct Dealt {
    shares: Vec<(frost::Identifier, Secret<frost::keys::SecretShare>)>,
    public: frost::keys::PublicKeyPackage,
}

impl Dealt {
    /// Split a key.
    pub fn split<R: RngCore + CryptoRng>(
        key: &frost::SigningKey,
        max_signers: u16,
        min_signers: u16,
        identifiers: &Option<Vec<frost::Identifier>>,
        rng: &mut R,
    ) -> Result<Self, Error> {
        let list = identifier_list(identifiers);
        let (shares, public) = frost::keys::split(key, max_signers, min_signers, list, rng)?;
        let shares = secrets(shares);
        Ok(Self { shares, public })
    }

    /// As Python sees it.
    pub fn into_python(self, py: Python<'_>) -> PyResult<(Bound<'_, PyDict>, PublicKeyPackage)> {
        let shares = to_dict(py, self.shares, SecretShare)?;
        Ok((shares, PublicKeyPackage(self.public)))
    }
}

/// Generate a key and split it at once, so that it never exists outside this
/// call (RFC 9591, appendix C).
///
/// Returns the secret share of each participant, and the group's public data.
#[pyfunction]
#[pyo3(signature = (max_signers, min_signers, identifiers = None))]
pub fn generate_with_dealer<'py>(
    py: Python<'py>,
    max_signers: Count,
    min_signers: Count,
    #[pyo3(from_py_with = optional_identifiers)] identifiers: Option<Vec<frost::Identifier>>,
) -> PyResult<(Bound<'py, PyDict>, PublicKeyPackage)> {
    let (max_signers, min_signers) = (max_signers.max_signers()?, min_signers.min_signers()?);
    detached(py, || {
        // As the crate's `generate_with_dealer`, but the key is wiped.
        let key = Secret::new(frost::SigningKey::new(&mut OsRng));
        Dealt::split(&key, max_signers, min_signers, &identifiers, &mut OsRng)
    })?
    .into_python(py)
}

/// Split an existing key (RFC 9591, appendix C).
///
/// The caller still has the key: destroying it is the caller's part.
#[pyfunction]
#[pyo3(signature = (signing_key, max_signers, min_signers, identifiers = None))]
pub fn split<'py>(
    py: Python<'py>,
    signing_key: &SigningKey,
    max_signers: Count,
    min_signers: Count,
    #[pyo3(from_py_with = optional_identifiers)] identifiers: Option<Vec<frost::Identifier>>,
) -> PyResult<(Bound<'py, PyDict>, PublicKeyPackage)> {
    let (max_signers, min_signers) = (max_signers.max_signers()?, min_signers.min_signers()?);
    detached(py, || {
        let key = &signing_key.0;
        Dealt::split(key, max_signers, min_signers, &identifiers, &mut OsRng)
    })?
    .into_python(py)
}

/// `None` or an iterable of identifiers.
pub fn optional_identifiers(given: &Bound<'_, PyAny>) -> PyResult<Option<Vec<frost::Identifier>>> {
    identifiers((!given.is_none()).then_some(given))
}
