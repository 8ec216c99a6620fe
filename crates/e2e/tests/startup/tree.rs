//! What lies in a directory.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Every file and directory below `root`, by path.
fn walk(root: &Path, visit: &mut dyn FnMut(&Path, &Metadata) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let found = fs::symlink_metadata(&path)?;
        visit(&path, &found)?;
        if found.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

/// The contents of all files below `root`; directories stand for themselves.
pub(crate) fn contents(root: &Path) -> Result<BTreeMap<PathBuf, Option<Vec<u8>>>> {
    let mut contents = BTreeMap::new();
    walk(root, &mut |path, found| {
        contents.insert(path.to_owned(), if found.is_file() { Some(fs::read(path)?) } else { None });
        Ok(())
    })?;
    Ok(contents)
}

/// The names of all files below `root`, without it.
pub(crate) fn names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    walk(root, &mut |path, _| {
        names.push(path.strip_prefix(root)?.display().to_string());
        Ok(())
    })?;
    names.sort();
    Ok(names)
}

/// The permissions of all below `root`, and of itself.
pub(crate) fn modes(root: &Path) -> Result<Vec<(PathBuf, bool, u32)>> {
    let mut modes = vec![(root.to_owned(), true, fs::metadata(root)?.permissions().mode() & 0o7777)];
    walk(root, &mut |path, found| {
        modes.push((path.to_owned(), found.is_dir(), found.permissions().mode() & 0o7777));
        Ok(())
    })?;
    Ok(modes)
}
