//! The threshold of a group, from its public points alone.

use std::collections::BTreeSet;

use frost::{Ed25519Group, Ed25519ScalarField, Ed25519Sha512};
use frost_core::{Element, Field, Group, Scalar, compute_lagrange_coefficient};
use frost_ed25519 as frost;
use rand_core::OsRng;

use crate::error::Error;

type Package = frost::keys::PublicKeyPackage;

/// A participant: its identifier, its public point, and the Lagrange coefficient
/// that it has at zero among all participants.
struct Point {
    identifier: Scalar<Ed25519Sha512>,
    element: Element<Ed25519Sha512>,
    coefficient: Scalar<Ed25519Sha512>,
}

/// The smallest t of which any t points give all others.
///
/// The n verifying shares, and the group's key at zero, are the values of a
/// polynomial of degree t - 1. With x, Y and c the three parts of a `Point`, the
/// sums of c x^j Y over all participants (for j = 0, less the group's key) are
/// the identity for all j < n - t + 1 and not for the next: they are, up to one
/// factor, the leading coefficients of the polynomials that x^j times the values
/// have on the n + 1 places.
pub fn derive(package: &Package) -> Result<u16, Error> {
    let points = points(package)?;
    let key = package.verifying_key().to_element();
    // Bisection: the first `low` sums are known to vanish, the first `high` not to.
    let (mut low, mut high) = (0, points.len() + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if vanish(&points, key, middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    match u16::try_from(points.len() + 1 - low) {
        _ if low == 0 => Err(Error::PublicKeyPackageMismatch),
        Ok(t) if t >= 2 => Ok(t),
        _ => Err(frost::Error::InvalidMinSigners.into()),
    }
}

fn points(package: &Package) -> Result<Vec<Point>, Error> {
    let identifiers: BTreeSet<_> = package.verifying_shares().keys().copied().collect();
    let point = |(identifier, share): (&frost::Identifier, &frost::keys::VerifyingShare)| {
        Ok(Point {
            identifier: identifier.to_scalar(),
            element: share.to_element(),
            coefficient: compute_lagrange_coefficient(&identifiers, None, *identifier)?,
        })
    };
    package.verifying_shares().iter().map(point).collect()
}

/// Whether the first `count` sums (at least one) all are the identity: they are
/// added up, each times another power of a random scalar. A sum that is not the
/// identity would go unseen with a chance of less than `count` in 2^252.
fn vanish(points: &[Point], key: Element<Ed25519Sha512>, count: usize) -> bool {
    let random = Ed25519ScalarField::random(&mut OsRng);
    let mut sum = Ed25519Group::identity() - key;
    for point in points {
        let step = random * point.identifier;
        let mut factor = Ed25519ScalarField::zero();
        for _ in 0..count {
            factor = factor * step + Ed25519ScalarField::one();
        }
        sum += point.element * (point.coefficient * factor);
    }
    sum == Ed25519Group::identity()
}
