//! What the table says about one flag.

/// One row of the table: a flag, its `ETCD_*` variable and its key in the settings file.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written on the command line.
    pub default: &'static str,
    /// Of which etcd versions it is: `""` for 3.5 to 3.8, `"3.6+"` from 3.6 on, `"3.5-"` up to 3.5.
    pub versions: &'static str,
    pub file: FileKey,
    /// One sentence, without the full stop.
    pub help: &'static str,
    pub status: Status,
}

/// How a flag's text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text that is never shown again.
    Secret,
    Bool,
    /// Signed 64 bits.
    Int,
    /// Unsigned 64 bits.
    Uint,
    /// Unsigned 32 bits.
    Uint32,
    /// In Go's syntax (`1h30m`); in the file also an integer of nanoseconds.
    Duration,
    Choice(&'static [&'static str]),
    /// Comma separated.
    Urls,
    /// `*`, or URLs, comma separated.
    Origins,
    /// Comma separated.
    List,
    Level,
    /// `Name=true,Other=false`.
    Gates,
    /// Anything at all, nothing included.
    Ignored,
}

/// Where a flag stands in the settings file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKey {
    /// Under its own name.
    Same,
    /// Under these keys (any of them); a dot enters a map.
    At(&'static [&'static str]),
    /// It cannot be set there.
    Nowhere,
}

/// What becomes of a flag here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Works,
    /// Start is refused if it is set to anything but the `harmless` values (no list: anything but the default).
    Refused {
        why: &'static str,
        harmless: Option<&'static [&'static str]>,
    },
    /// It can have no effect in this server; a value other than the default brings a notice.
    NoMeaning(&'static str),
    /// Another name of this flag, from etcd up to 3.6.
    OldName(&'static str),
    /// Another way to set this feature gate, from etcd up to 3.6.
    OldGate(&'static str),
    /// Long gone from etcd, which still accepts it with a warning.
    Legacy,
}

impl Flag {
    /// A flag that works, stands in the file under its own name, and is of all versions.
    pub(crate) const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
        Flag { name, kind, default, versions: "", file: FileKey::Same, help, status: Status::Works }
    }

    pub(crate) const fn of(mut self, versions: &'static str) -> Flag {
        self.versions = versions;
        self
    }

    pub(crate) const fn at(mut self, keys: &'static [&'static str]) -> Flag {
        self.file = FileKey::At(keys);
        self
    }

    pub(crate) const fn not_in_file(mut self) -> Flag {
        self.file = FileKey::Nowhere;
        self
    }

    pub(crate) const fn refused(mut self, why: &'static str) -> Flag {
        self.status = Status::Refused { why, harmless: None };
        self
    }

    pub(crate) const fn refused_but(mut self, harmless: &'static [&'static str], why: &'static str) -> Flag {
        self.status = Status::Refused { why, harmless: Some(harmless) };
        self
    }

    pub(crate) const fn no_meaning(mut self, why: &'static str) -> Flag {
        self.status = Status::NoMeaning(why);
        self
    }

    /// The variable of the same meaning: `ETCD_DATA_DIR` of `data-dir`.
    pub fn variable(&self) -> String {
        let mut name = String::from("ETCD_");
        name.extend(self.name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }));
        name
    }

    /// The flag's keys in the settings file.
    pub fn file_keys(&self) -> &[&'static str] {
        match &self.file {
            FileKey::Same => std::slice::from_ref(&self.name),
            FileKey::At(keys) => keys,
            FileKey::Nowhere => &[],
        }
    }
}
