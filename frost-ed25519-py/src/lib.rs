//! The native half of the Python package `frost_ed25519`: a binding to the
//! crate `frost-ed25519`. All cryptography is the crate's; this library checks
//! types, keeps secrets in, and lets Python run while it computes.

mod aggregate;
mod batch;
mod bincode;
mod commitment;
mod dealer;
mod dkg;
mod element;
mod entries;
mod error;
mod identifier;
mod key_package;
mod mapping;
mod once;
mod public_key_package;
mod round1;
mod round2;
mod secret;
mod secret_share;
mod shape;
mod signature;
mod signers;
mod signing_key;
mod signing_package;
mod threshold;
#[cfg(feature = "deterministic")]
mod vectors;
mod wire;

use pyo3::prelude::*;

/// The native half of `frost_ed25519`. Import the names from there.
#[pymodule]
mod _native {
    use pyo3::{prelude::*, types::PyModule};

    #[pymodule_export]
    use crate::{
        aggregate::{aggregate, aggregate_many, verify_signature_share},
        commitment::VerifiableSecretSharingCommitment,
        dealer::{generate_with_dealer, split},
        dkg::{part1, part2, part3},
        element::{VerifyingKey, VerifyingShare, verify_many},
        identifier::Identifier,
        key_package::KeyPackage,
        public_key_package::PublicKeyPackage,
        round1::{SigningCommitments, SigningNonces, commit, commit_many, decode_many},
        round2::{SignatureShare, sign, sign_many},
        secret_share::SecretShare,
        signature::Signature,
        signing_key::SigningKey,
        signing_package::SigningPackage,
    };

    #[cfg(feature = "deterministic")]
    #[pymodule_export]
    use crate::vectors::vectors;

    use crate::dkg::{Round1Package, Round1SecretPackage, Round2Package, Round2SecretPackage};

    /// The name of the ciphersuite (RFC 9591, section 6.1).
    #[pymodule_export]
    const CIPHERSUITE: &str = <frost_ed25519::Ed25519Sha512 as frost_ed25519::Ciphersuite>::ID;

    /// The version of this distribution.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// The classes of the key generation share their names, as in the crate:
    /// here they need others.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("Round1SecretPackage", py.get_type::<Round1SecretPackage>())?;
        module.add("Round1Package", py.get_type::<Round1Package>())?;
        module.add("Round2SecretPackage", py.get_type::<Round2SecretPackage>())?;
        module.add("Round2Package", py.get_type::<Round2Package>())
    }
}
