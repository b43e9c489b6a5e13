//! What the coordinator sends out for round two.

use std::hash::{Hash, Hasher};

use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyMapping},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    entries::Entries,
    error::Error,
    identifier::IdentifierLike,
    mapping::{from_mapping, to_dict},
    round1::SigningCommitments,
    wire::{self, Wire},
};

/// Messages below this are hashed faster than the interpreter is given away and
/// taken back: the bound that Python's own `hashlib` has.
const SHORT: usize = 2048;

/// The message and the commitments of all participants of one signature.
#[pyclass(frozen, eq, hash, module = "frost_ed25519")]
#[derive(Clone, PartialEq, Eq)]
pub struct SigningPackage(pub frost::SigningPackage);

impl Hash for SigningPackage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().unwrap_or_default().hash(state);
    }
}

#[pymethods]
impl SigningPackage {
    #[new]
    fn new(signing_commitments: &Bound<'_, PyMapping>, message: &[u8]) -> PyResult<Self> {
        let commitments = from_mapping::<SigningCommitments>(signing_commitments)?;
        Ok(Self(frost::SigningPackage::new(commitments, message)))
    }

    /// The commitments, by participant.
    #[getter]
    fn signing_commitments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let map = self.0.signing_commitments();
        to_dict(py, map.iter().map(|(k, v)| (*k, *v)), SigningCommitments)
    }

    /// The commitments of one participant, or `None`.
    #[pyo3(signature = (identifier, /))]
    fn signing_commitment(&self, identifier: IdentifierLike) -> Option<SigningCommitments> {
        self.0
            .signing_commitment(&identifier.0)
            .map(SigningCommitments)
    }

    /// The message to sign.
    #[getter]
    fn message<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.message())
    }

    /// SHA-256 of `serialize()`.
    fn sha256<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>, Error> {
        let hash = || Ok::<_, frost::Error>(Sha256::digest(self.0.serialize()?));
        let digest = if self.0.message().len() < SHORT {
            hash()
        } else {
            py.detach(hash)
        };
        Ok(PyBytes::new(py, &digest?))
    }

    fn __repr__(&self) -> String {
        format!(
            "<SigningPackage of {} participants, message of {} bytes>",
            self.0.signing_commitments().len(),
            self.0.message().len()
        )
    }
}

impl Wire for frost::SigningPackage {
    const NAME: &'static str = "SigningPackage";

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }

    fn check_json(&self, text: &str) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Map {
            signing_commitments: Entries,
        }

        let map: Map = wire::parse(text, Self::NAME)?;
        map.signing_commitments
            .check(self.signing_commitments().len())
    }
}

crate::wire::public_methods!(SigningPackage, frost_ed25519::SigningPackage);
