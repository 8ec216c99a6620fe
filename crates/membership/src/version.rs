//! The version of the API that all members share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The cluster's version. Patch levels play no part: it is always written `X.Y.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterVersion {
    pub major: u32,
    pub minor: u32,
}

/// The text is not a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a version: want major.minor.patch")]
pub struct ParseVersionError;

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.0", self.major, self.minor)
    }
}

impl FromStr for ClusterVersion {
    type Err = ParseVersionError;

    /// Reads `major.minor.patch`, where the patch may be missing and may carry `-pre` and `+build` marks.
    fn from_str(text: &str) -> Result<ClusterVersion, ParseVersionError> {
        let release = text.split(['-', '+']).next().unwrap_or_default();
        let mut numbers = release.split('.').map(|part| part.parse::<u32>().map_err(|_| ParseVersionError));
        let mut number = || numbers.next().unwrap_or(Err(ParseVersionError));
        let version = ClusterVersion { major: number()?, minor: number()? };
        match (numbers.next(), numbers.next()) {
            (None | Some(Ok(_)), None) => Ok(version),
            _ => Err(ParseVersionError),
        }
    }
}

/// A move of the whole cluster to an older version. Serialises to etcd's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    #[serde(default, rename = "target-version")]
    pub target_version: String,
    #[serde(default)]
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_written() {
        for (text, read) in [("3.5.30", "3.5.0"), ("3.6", "3.6.0"), ("3.8.0-alpha.0", "3.8.0"), ("3.5.0+git", "3.5.0")]
        {
            assert_eq!(text.parse::<ClusterVersion>().unwrap().to_string(), read);
        }
        for text in ["", "3", "3.", "a.b", "3.5.x", "3.5.0.1", "-3.5"] {
            assert_eq!(text.parse::<ClusterVersion>(), Err(ParseVersionError), "{text}");
        }
    }
}
