//! The finished signature.

use std::hash::{Hash, Hasher};

use frost_ed25519 as frost;
use pyo3::prelude::*;

use crate::{element::repr, error::Error, wire::Wire};

/// An Ed25519 signature, 64 bytes: R then z (RFC 9591, section 5.3; RFC 8032).
#[pyclass(frozen, eq, hash, module = "frost_ed25519")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub frost::Signature);

impl Hash for Signature {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().unwrap_or_default().hash(state);
    }
}

#[pymethods]
impl Signature {
    fn __repr__(&self) -> String {
        repr("Signature", self.0.serialize())
    }
}

impl Wire for frost::Signature {
    const NAME: &'static str = "Signature";
    const OBJECT: bool = false;

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }
}

crate::wire::public_methods!(Signature, frost_ed25519::Signature);
