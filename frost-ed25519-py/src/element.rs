//! Public group elements: `VerifyingKey` and `VerifyingShare`.

use std::hash::{Hash, Hasher};

use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyList},
};

use crate::{
    batch::{self, Signed},
    error::Error,
    mapping::Wraps,
    signature::Signature,
    wire::{self, Wire},
};

/// A group's public key. To everyone outside it is a plain Ed25519 public key.
#[pyclass(frozen, eq, hash, module = "frost_ed25519")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(pub frost::VerifyingKey);

impl Hash for VerifyingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().unwrap_or_default().hash(state);
    }
}

#[pymethods]
impl VerifyingKey {
    /// Check an Ed25519 signature on a message; `InvalidSignature` if it is bad.
    fn verify(&self, py: Python<'_>, message: &[u8], signature: &Signature) -> Result<(), Error> {
        Ok(py.detach(|| self.0.verify(message, &signature.0))?)
    }

    fn __repr__(&self) -> String {
        repr("VerifyingKey", self.0.serialize())
    }
}

impl Wire for frost::VerifyingKey {
    const NAME: &'static str = "VerifyingKey";
    const OBJECT: bool = false;

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(wire::element(bytes)?)?)
    }
}

crate::wire::public_methods!(VerifyingKey, frost_ed25519::VerifyingKey);

/// `VerifyingKey.verify` for each of many, verified together.
///
/// A bad signature's place has the exception.
#[pyfunction]
pub fn verify_many<'py>(
    py: Python<'py>,
    requests: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    type Request<'py> = (Py<VerifyingKey>, Bound<'py, PyBytes>, Py<Signature>);

    let requests: Vec<(frost::VerifyingKey, PyBackedBytes, frost::Signature)> =
        batch::requests::<Request<'_>>(requests, 3)?
            .into_iter()
            .map(|(key, message, signature)| (key.get().0, message.into(), signature.get().0))
            .collect();
    let outcomes = py.detach(|| {
        batch::verify(
            &requests,
            |(key, message, signature)| Some((Signed::new(*key, *signature, message).ok()?, ())),
            |(key, message, signature)| Ok(key.verify(message, signature)?),
        )
    });
    let nothing = || py.None();
    batch::outcomes(
        py,
        outcomes.into_iter().map(|each| each.map(|()| nothing())),
    )
}

/// One participant's public key share, to check its signature shares with.
#[pyclass(frozen, eq, hash, module = "frost_ed25519.keys")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingShare(pub frost::keys::VerifyingShare);

impl Hash for VerifyingShare {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().unwrap_or_default().hash(state);
    }
}

impl Wraps for VerifyingShare {
    type Inner = frost::keys::VerifyingShare;

    fn inner(&self) -> &Self::Inner {
        &self.0
    }
}

#[pymethods]
impl VerifyingShare {
    fn __repr__(&self) -> String {
        repr("VerifyingShare", self.0.serialize())
    }
}

impl Wire for frost::keys::VerifyingShare {
    const NAME: &'static str = "VerifyingShare";
    const OBJECT: bool = false;

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(wire::element(bytes)?)?)
    }
}

crate::wire::public_methods!(VerifyingShare, frost_ed25519::keys::VerifyingShare);

/// `<Name hex>`; the identity, which has no encoding, shows as such.
pub fn repr(name: &str, bytes: Result<Vec<u8>, frost::Error>) -> String {
    match bytes {
        Ok(bytes) => format!("<{name} {}>", hex::encode(bytes)),
        Err(_) => format!("<{name} identity>"),
    }
}
