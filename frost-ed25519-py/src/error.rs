//! Everything that can go wrong, and the Python exception that says so.
//!
//! The classes themselves are Python (`frost_ed25519/exceptions.py`); this file
//! is the only place that decides which of them a failure becomes. No message
//! ever quotes an input value: an input may be a secret.

use frost_ed25519 as frost;
use pyo3::{exceptions::PyImportError, prelude::*, types::PyType};

use crate::{identifier::Identifier, once::Refusal};

/// A failure of this library.
#[derive(Debug)]
pub enum Error {
    /// The crate refused.
    Frost(frost::Error),
    /// Signing nonces cannot be used, or not any more.
    Nonces(Refusal),
    /// A secret package of the key generation cannot be used, or not any more.
    SecretPackage(Refusal),
    /// An integer is no identifier, or an identifier is no small integer.
    IdentifierOutOfRange,
    /// `max_signers` does not fit the crate's 16 bits.
    MaxSignersOutOfRange,
    /// `min_signers` does not fit the crate's 16 bits.
    MinSignersOutOfRange,
    /// A number of nonces that does not fit 16 bits.
    NoncesOutOfRange,
    /// A key package whose signing share does not belong to its verifying share.
    KeyPackageMismatch,
    /// A public key package whose group key does not belong to its shares.
    PublicKeyPackageMismatch,
    /// A group element of another length than 32 bytes.
    ElementLength,
    /// Bytes that decode, but are not what the decoded value encodes to.
    NotCanonical,
    /// Bytes that end inside a field.
    CutOff,
    /// Bytes behind the last field.
    MoreBytes,
    /// Another version of the encoding than the crate's.
    UnknownVersion,
    /// A value of another ciphersuite.
    OtherCiphersuite,
    /// Identifiers that do not ascend.
    NotSorted,
    /// A failure in one field.
    Field {
        /// Where it is.
        field: String,
        /// What it is.
        error: Box<Error>,
    },
    /// Text that is not the JSON form of the type named.
    Json {
        /// The Python name of the type.
        type_name: &'static str,
        /// Line of the offence, from 1; 0 if unknown.
        line: usize,
        /// Column of the offence, from 1; 0 if unknown.
        column: usize,
    },
}

impl From<frost::Error> for Error {
    fn from(error: frost::Error) -> Self {
        Self::Frost(error)
    }
}

impl From<frost::FieldError> for Error {
    fn from(error: frost::FieldError) -> Self {
        Self::Frost(error.into())
    }
}

impl Error {
    /// The same, in the field named.
    pub fn at(self, field: &str) -> Self {
        Self::Field {
            field: field.to_owned(),
            error: Box::new(self),
        }
    }

    /// The name of the class in `frost_ed25519.exceptions`.
    fn class(&self) -> &'static str {
        use frost::{FieldError, GroupError};
        use frost_ed25519::Error as F;
        match self {
            Self::Nonces(Refusal::Used) => "NonceReused",
            Self::Nonces(Refusal::Forked) => "ForkedNonces",
            Self::SecretPackage(Refusal::Used) => "SecretPackageReused",
            Self::SecretPackage(Refusal::Forked) => "ForkedSecretPackage",
            Self::IdentifierOutOfRange => "IdentifierOutOfRange",
            Self::MaxSignersOutOfRange => "InvalidMaxSigners",
            Self::MinSignersOutOfRange => "InvalidMinSigners",
            Self::NoncesOutOfRange => "InvalidValue",
            Self::KeyPackageMismatch => "InvalidKeyPackage",
            Self::PublicKeyPackageMismatch => "InvalidPublicKeyPackage",
            Self::Field { error, .. } => error.class(),
            Self::ElementLength => "MalformedElement",
            Self::NotCanonical
            | Self::CutOff
            | Self::MoreBytes
            | Self::UnknownVersion
            | Self::OtherCiphersuite
            | Self::NotSorted
            | Self::Json { .. } => "DeserializationError",
            Self::Frost(error) => match error {
                F::InvalidMinSigners => "InvalidMinSigners",
                F::InvalidMaxSigners => "InvalidMaxSigners",
                F::InvalidCoefficients => "InvalidCoefficients",
                F::MalformedIdentifier => "MalformedIdentifier",
                F::DuplicatedIdentifier => "DuplicatedIdentifier",
                F::UnknownIdentifier => "UnknownIdentifier",
                F::IncorrectNumberOfIdentifiers => "IncorrectNumberOfIdentifiers",
                F::MalformedSigningKey => "MalformedSigningKey",
                F::MalformedVerifyingKey => "MalformedVerifyingKey",
                F::MalformedSignature => "MalformedSignature",
                F::InvalidSignature => "InvalidSignature",
                F::DuplicatedShares => "DuplicatedShares",
                F::IncorrectNumberOfShares => "IncorrectNumberOfShares",
                F::IdentityCommitment => "IdentityCommitment",
                F::MissingCommitment => "MissingCommitment",
                F::IncorrectCommitment => "IncorrectCommitment",
                F::IncorrectNumberOfCommitments => "IncorrectNumberOfCommitments",
                F::InvalidSignatureShare { .. } => "InvalidSignatureShare",
                F::InvalidSecretShare { .. } => "InvalidSecretShare",
                F::PackageNotFound => "PackageNotFound",
                F::IncorrectNumberOfPackages => "IncorrectNumberOfPackages",
                F::IncorrectPackage => "IncorrectPackage",
                F::InvalidProofOfKnowledge { .. } => "InvalidProofOfKnowledge",
                F::FieldError(FieldError::MalformedScalar) => "MalformedScalar",
                F::FieldError(FieldError::InvalidZeroScalar) => "InvalidZeroScalar",
                F::GroupError(GroupError::MalformedElement) => "MalformedElement",
                F::GroupError(GroupError::InvalidIdentityElement) => "InvalidIdentityElement",
                F::GroupError(GroupError::InvalidNonPrimeOrderElement) => {
                    "InvalidNonPrimeOrderElement"
                }
                F::InvalidCoefficient => "InvalidCoefficient",
                F::SerializationError => "SerializationError",
                F::DeserializationError => "DeserializationError",
                // What this ciphersuite does support, and what the crate may add.
                _ => "FrostError",
            },
        }
    }

    /// What to tell the caller. Never contains a value.
    fn message(&self) -> String {
        use frost::{FieldError, GroupError};
        use frost_ed25519::Error as F;
        match self {
            Self::Nonces(Refusal::Used) => "These signing nonces were used before.".to_owned(),
            Self::Nonces(Refusal::Forked) => {
                "These signing nonces belong to the process that made them, not to its forks."
                    .to_owned()
            }
            Self::SecretPackage(Refusal::Used) => "This secret package was used before.".to_owned(),
            Self::SecretPackage(Refusal::Forked) => {
                "This secret package belongs to the process that made it, not to its forks."
                    .to_owned()
            }
            Self::IdentifierOutOfRange => {
                "The integer form of an identifier is 1 to 65535.".to_owned()
            }
            Self::MaxSignersOutOfRange => "max_signers must be 2 to 65535.".to_owned(),
            Self::MinSignersOutOfRange => {
                "min_signers must be at least 2 and not larger than max_signers".to_owned()
            }
            Self::NoncesOutOfRange => "count must be 0 to 65535.".to_owned(),
            Self::KeyPackageMismatch => {
                "The signing share does not belong to the verifying share.".to_owned()
            }
            Self::PublicKeyPackageMismatch => {
                "The verifying key does not fit the verifying shares.".to_owned()
            }
            Self::ElementLength => "An encoded group element has 32 bytes.".to_owned(),
            Self::NotCanonical => "Not the one encoding of its value.".to_owned(),
            Self::CutOff => "The bytes end too early.".to_owned(),
            Self::MoreBytes => "There are more bytes than the value has.".to_owned(),
            Self::UnknownVersion => "Not a version of the encoding that is known.".to_owned(),
            Self::OtherCiphersuite => {
                "Another ciphersuite than FROST(Ed25519, SHA-512).".to_owned()
            }
            Self::NotSorted => "The identifiers must ascend.".to_owned(),
            Self::Field { field, error } => format!("{field}: {}", continued(&error.message())),
            Self::Json {
                type_name,
                line,
                column,
            } => format!("Not the JSON form of {type_name} (line {line}, column {column})."),
            // The crate says "Error in scalar Field" for all of these.
            Self::Frost(F::FieldError(FieldError::MalformedScalar)) => {
                "Not a scalar in its canonical encoding.".to_owned()
            }
            Self::Frost(F::FieldError(FieldError::InvalidZeroScalar)) => {
                "Zero, which is not allowed here.".to_owned()
            }
            Self::Frost(F::GroupError(GroupError::MalformedElement)) => {
                "Not a point of the curve.".to_owned()
            }
            Self::Frost(F::GroupError(GroupError::InvalidIdentityElement)) => {
                "The identity, which is not allowed here.".to_owned()
            }
            Self::Frost(F::GroupError(GroupError::InvalidNonPrimeOrderElement)) => {
                "A point outside the group of prime order.".to_owned()
            }
            Self::Frost(error) => error.to_string(),
        }
    }

    /// The participants to blame, for the classes that name them.
    fn culprits(&self) -> Option<Vec<Identifier>> {
        use frost_ed25519::Error as F;
        match self {
            Self::Frost(
                error @ (F::InvalidSignatureShare { .. }
                | F::InvalidSecretShare { .. }
                | F::InvalidProofOfKnowledge { .. }),
            ) => Some(error.culprits().into_iter().map(Identifier).collect()),
            _ => None,
        }
    }
}

/// A sentence as the end of another.
fn continued(sentence: &str) -> String {
    let mut rest = sentence.chars();
    let first = rest.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(rest).collect()
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| {
            let class = match py
                .import("frost_ed25519.exceptions")
                .and_then(|module| module.getattr(error.class()))
            {
                Ok(class) => class,
                Err(failure) => return failure,
            };
            match class.cast_into::<PyType>() {
                Ok(class) => match error.culprits() {
                    Some(culprits) => PyErr::from_type(class, (error.message(), culprits)),
                    None => PyErr::from_type(class, (error.message(),)),
                },
                Err(_) => PyImportError::new_err("frost_ed25519.exceptions is damaged"),
            }
        })
    }
}

/// Whether an exception is one of this library's.
pub fn is_frost_error(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let root = py
        .import("frost_ed25519.exceptions")?
        .getattr("FrostError")?;
    Ok(error.is_instance(py, &root))
}
