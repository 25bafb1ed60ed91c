//! A copy of the program for those who may not read where it was built.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// A copy of the program that everybody may read and run, in a folder that everybody may enter.
pub struct Copy(pub PathBuf);

impl Copy {
    pub fn make(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fourseven-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_fourseven"), folder.join("fourseven")).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> String {
        self.0.join("fourseven").display().to_string()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
