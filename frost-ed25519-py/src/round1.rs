//! Round one: nonces and the commitments to them (RFC 9591, section 5.1).

use std::hash::{Hash, Hasher};

use frost::round1::NonceCommitment;
use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyList},
};
use rand_core::OsRng;

use crate::{
    batch,
    element::repr,
    error::Error,
    key_package::KeyPackage,
    mapping::Wraps,
    once::Once,
    secret::{Secret, detached},
    signers::Count,
    wire::{self, Wire},
};

type Commitments = frost::round1::SigningCommitments;

/// A participant's nonces for one signature. Using them twice would reveal the
/// signing share, so they can be used once, by the process that made them, and
/// cannot be stored.
///
/// Secret.
#[pyclass(frozen, module = "frost_ed25519.round1")]
pub struct SigningNonces {
    /// The nonces, until they are used.
    pub once: Once<frost::round1::SigningNonces>,
    /// What was published for them.
    pub commitments: Commitments,
}

impl SigningNonces {
    /// Wrap fresh nonces.
    pub fn new(nonces: frost::round1::SigningNonces) -> Self {
        let commitments = *nonces.commitments();
        Self {
            once: Once::new(Secret::new(nonces)),
            commitments,
        }
    }
}

#[pymethods]
impl SigningNonces {
    /// The public commitments to these nonces.
    #[getter]
    fn commitments(&self) -> SigningCommitments {
        SigningCommitments(self.commitments)
    }

    /// Whether they have been used, or belong to another process.
    #[getter]
    fn consumed(&self) -> bool {
        self.once.is_taken()
    }

    fn __repr__(&self) -> &'static str {
        if self.once.is_taken() {
            "<SigningNonces, consumed>"
        } else {
            "<SigningNonces>"
        }
    }
}

crate::secret::no_copies!(SigningNonces);

/// A participant's published commitments for one signature: two group elements
/// of 32 bytes, neither of them the identity.
#[pyclass(frozen, eq, hash, module = "frost_ed25519.round1")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SigningCommitments(pub Commitments);

impl Hash for SigningCommitments {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().unwrap_or_default().hash(state);
    }
}

impl Wraps for SigningCommitments {
    type Inner = Commitments;

    fn inner(&self) -> &Self::Inner {
        &self.0
    }
}

impl SigningCommitments {
    fn decode(hiding: &[u8], binding: &[u8]) -> Result<Self, Error> {
        let (hiding, binding) = (wire::element(hiding)?, wire::element(binding)?);
        let hiding = NonceCommitment::deserialize(hiding)?;
        let binding = NonceCommitment::deserialize(binding)?;
        Ok(Self(Commitments::new(hiding, binding)))
    }
}

#[pymethods]
impl SigningCommitments {
    #[new]
    fn new(py: Python<'_>, hiding: &[u8], binding: &[u8]) -> Result<Self, Error> {
        py.detach(|| Self::decode(hiding, binding))
    }

    /// The commitment to the hiding nonce, 32 bytes.
    #[getter]
    fn hiding<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>, Error> {
        Ok(PyBytes::new(py, &self.0.hiding().serialize()?))
    }

    /// The commitment to the binding nonce, 32 bytes.
    #[getter]
    fn binding<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>, Error> {
        Ok(PyBytes::new(py, &self.0.binding().serialize()?))
    }

    fn __repr__(&self) -> String {
        let parts = self.0.hiding().serialize().and_then(|mut bytes| {
            bytes.extend(self.0.binding().serialize()?);
            Ok(bytes)
        });
        repr("SigningCommitments", parts)
    }
}

impl Wire for Commitments {
    const NAME: &'static str = "SigningCommitments";

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }
}

crate::wire::public_methods!(
    SigningCommitments,
    frost_ed25519::round1::SigningCommitments
);

/// Draw nonces for one signature and commit to them (RFC 9591, section 5.1).
///
/// The nonces stay with the participant; the commitments go to the coordinator.
#[pyfunction]
pub fn commit(py: Python<'_>, key_package: &KeyPackage) -> (SigningNonces, SigningCommitments) {
    detached(py, || draw(key_package))
}

/// `commit` for each of `count` signatures.
#[pyfunction]
pub fn commit_many(
    py: Python<'_>,
    key_package: &KeyPackage,
    count: Count,
) -> PyResult<Vec<(SigningNonces, SigningCommitments)>> {
    let count = count.nonces()?;
    Ok(detached(py, || {
        (0..count).map(|_| draw(key_package)).collect()
    }))
}

fn draw(key_package: &KeyPackage) -> (SigningNonces, SigningCommitments) {
    let (nonces, commitments) = frost::round1::commit(key_package.0.signing_share(), &mut OsRng);
    (SigningNonces::new(nonces), SigningCommitments(commitments))
}

/// `SigningCommitments(hiding, binding)` for each of many pairs of points.
///
/// A pair that it would have refused is the exception instead.
#[pyfunction]
pub fn decode_many<'py>(
    py: Python<'py>,
    points: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let points: Vec<(PyBackedBytes, PyBackedBytes)> =
        batch::requests::<(Bound<'_, PyBytes>, Bound<'_, PyBytes>)>(points, 2)?
            .into_iter()
            .map(|(hiding, binding)| (hiding.into(), binding.into()))
            .collect();
    let decoded = py.detach(|| {
        points
            .iter()
            .map(|(hiding, binding)| SigningCommitments::decode(hiding, binding))
            .collect::<Vec<_>>()
    });
    batch::outcomes(py, decoded)
}
