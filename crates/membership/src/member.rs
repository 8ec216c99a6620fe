//! One member.

use serde::{Deserialize, Deserializer, Serialize};
use types::MemberId;

/// What a member says of itself once it runs; empty until then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, rename = "clientURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub client_urls: Vec<String>,
}

/// A member of the cluster. Serialises to etcd's JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    #[serde(with = "id_as_number", default)]
    pub id: MemberId,
    #[serde(default, rename = "peerURLs", deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    #[serde(default, rename = "isLearner", skip_serializing_if = "is_false")]
    pub is_learner: bool,
    #[serde(flatten)]
    pub attributes: Attributes,
}

impl Member {
    /// Whether it has run and said its name.
    pub fn is_started(&self) -> bool {
        !self.attributes.name.is_empty()
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Go writes an absent list as `null`.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

mod id_as_number {
    use serde::{Deserialize, Deserializer, Serializer};
    use types::MemberId;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
    pub(super) fn serialize<S: Serializer>(id: &MemberId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MemberId, D::Error> {
        u64::deserialize(deserializer).map(MemberId)
    }
}
