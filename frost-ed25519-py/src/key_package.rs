//! What a participant keeps, and signs with.

use frost_ed25519 as frost;
use pyo3::{prelude::*, types::PyType};

use crate::{
    element::{VerifyingKey, VerifyingShare},
    error::Error,
    identifier::Identifier,
    secret::{Secret, detached},
    secret_share::SecretShare,
    wire::Wire,
};

type Inner = frost::keys::KeyPackage;

/// A participant's signing share with the public facts it belongs to.
///
/// Secret. `serialize` and `to_json` contain the share; nothing else shows it.
#[pyclass(frozen, module = "frost_ed25519.keys")]
pub struct KeyPackage(pub Secret<Inner>);

#[pymethods]
impl KeyPackage {
    /// Verify a dealt share and make it a key package (RFC 9591, appendix C.2);
    /// `InvalidSecretShare` if it does not fit the dealer's commitment.
    #[classmethod]
    fn from_secret_share(
        _class: &Bound<'_, PyType>,
        py: Python<'_>,
        secret_share: &SecretShare,
    ) -> Result<Self, Error> {
        detached(py, || {
            let package = Inner::try_from((*secret_share.0).clone())?;
            Ok(Self(Secret::new(package)))
        })
    }

    /// Whose key package it is.
    #[getter]
    fn identifier(&self) -> Identifier {
        Identifier(*self.0.identifier())
    }

    /// The participant's public key share.
    #[getter]
    fn verifying_share(&self) -> VerifyingShare {
        VerifyingShare(*self.0.verifying_share())
    }

    /// The group's public key.
    #[getter]
    fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(*self.0.verifying_key())
    }

    /// The threshold, t.
    #[getter]
    fn min_signers(&self) -> u16 {
        *self.0.min_signers()
    }

    fn __repr__(&self) -> String {
        format!("<KeyPackage of {}>", self.identifier().repr())
    }
}

impl Wire for Inner {
    const NAME: &'static str = "KeyPackage";

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }

    /// The crate takes the four parts as they come.
    fn check(&self) -> Result<(), Error> {
        if *self.min_signers() < 2 {
            return Err(frost::Error::InvalidMinSigners.into());
        }
        if frost::keys::VerifyingShare::from(*self.signing_share()) != *self.verifying_share() {
            return Err(Error::KeyPackageMismatch);
        }
        Ok(())
    }
}

crate::wire::secret_methods!(KeyPackage, frost_ed25519::keys::KeyPackage);
crate::secret::no_copies!(KeyPackage);
