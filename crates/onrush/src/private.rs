//! Files that only the user of the process may read: databases, keys, tokens, exports, reports.

use rustix::{fs::Mode, process::umask};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Rights of the group and of others.
const FOREIGN: u32 = 0o077;
/// Rights of others, who are not of the group.
const OTHERS: u32 = 0o007;

/// Takes the rights of the group and of others from all files and folders that this process creates, SQLite's included.
pub fn restrict_new_files() {
    umask(Mode::from_raw_mode(FOREIGN));
}

/// Creates a folder with its parents, unless it exists.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// Creates the file, or empties it.
pub fn create_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    // An existing file keeps its mode otherwise.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Creates a data folder, or checks an existing one. Earlier versions left databases that others may read: they become private here.
/// A folder that others may read is only reported, because it may hold more than the mall.
pub fn open_data_folder(folder: &Path, files: &[&str]) -> io::Result<()> {
    create_folder(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & OTHERS != 0 {
        tracing::warn!(folder = %folder.display(), mode = %format!("{:o}", mode & 0o777), "other users may read the data folder: chmod 700");
    }
    for name in files {
        let path = folder.join(name);
        let Ok(found) = fs::metadata(&path) else { continue };
        if found.permissions().mode() & FOREIGN == 0 {
            continue;
        }
        match fs::set_permissions(&path, Permissions::from_mode(FILE_MODE)) {
            Ok(()) => tracing::warn!(path = %path.display(), "others could read a file of the mall until now: its mode is 600 now"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "others may read a file of the mall: chmod 600"),
        }
    }
    Ok(())
}

/// True if users outside the file's group may read or write it. A group may be trusted, as on volumes of containers.
pub fn is_open_to_others(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.permissions().mode() & OTHERS != 0)
}

/// Creates a file with this content. `Ok(false)`: it exists.
pub fn create_new(path: &Path, content: &[u8]) -> io::Result<bool> {
    use std::io::Write;
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(mut file) => {
            file.write_all(content)?;
            file.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
