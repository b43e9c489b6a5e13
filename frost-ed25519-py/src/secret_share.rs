//! What a dealer sends to one participant.

use frost_ed25519 as frost;
use pyo3::prelude::*;

use crate::{
    commitment::{self, VerifiableSecretSharingCommitment},
    element::{VerifyingKey, VerifyingShare},
    error::Error,
    identifier::Identifier,
    secret::{Secret, detached},
    wire::Wire,
};

type Inner = frost::keys::SecretShare;

/// A dealt share and the dealer's commitment (RFC 9591, appendix C).
///
/// Secret. `serialize` and `to_json` contain the share.
#[pyclass(frozen, module = "frost_ed25519.keys")]
pub struct SecretShare(pub Secret<Inner>);

#[pymethods]
impl SecretShare {
    /// Whose share it is.
    #[getter]
    fn identifier(&self) -> Identifier {
        Identifier(*self.0.identifier())
    }

    /// The dealer's commitment; must be the same for all participants.
    #[getter]
    fn commitment(&self) -> VerifiableSecretSharingCommitment {
        VerifiableSecretSharingCommitment(self.0.commitment().clone())
    }

    /// Check the share against the commitment (RFC 9591, appendix C.2,
    /// `vss_verify`); `InvalidSecretShare` if it does not fit.
    fn verify(&self, py: Python<'_>) -> Result<(VerifyingShare, VerifyingKey), Error> {
        let (share, key) = detached(py, || self.0.verify())?;
        Ok((VerifyingShare(share), VerifyingKey(key)))
    }

    fn __repr__(&self) -> String {
        format!("<SecretShare of {}>", self.identifier().repr())
    }
}

impl Wire for Inner {
    const NAME: &'static str = "SecretShare";

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }

    fn check(&self) -> Result<(), Error> {
        commitment::check(self.commitment())
    }
}

crate::wire::secret_methods!(SecretShare, frost_ed25519::keys::SecretShare);
crate::secret::no_copies!(SecretShare);
