//! What everybody may know about a group.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};

use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyMapping, PyType},
};
use serde::Deserialize;

use crate::{
    bincode,
    commitment::{VerifiableSecretSharingCommitment, check_same_length},
    element::{VerifyingKey, VerifyingShare},
    entries::Entries,
    error::Error,
    mapping::{from_mapping, to_dict},
    signers::{Count, check_group, identifiers},
    threshold,
    wire::{self, Wire},
};

type Inner = frost::keys::PublicKeyPackage;

/// A group's public key and the public key shares of its participants.
#[pyclass(frozen, eq, hash, module = "frost_ed25519.keys")]
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKeyPackage(pub Inner);

impl Hash for PublicKeyPackage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().unwrap_or_default().hash(state);
    }
}

impl PublicKeyPackage {
    /// Wrap what the crate made of values it did not check.
    fn checked(package: Inner) -> Result<Self, Error> {
        package.check()?;
        Ok(Self(package))
    }
}

#[pymethods]
impl PublicKeyPackage {
    #[new]
    #[pyo3(signature = (verifying_shares, verifying_key, min_signers))]
    fn new(
        verifying_shares: &Bound<'_, PyMapping>,
        verifying_key: &VerifyingKey,
        min_signers: Option<Count>,
    ) -> PyResult<Self> {
        let shares = from_mapping::<VerifyingShare>(verifying_shares)?;
        let min_signers = min_signers.map(|count| count.min_signers()).transpose()?;
        Ok(Self::checked(Inner::new(
            shares,
            verifying_key.0,
            min_signers,
        ))?)
    }

    /// The package of a dealt group, from the dealer's commitment.
    #[classmethod]
    #[pyo3(signature = (identifiers, commitment))]
    fn from_commitment(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        #[pyo3(from_py_with = identifier_set)] identifiers: BTreeSet<frost::Identifier>,
        commitment: &VerifiableSecretSharingCommitment,
    ) -> Result<Self, Error> {
        py.detach(|| Self::checked(Inner::from_commitment(&identifiers, &commitment.0)?))
    }

    /// The package of a group that generated its key itself, from the
    /// commitments of all participants.
    #[classmethod]
    fn from_dkg_commitments(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        commitments: &Bound<'_, PyMapping>,
    ) -> PyResult<Self> {
        let commitments = from_mapping::<VerifiableSecretSharingCommitment>(commitments)?;
        Ok(py.detach(|| {
            check_same_length(commitments.values())?;
            let commitments: BTreeMap<_, _> = commitments.iter().map(|(k, v)| (*k, v)).collect();
            Self::checked(Inner::from_dkg_commitments(&commitments)?)
        })?)
    }

    /// The participants' public key shares, by identifier.
    #[getter]
    fn verifying_shares<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shares = self.0.verifying_shares();
        to_dict(py, shares.iter().map(|(k, v)| (*k, *v)), VerifyingShare)
    }

    /// The group's public key.
    #[getter]
    fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(*self.0.verifying_key())
    }

    /// The threshold, t; `None` in packages older than version 3 of the crate.
    #[getter]
    fn min_signers(&self) -> Option<u16> {
        self.0.min_signers()
    }

    /// The number of participants, n.
    #[getter]
    fn max_signers(&self) -> u16 {
        self.0.max_signers()
    }

    /// The threshold that the verifying shares and the group's key have,
    /// whatever `min_signers` says; `InvalidPublicKeyPackage` if they have none,
    /// for they do not belong together.
    fn derive_min_signers(&self, py: Python<'_>) -> Result<u16, Error> {
        py.detach(|| threshold::derive(&self.0))
    }

    /// The bytes that bincode 1 makes of a package.
    fn to_bincode<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>, Error> {
        Ok(PyBytes::new(py, &bincode::encode(&self.0)?))
    }

    /// Read the bytes that bincode 1 makes of a package of version 1, 2 or 3 of
    /// the crate.
    #[classmethod]
    #[pyo3(signature = (data, /))]
    fn from_bincode(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        data: &[u8],
    ) -> Result<Self, Error> {
        py.detach(|| bincode::decode(data)).map(Self)
    }

    fn __repr__(&self) -> String {
        let threshold = self
            .min_signers()
            .map_or_else(|| "?".to_owned(), |t| t.to_string());
        let key = hex::encode(self.0.verifying_key().serialize().unwrap_or_default());
        format!(
            "<PublicKeyPackage {threshold} of {} {key}>",
            self.max_signers()
        )
    }
}

impl Wire for Inner {
    const NAME: &'static str = "PublicKeyPackage";

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }

    fn check(&self) -> Result<(), Error> {
        check_group(self.verifying_shares().len(), self.min_signers())
    }

    fn check_json(&self, text: &str) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Map {
            verifying_shares: Entries,
        }

        let map: Map = wire::parse(text, Self::NAME)?;
        map.verifying_shares.check(self.verifying_shares().len())
    }
}

crate::wire::public_methods!(PublicKeyPackage, frost_ed25519::keys::PublicKeyPackage);

/// A set of participants from any iterable.
fn identifier_set(given: &Bound<'_, PyAny>) -> PyResult<BTreeSet<frost::Identifier>> {
    let list = identifiers(Some(given))?.unwrap_or_default();
    let count = list.len();
    let set: BTreeSet<_> = list.into_iter().collect();
    if set.len() != count {
        return Err(Error::from(frost::Error::DuplicatedIdentifier).into());
    }
    Ok(set)
}
