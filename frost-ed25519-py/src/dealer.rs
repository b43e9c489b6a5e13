//! Key generation by a trusted dealer (RFC 9591, appendix C).

use std::collections::BTreeMap;

use frost_ed25519 as frost;
use pyo3::{prelude::*, types::PyDict};
use rand_core::OsRng;

use crate::{
    error::Error,
    mapping::to_dict,
    public_key_package::PublicKeyPackage,
    secret_share::SecretShare,
    signers::{Count, identifier_list, identifiers},
    signing_key::SigningKey,
};

type Dealt = (
    BTreeMap<frost::Identifier, frost::keys::SecretShare>,
    frost::keys::PublicKeyPackage,
);

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
    let dealt = py.detach(|| {
        let list = identifier_list(&identifiers);
        frost::keys::generate_with_dealer(max_signers, min_signers, list, OsRng)
    });
    to_python(py, dealt.map_err(Error::from)?)
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
    let dealt = py.detach(|| {
        let list = identifier_list(&identifiers);
        frost::keys::split(&signing_key.0, max_signers, min_signers, list, &mut OsRng)
    });
    to_python(py, dealt.map_err(Error::from)?)
}

/// `None` or an iterable of identifiers.
pub fn optional_identifiers(given: &Bound<'_, PyAny>) -> PyResult<Option<Vec<frost::Identifier>>> {
    identifiers((!given.is_none()).then_some(given))
}

/// The dealer's result as Python sees it.
pub fn to_python(py: Python<'_>, dealt: Dealt) -> PyResult<(Bound<'_, PyDict>, PublicKeyPackage)> {
    let (shares, public) = dealt;
    Ok((to_dict(py, shares, SecretShare)?, PublicKeyPackage(public)))
}
