//! Published test vectors need what is otherwise drawn at random to be given.
//! Only in builds with the feature `deterministic`, which are not for use.

use frost_ed25519 as frost;
use pyo3::prelude::*;
use rand_core::{CryptoRng, RngCore};

/// The length of a scalar and of the randomness of a nonce.
const LENGTH: usize = 32;

/// A generator that gives out a script, then zeros.
struct Script(std::vec::IntoIter<u8>);

impl Script {
    fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into_iter())
    }

    /// The script that makes the crate draw the given scalars: it reduces 64
    /// bytes, little-endian, for each.
    fn of_scalars<'a>(scalars: impl IntoIterator<Item = &'a [u8; LENGTH]>) -> Self {
        let wide = scalars.into_iter().map(|scalar| [*scalar, [0; LENGTH]]);
        Self::new(wide.flatten().flatten().collect())
    }
}

impl RngCore for Script {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for byte in dest {
            *byte = self.0.next().unwrap_or_default();
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

/// It is not one; the crate's functions demand the claim.
impl CryptoRng for Script {}

/// Functions that take what is otherwise drawn at random.
#[pymodule]
pub mod vectors {
    use frost::{Ciphersuite, Ed25519Sha512};
    use pyo3::types::{PyBytes, PyDict};

    use super::{LENGTH, Script, frost};
    use crate::{
        dealer::{Dealt, optional_identifiers},
        dkg::{self, Round1Package, Round1SecretPackage},
        element::VerifyingKey,
        error::Error,
        identifier::{Identifier, IdentifierLike},
        key_package::KeyPackage,
        public_key_package::PublicKeyPackage,
        round1::{SigningCommitments, SigningNonces},
        signers::Count,
        signing_key::SigningKey,
        signing_package::SigningPackage,
    };
    use pyo3::prelude::*;

    /// Commit with the given random bytes (RFC 9591, section 4.1).
    #[pyfunction]
    fn commit_with_randomness(
        key_package: &KeyPackage,
        hiding_randomness: [u8; LENGTH],
        binding_randomness: [u8; LENGTH],
    ) -> (SigningNonces, SigningCommitments) {
        let mut script = Script::new([hiding_randomness, binding_randomness].concat());
        let share = key_package.0.signing_share();
        let (nonces, commitments) = frost::round1::commit(share, &mut script);
        (SigningNonces::new(nonces), SigningCommitments(commitments))
    }

    /// Use nonces up by showing them: hiding, then binding.
    #[pyfunction]
    fn reveal_nonces<'py>(
        py: Python<'py>,
        nonces: &SigningNonces,
    ) -> Result<(Bound<'py, PyBytes>, Bound<'py, PyBytes>), Error> {
        let nonces = nonces.once.take().map_err(Error::Nonces)?;
        Ok((
            PyBytes::new(py, &nonces.hiding().serialize()),
            PyBytes::new(py, &nonces.binding().serialize()),
        ))
    }

    /// Split with the given polynomial coefficients, without the constant term.
    #[pyfunction]
    #[pyo3(signature = (signing_key, max_signers, coefficients, identifiers = None))]
    fn split_with_coefficients<'py>(
        py: Python<'py>,
        signing_key: &SigningKey,
        max_signers: Count,
        coefficients: Vec<[u8; LENGTH]>,
        #[pyo3(from_py_with = optional_identifiers)] identifiers: Option<Vec<frost::Identifier>>,
    ) -> PyResult<(Bound<'py, PyDict>, PublicKeyPackage)> {
        let min_signers =
            u16::try_from(coefficients.len() + 1).map_err(|_| Error::MinSignersOutOfRange)?;
        Dealt::split(
            &signing_key.0,
            max_signers.max_signers()?,
            min_signers,
            &identifiers,
            &mut Script::of_scalars(&coefficients),
        )?
        .into_python(py)
    }

    /// Part 1 with the given polynomial and the given nonce of the proof.
    #[pyfunction]
    fn part1_with_secret(
        identifier: IdentifierLike,
        max_signers: Count,
        signing_key: [u8; LENGTH],
        coefficients: Vec<[u8; LENGTH]>,
        proof_nonce: [u8; LENGTH],
    ) -> Result<(Round1SecretPackage, Round1Package), Error> {
        let min_signers =
            u16::try_from(coefficients.len() + 1).map_err(|_| Error::MinSignersOutOfRange)?;
        let scalars = [&signing_key]
            .into_iter()
            .chain(&coefficients)
            .chain([&proof_nonce]);
        let result = frost::keys::dkg::part1(
            identifier.0,
            max_signers.max_signers()?,
            min_signers,
            Script::of_scalars(scalars),
        )?;
        Ok(dkg::part1_to_python(identifier.0, result))
    }

    /// The input and the value of each participant's binding factor (RFC 9591,
    /// section 4.4).
    #[pyfunction]
    fn binding_factors<'py>(
        py: Python<'py>,
        signing_package: &SigningPackage,
        verifying_key: &VerifyingKey,
    ) -> PyResult<Bound<'py, PyDict>> {
        let preimages = signing_package
            .0
            .binding_factor_preimages(&verifying_key.0, &[])
            .map_err(Error::from)?;
        let dict = PyDict::new(py);
        for (identifier, preimage) in preimages {
            let factor = Ed25519Sha512::H1(&preimage).to_bytes();
            let value = (PyBytes::new(py, &preimage), PyBytes::new(py, &factor));
            dict.set_item(Identifier(identifier), value)?;
        }
        Ok(dict)
    }
}
