//! The public side of a group, from its file.

use std::{error::Error, fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use frost_ed25519::{Identifier, keys::PublicKeyPackage};
use serde::Deserialize;

/// The original coordinator's file, which `frost-sidecar keygen` writes.
#[derive(Deserialize)]
struct GroupFile {
    public_key_package: Vec<u8>,
}

pub struct Group {
    pub public: PublicKeyPackage,
    pub public_b64: String,
    pub min_signers: usize,
}

impl Group {
    /// Read the file; `min_signers` must be what the file says, if it does.
    pub fn load(path: &Path, min_signers: u16) -> Result<Self, Box<dyn Error>> {
        let file: GroupFile = serde_json::from_slice(&fs::read(path)?)?;
        let public: PublicKeyPackage = bincode::deserialize(&file.public_key_package)?;
        if public.min_signers().is_some_and(|said| said != min_signers) || min_signers < 2 {
            return Err(format!("--min-signers {min_signers} is not what the group has").into());
        }
        let public_b64 = BASE64_STANDARD.encode(public.verifying_key().serialize()?);
        Ok(Self {
            public,
            public_b64,
            min_signers: min_signers.into(),
        })
    }

    /// An error for a number that is nobody's in this group.
    pub fn check_member(&self, number: u16) -> Result<(), Box<dyn Error>> {
        let identifier = Identifier::try_from(number)?;
        if self.public.verifying_shares().contains_key(&identifier) {
            Ok(())
        } else {
            Err(format!("signer {number} is not in the group").into())
        }
    }
}
