//! Round two: signature shares (RFC 9591, section 5.2).

use std::hash::{Hash, Hasher};

use frost_ed25519 as frost;
use pyo3::{prelude::*, types::PyList};

use crate::{
    batch, element::repr, error::Error, key_package::KeyPackage, mapping::Wraps,
    round1::SigningNonces, secret::detached, signing_package::SigningPackage, wire::Wire,
};

type Inner = frost::round2::SignatureShare;

/// One participant's part of a signature, a scalar of 32 bytes.
#[pyclass(frozen, eq, hash, module = "frost_ed25519.round2")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SignatureShare(pub Inner);

impl Hash for SignatureShare {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.serialize().hash(state);
    }
}

impl Wraps for SignatureShare {
    type Inner = Inner;

    fn inner(&self) -> &Self::Inner {
        &self.0
    }
}

#[pymethods]
impl SignatureShare {
    fn __repr__(&self) -> String {
        repr("SignatureShare", Ok(self.0.serialize()))
    }
}

impl Wire for Inner {
    const NAME: &'static str = "SignatureShare";

    fn encode(&self) -> Result<Vec<u8>, frost::Error> {
        Ok(self.serialize())
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        Ok(Self::deserialize(bytes)?)
    }
}

crate::wire::public_methods!(SignatureShare, frost_ed25519::round2::SignatureShare);

/// Make this participant's signature share (RFC 9591, section 5.2).
///
/// The nonces are gone before anything is computed, whatever comes of it; a
/// second use raises `NonceReused`, one in a fork `ForkedNonces`.
#[pyfunction]
pub fn sign(
    py: Python<'_>,
    signing_package: &SigningPackage,
    nonces: &SigningNonces,
    key_package: &KeyPackage,
) -> Result<SignatureShare, Error> {
    let nonces = nonces.once.take().map_err(Error::Nonces)?;
    let share = detached(py, || {
        frost::round2::sign(&signing_package.0, &nonces, &key_package.0)
    })?;
    Ok(SignatureShare(share))
}

/// `sign` for each of many.
///
/// All nonces are gone before anything is computed. An item that `sign` would
/// have refused is the exception instead.
#[pyfunction]
pub fn sign_many<'py>(
    py: Python<'py>,
    requests: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    type Request = (Py<SigningPackage>, Py<SigningNonces>, Py<KeyPackage>);

    // A wrong type anywhere ends the call here, before any nonces are taken.
    let requests: Vec<Request> = batch::requests(requests, 3)?;
    let nonces: Vec<_> = requests
        .iter()
        .map(|(_, nonces, _)| nonces.get().once.take())
        .collect();
    let shares = detached(py, || {
        requests
            .iter()
            .zip(nonces)
            .map(|((signing_package, _, key_package), nonces)| {
                let nonces = nonces.map_err(Error::Nonces)?;
                let (package, key) = (&signing_package.get().0, &key_package.get().0);
                Ok(SignatureShare(frost::round2::sign(package, &nonces, key)?))
            })
            .collect::<Vec<Result<_, Error>>>()
    });
    batch::outcomes(py, shares)
}
