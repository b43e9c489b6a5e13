//! Key generation without a dealer.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
};

use frost::keys::dkg;
use frost_ed25519 as frost;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyMapping},
};
use rand_core::OsRng;

use crate::{
    commitment::{self, VerifiableSecretSharingCommitment},
    error::Error,
    identifier::{Identifier, IdentifierLike},
    key_package::KeyPackage,
    mapping::{Wraps, from_mapping, to_dict},
    once::Once,
    public_key_package::PublicKeyPackage,
    secret::{Secret, detached, scrubbed, secrets},
    signature::Signature,
    signers::Count,
    wire::Wire,
};

/// What all other participants broadcast.
type Round1Packages = BTreeMap<frost::Identifier, dkg::round1::Package>;

/// What a participant keeps between part 1 and part 2.
///
/// Secret. Used once, by `part2`, in the process that made it; has no byte form.
#[pyclass(
    frozen,
    name = "SecretPackage",
    module = "frost_ed25519.keys.dkg.round1"
)]
pub struct Round1SecretPackage {
    identifier: frost::Identifier,
    once: Once<dkg::round1::SecretPackage>,
}

#[pymethods]
impl Round1SecretPackage {
    /// Whose it is.
    #[getter]
    fn identifier(&self) -> Identifier {
        Identifier(self.identifier)
    }

    /// Whether it has been used, or belongs to another process.
    #[getter]
    fn consumed(&self) -> bool {
        self.once.is_taken()
    }

    fn __repr__(&self) -> String {
        format!("<SecretPackage (round 1) of {}>", self.identifier().repr())
    }
}

crate::secret::no_copies!(Round1SecretPackage);

/// What a participant broadcasts after part 1: its commitment and a proof that
/// it knows the secret in it. Public, but the channel must be authentic, and
/// everyone must receive the same.
#[pyclass(
    frozen,
    eq,
    hash,
    name = "Package",
    module = "frost_ed25519.keys.dkg.round1"
)]
#[derive(Clone, PartialEq, Eq)]
pub struct Round1Package(pub dkg::round1::Package);

impl Hash for Round1Package {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().unwrap_or_default().hash(state);
    }
}

impl Wraps for Round1Package {
    type Inner = dkg::round1::Package;

    fn inner(&self) -> &Self::Inner {
        &self.0
    }
}

#[pymethods]
impl Round1Package {
    #[new]
    fn new(commitment: &VerifiableSecretSharingCommitment, proof_of_knowledge: &Signature) -> Self {
        let commitment = commitment.0.clone();
        Self(dkg::round1::Package::new(commitment, proof_of_knowledge.0))
    }

    /// The commitment to the participant's polynomial.
    #[getter]
    fn commitment(&self) -> VerifiableSecretSharingCommitment {
        VerifiableSecretSharingCommitment(self.0.commitment().clone())
    }

    /// The proof that the participant knows its constant term.
    #[getter]
    fn proof_of_knowledge(&self) -> Signature {
        Signature(*self.0.proof_of_knowledge())
    }

    fn __repr__(&self) -> String {
        let commitment = self.0.commitment().serialize_whole().unwrap_or_default();
        format!("<Package (round 1) {}>", hex::encode(commitment))
    }
}

impl Wire for dkg::round1::Package {
    const NAME: &'static str = "Package";

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

crate::wire::public_methods!(Round1Package, frost_ed25519::keys::dkg::round1::Package);

/// What a participant keeps between part 2 and part 3.
///
/// Secret. Used once, by `part3`, in the process that made it; has no byte form.
#[pyclass(
    frozen,
    name = "SecretPackage",
    module = "frost_ed25519.keys.dkg.round2"
)]
pub struct Round2SecretPackage {
    identifier: frost::Identifier,
    once: Once<dkg::round2::SecretPackage>,
    round1_packages: Round1Packages,
}

#[pymethods]
impl Round2SecretPackage {
    /// Whose it is.
    #[getter]
    fn identifier(&self) -> Identifier {
        Identifier(self.identifier)
    }

    /// Whether it has been used, or belongs to another process.
    #[getter]
    fn consumed(&self) -> bool {
        self.once.is_taken()
    }

    fn __repr__(&self) -> String {
        format!("<SecretPackage (round 2) of {}>", self.identifier().repr())
    }
}

crate::secret::no_copies!(Round2SecretPackage);

/// What a participant sends to one other participant after part 2, on a
/// confidential and authentic channel.
///
/// Secret. `serialize` and `to_json` contain the share it carries.
#[pyclass(frozen, name = "Package", module = "frost_ed25519.keys.dkg.round2")]
pub struct Round2Package(pub Secret<dkg::round2::Package>);

impl Wraps for Round2Package {
    type Inner = dkg::round2::Package;

    fn inner(&self) -> &Self::Inner {
        &self.0
    }
}

#[pymethods]
impl Round2Package {
    /// Make one from a signing share, a scalar of 32 bytes.
    #[new]
    fn new(signing_share: &Bound<'_, PyBytes>) -> Result<Self, Error> {
        scrubbed(|| {
            let share = frost::keys::SigningShare::deserialize(signing_share.as_bytes())?;
            Ok(Self(Secret::new(dkg::round2::Package::new(share))))
        })
    }

    fn __repr__(&self) -> &'static str {
        "<Package (round 2)>"
    }
}

impl Wire for dkg::round2::Package {
    const NAME: &'static str = "Package";

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        self.serialize()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }
}

crate::wire::secret_methods!(Round2Package, frost_ed25519::keys::dkg::round2::Package);
crate::secret::no_copies!(Round2Package);

/// Wrap the result of part 1.
pub fn part1_to_python(
    identifier: frost::Identifier,
    result: (dkg::round1::SecretPackage, dkg::round1::Package),
) -> (Round1SecretPackage, Round1Package) {
    let (secret, package) = result;
    let once = Once::new(Secret::new(secret));
    (
        Round1SecretPackage { identifier, once },
        Round1Package(package),
    )
}

/// Part 1: choose a secret and commit to it.
///
/// Returns the secret package to keep and the package to broadcast.
#[pyfunction]
pub fn part1(
    py: Python<'_>,
    identifier: IdentifierLike,
    max_signers: Count,
    min_signers: Count,
) -> Result<(Round1SecretPackage, Round1Package), Error> {
    let (max_signers, min_signers) = (max_signers.max_signers()?, min_signers.min_signers()?);
    detached(py, || {
        let result = dkg::part1(identifier.0, max_signers, min_signers, OsRng)?;
        Ok(part1_to_python(identifier.0, result))
    })
}

/// Part 2: check what the others broadcast, and make a share for each of them.
///
/// `round1_packages` has the packages of all other participants. The secret
/// package is gone afterwards, whatever comes of it. Returns the secret package
/// to keep, and the package to send to each participant.
#[pyfunction]
pub fn part2<'py>(
    py: Python<'py>,
    secret_package: &Round1SecretPackage,
    round1_packages: &Bound<'_, PyMapping>,
) -> PyResult<(Round2SecretPackage, Bound<'py, PyDict>)> {
    let round1_packages = from_mapping::<Round1Package>(round1_packages)?;
    let identifier = secret_package.identifier;
    let secret = secret_package.once.take().map_err(Error::SecretPackage)?;
    let (once, packages) = detached(py, || {
        let (secret, packages) = dkg::part2((*secret).clone(), &round1_packages)?;
        Ok::<_, Error>((Once::new(Secret::new(secret)), secrets(packages)))
    })?;
    let secret = Round2SecretPackage {
        identifier,
        once,
        round1_packages,
    };
    Ok((secret, to_dict(py, packages, Round2Package)?))
}

/// Part 3: check the shares the others sent, and derive the key package.
///
/// `round1_packages` must be those of part 2; `round2_packages` are those sent
/// to this participant. The secret package is gone afterwards, whatever comes of it.
#[pyfunction]
pub fn part3(
    py: Python<'_>,
    secret_package: &Round2SecretPackage,
    round1_packages: &Bound<'_, PyMapping>,
    round2_packages: &Bound<'_, PyMapping>,
) -> PyResult<(KeyPackage, PublicKeyPackage)> {
    let round1_packages = from_mapping::<Round1Package>(round1_packages)?;
    let round2_packages = scrubbed(|| from_mapping::<Round2Package>(round2_packages))?;
    let secret = secret_package.once.take().map_err(Error::SecretPackage)?;
    // The crate demands it and does not see it.
    if round1_packages != secret_package.round1_packages {
        return Err(Error::from(frost::Error::IncorrectPackage).into());
    }
    let (key_package, public) = detached(py, move || {
        let (key_package, public) = dkg::part3(&secret, &round1_packages, &round2_packages)?;
        Ok::<_, Error>((Secret::new(key_package), public))
    })?;
    Ok((KeyPackage(key_package), PublicKeyPackage(public)))
}
