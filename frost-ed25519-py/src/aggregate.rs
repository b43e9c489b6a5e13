//! The coordinator's last step (RFC 9591, section 5.3).

use std::collections::BTreeMap;

use frost::{Ciphersuite, Ed25519ScalarField, Ed25519Sha512, Field};
use frost_core::{compute_binding_factor_list, compute_group_commitment};
use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    types::{PyList, PyMapping},
};

use crate::{
    batch::{self, Signed},
    element::{VerifyingKey, VerifyingShare},
    error::{Error, is_frost_error},
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
    Ok(py.detach(|| alone(&signing_package.0, &shares, &public_key_package.0))?)
}

/// `aggregate` for each of many, verified together.
///
/// An item that it would have refused is the exception instead.
#[pyfunction]
pub fn aggregate_many<'py>(
    py: Python<'py>,
    requests: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let requests = batch::requests(requests, 3)?
        .into_iter()
        .map(|request| Request::read(py, request))
        .collect::<PyResult<Vec<_>>>()?;
    let readable: Vec<&Request> = requests.iter().flatten().collect();
    let outcomes = py.detach(|| batch::verify(&readable, |each| each.sum(), |each| each.alone()));
    let mut outcomes = outcomes.into_iter();
    batch::outcomes(
        py,
        requests.into_iter().filter_map(|request| match request {
            Ok(_) => Some(outcomes.next()?.map_err(PyErr::from)),
            Err(refusal) => Some(Err(refusal)),
        }),
    )
}

type Shares = BTreeMap<frost::Identifier, frost::round2::SignatureShare>;

/// What `aggregate` takes.
struct Request {
    signing_package: Py<SigningPackage>,
    shares: Shares,
    public_key_package: Py<PublicKeyPackage>,
}

impl Request {
    /// The shares of an item may name somebody twice, or nobody: that is the
    /// item's outcome. A wrong type is that of the whole call.
    fn read(
        py: Python<'_>,
        (signing_package, shares, public_key_package): (
            Py<SigningPackage>,
            Bound<'_, PyMapping>,
            Py<PublicKeyPackage>,
        ),
    ) -> PyResult<PyResult<Self>> {
        Ok(match from_mapping::<SignatureShare>(&shares) {
            Ok(shares) => Ok(Self {
                signing_package,
                shares,
                public_key_package,
            }),
            Err(error) if is_frost_error(py, &error)? => Err(error),
            Err(error) => return Err(error),
        })
    }

    /// As the crate does it, with its search for all who cheated.
    fn alone(&self) -> Result<Signature, Error> {
        let (signing_package, public_key_package) = (
            &self.signing_package.get().0,
            &self.public_key_package.get().0,
        );
        alone(signing_package, &self.shares, public_key_package)
    }

    /// The signature before it is verified. `None` leaves the item, and the word
    /// on what is wrong with it, to `alone`.
    ///
    /// The crate's `aggregate` verifies each signature by itself. What comes
    /// before that is repeated here out of the parts that it consists of, which
    /// are open to others as its `internals`: the same calls in the same order,
    /// and so the same signature. What the crate looks at first is looked at
    /// here too; all else that it could refuse shows in the verification.
    fn sum(&self) -> Option<(Signed, Signature)> {
        let package = &self.signing_package.get().0;
        let public = &self.public_key_package.get().0;
        if !fits(package, &self.shares, public) {
            return None;
        }
        let (package, shares, public) =
            Ed25519Sha512::pre_aggregate(package, &self.shares, public).ok()?;
        let key = *public.verifying_key();
        let factors = compute_binding_factor_list(&package, &key, &[]).ok()?;
        let package = Ed25519Sha512::pre_commitment_aggregate(&package, &factors).ok()?;
        let commitment = compute_group_commitment(&package, &factors).ok()?;
        let mut z = Ed25519ScalarField::zero();
        for share in shares.values() {
            // The crate gives the scalar of a share as bytes only.
            let bytes = share.serialize().try_into().ok()?;
            z += Ed25519ScalarField::deserialize(&bytes).ok()?;
        }
        let signature = frost::Signature::new(commitment.to_element(), z);
        let signed = Signed::new(key, signature, package.message()).ok()?;
        Some((signed, Signature(signature)))
    }
}

/// Whether the crate's `aggregate` gets as far as adding up: a share for each
/// commitment and no others, all of the group, and as many as the threshold.
fn fits(
    package: &frost::SigningPackage,
    shares: &Shares,
    public: &frost::keys::PublicKeyPackage,
) -> bool {
    let commitments = package.signing_commitments();
    commitments.len() == shares.len()
        && public
            .min_signers()
            .is_none_or(|least| shares.len() >= usize::from(least))
        && commitments
            .keys()
            .all(|who| shares.contains_key(who) && public.verifying_shares().contains_key(who))
}

fn alone(
    package: &frost::SigningPackage,
    shares: &Shares,
    public: &frost::keys::PublicKeyPackage,
) -> Result<Signature, Error> {
    let detection = frost::CheaterDetection::AllCheaters;
    let signature = frost::aggregate_custom(package, shares, public, detection)?;
    Ok(Signature(signature))
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
