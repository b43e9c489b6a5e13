//! What bincode 1 makes of a `PublicKeyPackage`, the form in which coordinators
//! written in Rust keep it. The layout is fixed, and read here strictly: the
//! reader that the crate brings for serde would ignore what is behind it.

use std::collections::BTreeMap;

use frost_core::Group;
use frost_ed25519 as frost;

use crate::{
    error::Error,
    identifier::Identifier,
    signers::check_group,
    wire::{self, Wire},
};

type Package = frost::keys::PublicKeyPackage;
type Key = frost::VerifyingKey;
type Share = frost::keys::VerifyingShare;

/// The bytes of an identifier, and of a group element.
const LENGTH: usize = 32;

/// What leads every encoding of the crate's structures.
struct Header {
    version: [u8; 1],
    ciphersuite: [u8; 4],
}

impl Header {
    /// The crate tells its header only as the front of something.
    fn of_the_crate() -> Result<Self, Error> {
        let key = Key::new(frost::Ed25519Group::generator());
        let bytes = Package::new(BTreeMap::new(), key, None).serialize()?;
        let mut reader = Reader { rest: &bytes };
        Ok(Self {
            version: reader.take("header.version")?,
            ciphersuite: reader.take("header.ciphersuite")?,
        })
    }
}

/// Takes fields of fixed length off the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self, field: &str) -> Result<[u8; N], Error> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| Error::CutOff.at(field))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn value<T: Wire>(&mut self, field: &str) -> Result<T, Error> {
        let bytes: [u8; LENGTH] = self.take(field)?;
        wire::from_bytes(&bytes).map_err(|error| error.at(field))
    }
}

/// Encode as bincode 1 does.
pub fn encode(package: &Package) -> Result<Vec<u8>, Error> {
    let header = Header::of_the_crate()?;
    let shares = package.verifying_shares();
    let mut bytes = [header.version.as_slice(), &header.ciphersuite].concat();
    bytes.extend((shares.len() as u64).to_le_bytes());
    for (identifier, share) in shares {
        bytes.extend(identifier.serialize());
        bytes.extend(share.serialize()?);
    }
    bytes.extend(package.verifying_key().serialize()?);
    // As the crate: a threshold that is not known is left out.
    if let Some(threshold) = package.min_signers() {
        bytes.push(1);
        bytes.extend(threshold.to_le_bytes());
    }
    Ok(bytes)
}

/// The inverse of `encode`; every error names its field.
pub fn decode(bytes: &[u8]) -> Result<Package, Error> {
    let mut reader = Reader { rest: bytes };
    let header = Header::of_the_crate()?;
    if reader.take("header.version")? != header.version {
        return Err(Error::UnknownVersion.at("header.version"));
    }
    if reader.take("header.ciphersuite")? != header.ciphersuite {
        return Err(Error::OtherCiphersuite.at("header.ciphersuite"));
    }
    let shares = decode_shares(&mut reader)?;
    let key = reader.value::<Key>("verifying_key")?;
    let min_signers = decode_min_signers(reader.rest)?;
    check_group(shares.len(), min_signers).map_err(|error| error.at("min_signers"))?;
    Ok(Package::new(shares, key, min_signers))
}

/// A map: its length, and its entries in the order of the identifiers.
fn decode_shares(reader: &mut Reader<'_>) -> Result<BTreeMap<frost::Identifier, Share>, Error> {
    const FIELD: &str = "verifying_shares";
    let count = u64::from_le_bytes(reader.take(FIELD)?);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    check_group(count, None).map_err(|error| error.at(FIELD))?;
    let mut shares = BTreeMap::new();
    for position in 1..=count {
        let field = format!("{FIELD}, identifier {position} of {count}");
        let identifier = reader.value::<frost::Identifier>(&field)?;
        match shares.last_key_value() {
            Some((last, _)) if *last == identifier => {
                return Err(Error::from(frost::Error::DuplicatedIdentifier).at(&field));
            }
            Some((last, _)) if *last > identifier => return Err(Error::NotSorted.at(&field)),
            _ => {}
        }
        let field = match Identifier(identifier).small() {
            Some(number) => format!("{FIELD}[{number}]"),
            None => format!("{FIELD}, share {position} of {count}"),
        };
        shares.insert(identifier, reader.value(&field)?);
    }
    Ok(shares)
}

/// What version 3 of the crate puts at the end.
fn decode_min_signers(rest: &[u8]) -> Result<Option<u16>, Error> {
    match rest {
        [] => Ok(None),
        [1, low, high] => Ok(Some(u16::from_le_bytes([*low, *high]))),
        [1] | [1, _] => Err(Error::CutOff.at("min_signers")),
        _ => Err(Error::MoreBytes),
    }
}
