//! Which releases talk to one another.

/// The lowest cluster version this member can be part of.
pub(crate) const MIN_CLUSTER_VERSION: &str = "3.0.0";
/// What a member that does not say its version is taken for.
const UNSAID: Release = Release { major: 2, minor: 0 };
/// A stream's answerer may be older than the dialler, but not older than this.
const STREAMS_SINCE: Release = Release { major: 2, minor: 1 };

/// A release as far as it matters here: patches are compatible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release {
    major: u64,
    minor: u64,
}

impl Release {
    /// Reads `major.minor.patch`, with or without a `-suffix`. Absent text is release 2.0; `None` if it is no version.
    pub(crate) fn parse(text: Option<&str>) -> Option<Release> {
        let Some(text) = text else {
            return Some(UNSAID);
        };
        let numbers = text.split(['-', '+']).next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        let (major, minor, _patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(Release { major, minor })
    }
}

/// Whether two members may talk: neither is below what the other demands.
pub(crate) fn is_compatible(own: &str, remote: Option<&str>, remote_minimum: Option<&str>) -> bool {
    let own_minimum = Release::parse(Some(MIN_CLUSTER_VERSION)).expect("a constant version is well-formed");
    let (Some(own), Some(remote), Some(remote_minimum)) =
        (Release::parse(Some(own)), Release::parse(remote), Release::parse(remote_minimum))
    else {
        return false;
    };
    remote >= own_minimum && remote_minimum <= own
}

/// Whether a stream whose answerer says `remote` can be read.
pub(crate) fn serves_streams(own: &str, remote: Option<&str>) -> bool {
    let (Some(own), Some(remote)) = (Release::parse(Some(own)), Release::parse(remote)) else {
        return false;
    };
    remote >= own || remote >= STREAMS_SINCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_talk_unless_one_is_below_what_the_other_demands() {
        let compatible = |remote, minimum| is_compatible("3.5.30", remote, minimum);
        assert!(compatible(Some("3.5.30"), Some("3.0.0")));
        assert!(compatible(Some("3.0.1"), None));
        assert!(compatible(Some("4.0.0-alpha.1"), Some("3.5.99")));
        assert!(!compatible(Some("2.3.8"), Some("3.0.0")));
        assert!(!compatible(Some("4.0.0"), Some("3.6.0")));
        assert!(!compatible(None, Some("3.0.0")));
        for no_version in ["", "3", "3.5", "3.5.x", "a.b.c", "3.5.1.2"] {
            assert!(!compatible(Some(no_version), Some("3.0.0")), "{no_version}");
        }
    }

    #[test]
    fn a_stream_is_read_from_any_release_that_has_it() {
        assert!(serves_streams("3.5.30", Some("3.4.0")));
        assert!(serves_streams("3.5.30", Some("2.1.0")));
        assert!(!serves_streams("3.5.30", None));
        assert!(!serves_streams("3.5.30", Some("new")));
    }
}
