//! Kernel settings under `/proc/sys/net`, which are those of the calling thread's network namespace.
//!
//! In a container they can often be read but not written. Then the value may be right all the same; where
//! it is not, somebody outside has to set it, and is told how.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::super::IoError;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Its parts below `net`: a device's name may contain dots.
    parts: Vec<String>,
}

impl Setting {
    pub fn new(parts: &[&str]) -> Self {
        Self { parts: parts.iter().map(|part| (*part).to_owned()).collect() }
    }

    /// A setting of each device, of `all` and of `default`.
    pub fn of_each_device(family: &str, name: &str) -> Vec<Self> {
        let directory = Self::new(&[family, "conf"]).path();
        let devices = fs::read_dir(directory).into_iter().flatten().flatten();
        devices
            .filter_map(|entry| Some(Self::new(&[family, "conf", entry.file_name().to_str()?, name])))
            .collect()
    }

    /// The device whose setting it is, of those that [`Setting::of_each_device`] gives.
    pub fn device(&self) -> &str {
        self.parts.get(2).map_or("", String::as_str)
    }

    fn path(&self) -> PathBuf {
        let mut path = PathBuf::from("/proc/sys/net");
        path.extend(&self.parts);
        path
    }

    /// Its name as `sysctl` has it, where a dot in a device's name is a slash.
    pub fn name(&self) -> String {
        let parts: Vec<_> = self.parts.iter().map(|part| part.replace('.', "/")).collect();
        format!("net.{}", parts.join("."))
    }

    /// Its value now; `None` where there is no such setting, as with a device that is gone.
    pub fn value(&self) -> Option<String> {
        fs::read_to_string(self.path()).ok().map(|value| value.trim().to_owned())
    }

    /// Sets it.
    pub fn set(&self, value: &str) -> Result<(), IoError> {
        // A file under `/proc` must not be created or cut, only written.
        fs::OpenOptions::new()
            .write(true)
            .open(self.path())
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(|source| IoError::Sysctl { setting: self.name(), value: value.into(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_a_device_name_is_a_slash_in_the_settings_name_and_a_dot_in_its_path() {
        let setting = Setting::new(&["ipv4", "conf", "fs.0", "rp_filter"]);
        assert_eq!(setting.name(), "net.ipv4.conf.fs/0.rp_filter");
        assert_eq!(setting.path(), PathBuf::from("/proc/sys/net/ipv4/conf/fs.0/rp_filter"));
    }

    #[test]
    fn what_is_not_there_has_no_value_and_says_how_it_would_be_set() {
        let setting = Setting::new(&["ipv4", "conf", "no-such-device", "rp_filter"]);
        assert_eq!(setting.value(), None);
        let said = setting.set("2").unwrap_err().to_string();
        assert!(said.contains("`sysctl -w net.ipv4.conf.no-such-device.rp_filter=2`"), "{said}");
    }

    #[test]
    fn each_device_has_the_setting() {
        let each = Setting::of_each_device("ipv4", "forwarding");
        assert!(each.contains(&Setting::new(&["ipv4", "conf", "all", "forwarding"])));
    }
}
