//! The dealer's public commitment to the secret polynomial.

use std::{
    collections::BTreeSet,
    hash::{Hash, Hasher},
};

use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyString, PyType},
};

use crate::{
    element::repr,
    error::Error,
    mapping::Wraps,
    wire::{self, Wire},
};

type Inner = frost::keys::VerifiableSecretSharingCommitment;

/// Commitments to the coefficients of a secret polynomial (RFC 9591, appendix C.2).
///
/// Everyone in a group must have the same one; the first element is the group's
/// public key and their number is the threshold.
#[pyclass(frozen, eq, hash, module = "frost_ed25519.keys")]
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiableSecretSharingCommitment(pub Inner);

impl Hash for VerifiableSecretSharingCommitment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize_whole().unwrap_or_default().hash(state);
    }
}

impl Wraps for VerifiableSecretSharingCommitment {
    type Inner = Inner;

    fn inner(&self) -> &Self::Inner {
        &self.0
    }
}

/// The number of coefficients. The crate itself tells it as 16 bits only, which
/// would let a longer list pass for a short one.
fn count(commitment: &Inner) -> Result<usize, Error> {
    Ok(commitment.serialize()?.len())
}

/// Refuse a number of coefficients that is no threshold.
pub fn check(commitment: &Inner) -> Result<(), Error> {
    if (2..=usize::from(u16::MAX)).contains(&count(commitment)?) {
        Ok(())
    } else {
        Err(frost::Error::IncorrectNumberOfCommitments.into())
    }
}

/// Refuse commitments of different lengths. The crate would cut all of them to
/// the length of the first.
pub fn check_same_length<'a>(
    commitments: impl IntoIterator<Item = &'a Inner>,
) -> Result<(), Error> {
    let counts = commitments
        .into_iter()
        .map(count)
        .collect::<Result<BTreeSet<_>, _>>()?;
    if counts.len() == 1 {
        Ok(())
    } else {
        Err(frost::Error::IncorrectNumberOfCommitments.into())
    }
}

impl Wire for Inner {
    const NAME: &'static str = "VerifiableSecretSharingCommitment";
    const OBJECT: bool = false;

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize_whole()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize_whole(bytes)?)
    }

    fn check(&self) -> Result<(), Error> {
        check(self)
    }
}

#[pymethods]
impl VerifiableSecretSharingCommitment {
    /// The encoded coefficient commitments, 32 bytes each, constant term first.
    fn serialize<'py>(&self, py: Python<'py>) -> Result<Vec<Bound<'py, PyBytes>>, Error> {
        let parts = self.0.serialize()?;
        Ok(parts.iter().map(|part| PyBytes::new(py, part)).collect())
    }

    /// The inverse of `serialize`.
    #[classmethod]
    #[pyo3(signature = (coefficients, /))]
    fn deserialize(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        coefficients: Vec<Bound<'_, PyBytes>>,
    ) -> Result<Self, Error> {
        let parts = coefficients
            .iter()
            .map(|part| Ok(wire::element(part.as_bytes())?.to_vec()))
            .collect::<Result<Vec<_>, Error>>()?;
        py.detach(|| {
            let commitment = Inner::deserialize(parts)?;
            check(&commitment)?;
            Ok(Self(commitment))
        })
    }

    /// The same in one piece.
    fn serialize_whole<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>, Error> {
        Ok(PyBytes::new(py, &wire::to_bytes(&self.0)?))
    }

    /// The inverse of `serialize_whole`.
    #[classmethod]
    #[pyo3(signature = (data, /))]
    fn deserialize_whole(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        data: &[u8],
    ) -> Result<Self, Error> {
        py.detach(|| wire::from_bytes(data)).map(Self)
    }

    /// The crate's JSON form.
    fn to_json<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyString>, Error> {
        Ok(PyString::new(py, &wire::to_json(&self.0)?))
    }

    /// Read the crate's JSON form.
    #[classmethod]
    #[pyo3(signature = (text, /))]
    fn from_json(_class: &Bound<'_, PyType>, py: Python<'_>, text: &str) -> Result<Self, Error> {
        py.detach(|| wire::from_json(text)).map(Self)
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let load = slf.get_type().getattr("deserialize_whole")?;
        Ok((load, (slf.get().serialize_whole(slf.py())?,)))
    }

    fn __repr__(&self) -> String {
        repr(
            "VerifiableSecretSharingCommitment",
            self.0.serialize_whole(),
        )
    }
}
