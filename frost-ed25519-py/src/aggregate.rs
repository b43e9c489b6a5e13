//! The coordinator's last step (RFC 9591, section 5.3).

use frost_ed25519 as frost;
use pyo3::{prelude::*, types::PyMapping};

use crate::{
    element::{VerifyingKey, VerifyingShare},
    error::Error,
    identifier::IdentifierLike,
    mapping::from_mapping,
    public_key_package::PublicKeyPackage,
    round2::SignatureShare,
    signature::Signature,
    signing_package::SigningPackage,
};

/// Add the shares up to a signature, and verify it (RFC 9591, section 5.3).
///
/// If it is bad, every share is checked and `InvalidSignatureShare` names all
/// participants whose share is bad.
#[pyfunction]
pub fn aggregate(
    py: Python<'_>,
    signing_package: &SigningPackage,
    signature_shares: &Bound<'_, PyMapping>,
    public_key_package: &PublicKeyPackage,
) -> PyResult<Signature> {
    let shares = from_mapping::<SignatureShare>(signature_shares)?;
    let signature = py.detach(|| {
        frost::aggregate_custom(
            &signing_package.0,
            &shares,
            &public_key_package.0,
            frost::CheaterDetection::AllCheaters,
        )
    });
    Ok(Signature(signature.map_err(Error::from)?))
}

/// Check one signature share (RFC 9591, section 5.3).
///
/// `InvalidSignatureShare` if it is bad, `UnknownIdentifier` if the signing
/// package has nothing of this participant.
#[pyfunction]
pub fn verify_signature_share(
    py: Python<'_>,
    identifier: IdentifierLike,
    verifying_share: &VerifyingShare,
    signature_share: &SignatureShare,
    signing_package: &SigningPackage,
    verifying_key: &VerifyingKey,
) -> Result<(), Error> {
    Ok(py.detach(|| {
        frost_core::verify_signature_share(
            identifier.0,
            &verifying_share.0,
            &signature_share.0,
            &signing_package.0,
            &verifying_key.0,
        )
    })?)
}
