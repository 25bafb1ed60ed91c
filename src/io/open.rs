//! Opening the TUN device: what was asked for, what the machine has, and what came of it.
//!
//! What the kernel grants is looked up, not assumed: `TUNSETOFFLOAD` succeeds on a descriptor without
//! `IFF_VNET_HDR`, and from then on large packets come without the header that describes them.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use rtnetlink::packet_core::Nla;
use rtnetlink::packet_route::link::{InfoData, LinkAttribute, LinkInfo};

use super::IoError;
use super::host::Netlink;
use super::offload::OffloadQueue;
use super::plain::PlainQueue;
use super::queue::{LENGTH, Queue, QueueKind};
use crate::datapath::WorkerId;

/// How a TUN device is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunRequest {
    /// The name of the device.
    pub name: String,
    /// With which kind of queue.
    pub io: IoChoice,
    /// How many queues, one worker each.
    pub queues: usize,
}

/// Which kind of queue is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// The best that the machine has.
    #[default]
    Auto,
    /// Offload, or nothing.
    Offload,
    /// Plain.
    Plain,
}

impl IoChoice {
    /// All of them, as documentation lists them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Offload, Self::Plain];

    /// The one word for it, as the configuration has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Offload => "offload",
            Self::Plain => "plain",
        }
    }
}

impl std::fmt::Display for IoChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

impl std::str::FromStr for IoChoice {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        Self::ALL.into_iter().find(|choice| choice.word() == word).ok_or(UnknownChoice)
    }
}

/// A word that is no [`IoChoice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `auto`, `offload` or `plain`")]
pub struct UnknownChoice;

/// A TUN device that is open.
pub struct Opened {
    /// The device.
    pub name: String,
    /// Its queues.
    pub queues: Vec<Box<dyn Queue>>,
    /// What kind they are of.
    pub kind: QueueKind,
    /// Why of that kind, in one sentence.
    pub why: String,
    /// What could not be done and does no great harm, a sentence each.
    pub warnings: Vec<String>,
}

/// Opens a TUN device, in the network namespace of the calling thread. It is gone when its queues are
/// dropped, unless it was there before and somebody has made it persistent.
///
/// # Errors
/// Each case that one can do something about has an error of its own.
pub fn open(request: &TunRequest) -> Result<Opened, IoError> {
    let TunRequest { name, io, queues } = request;
    check_name(name)?;
    let refuse = |why: String| IoError::Queues { queues: *queues, why };
    match *queues {
        0 => return Err(refuse("there must be one at least".into())),
        1..=WorkerId::MAX => {}
        _ => return Err(refuse(format!("there can be at most {}", WorkerId::MAX))),
    }
    check_node()?;
    let netlink = Netlink::open()?;
    let mut opened = match io {
        IoChoice::Plain if *queues > 1 => {
            return Err(refuse("a plain device has only one (`io = \"offload\"` can have more)".into()));
        }
        IoChoice::Plain => plain(&netlink, name, "plain was asked for".into())?,
        IoChoice::Offload => offload(&netlink, name, *queues)?,
        IoChoice::Auto => match offload(&netlink, name, *queues) {
            Ok(opened) => opened,
            Err(IoError::Open { why, .. }) if *queues > 1 => {
                return Err(refuse(format!(
                    "only an offload device can have more than one, and there is none to be had ({why})"
                )));
            }
            Err(IoError::Open { why, .. }) => {
                let why = format!(
                    "offload is not to be had ({why}), so each system call carries one packet of at most the MTU"
                );
                plain(&netlink, name, why)?
            }
            Err(error) => return Err(error),
        },
    };
    // A full queue drops, and a dropped large segment costs its sender a whole timeout.
    if let Err(error) = netlink.set_txqueuelen(name, LENGTH) {
        opened.warnings.push(format!("{error}; bursts may be dropped"));
    }
    Ok(opened)
}

fn plain(netlink: &Netlink, name: &str, why: String) -> Result<Opened, IoError> {
    let kind = QueueKind::Plain;
    if netlink.index_of(name)?.is_some() {
        // A persistent device keeps the offloads that its last user asked for, and would hand over large
        // segments with nothing to describe them. tun-tap cannot take them back, tun-rs does.
        let device =
            tun_rs::DeviceBuilder::new().name(name).offload(false).inherit_enable_state().build_sync();
        drop(device.map_err(|error| explain(netlink, name, kind, error))?);
    }
    let queue = PlainQueue::open(name).map_err(|error| explain(netlink, name, kind, error))?;
    if granted(netlink, name)?.is_some_and(|granted| granted.virtio_header) {
        let why = "the kernel would put a virtio header before each packet".into();
        return Err(IoError::Open { name: name.into(), kind, why });
    }
    Ok(Opened { name: name.into(), queues: vec![Box::new(queue)], kind, why, warnings: Vec::new() })
}

fn offload(netlink: &Netlink, name: &str, queues: usize) -> Result<Opened, IoError> {
    let kind = QueueKind::Offload;
    let devices = OffloadQueue::open(name, queues).map_err(|error| explain(netlink, name, kind, error))?;
    let lacking = |why: &str| IoError::Open { name: name.into(), kind, why: why.into() };
    // An old kernel does not say what it granted, but it has had the virtio header since 2.6.27.
    if let Some(granted) = granted(netlink, name)? {
        if !granted.virtio_header {
            return Err(lacking("the kernel did not grant the virtio header"));
        }
        if granted.queues.is_some_and(|granted| usize::try_from(granted) != Ok(queues)) {
            return Err(lacking("the kernel did not grant all the queues"));
        }
    }
    let udp = devices.iter().all(OffloadQueue::udp_segments);
    let why = if udp {
        "the kernel passes large TCP and UDP segments whole"
    } else {
        "the kernel passes large TCP segments whole (UDP ones need Linux 6.2)"
    };
    let queues = devices.into_iter().map(|queue| Box::new(queue) as Box<dyn Queue>).collect();
    Ok(Opened { name: name.into(), queues, kind, why: why.into(), warnings: Vec::new() })
}

/// What the kernel says about a TUN device.
struct Granted {
    virtio_header: bool,
    queues: Option<u32>,
}

fn granted(netlink: &Netlink, name: &str) -> Result<Option<Granted>, IoError> {
    // `linux/if_link.h`; rtnetlink has no names for these.
    const IFLA_TUN_VNET_HDR: u16 = 5;
    const IFLA_TUN_NUM_QUEUES: u16 = 8;
    let Some(link) = netlink.link(name)? else { return Ok(None) };
    let facts = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Tun(facts)) => Some(facts),
            _ => None,
        }),
        _ => None,
    });
    let Some(facts) = facts else { return Ok(None) };
    let value = |kind| {
        facts.iter().find(|fact| fact.kind() == kind).map(|fact| {
            let mut bytes = vec![0; fact.value_len()];
            fact.emit_value(&mut bytes);
            bytes
        })
    };
    let Some(virtio_header) = value(IFLA_TUN_VNET_HDR) else { return Ok(None) };
    let queues =
        value(IFLA_TUN_NUM_QUEUES).and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?)));
    Ok(Some(Granted { virtio_header: virtio_header != [0], queues }))
}

/// Holds a name to the kernel's rules (`dev_valid_name`), and keeps out the pattern letter, for which the
/// kernel would choose a number.
fn check_name(name: &str) -> Result<(), IoError> {
    let why = match name {
        "" => "it is empty",
        // The last two stand for devices under `/proc/sys/net`, so that the kernel refuses them later.
        "." | ".." | "all" | "default" => "the kernel keeps it for itself",
        _ if name.len() > 15 => "it is longer than 15 bytes",
        _ if name.contains(['/', ':', '%']) => "it contains `/`, `:` or `%`",
        _ if name.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            "it contains a space or a control character"
        }
        _ => return Ok(()),
    };
    Err(IoError::BadName { name: name.into(), why })
}

/// Whether something that is there is the node of the TUN driver. A container engine that is told to mount a
/// node that its host lacks puts a directory in its place.
pub fn is_tun_node(path: &Path) -> bool {
    // 10:200 in `linux/miscdevice.h`, as `makedev` puts the two together where both are small.
    const MISC_TUN: u64 = 0x0ac8;
    fs::metadata(path).is_ok_and(|node| node.file_type().is_char_device() && node.rdev() == MISC_TUN)
}

/// Opens the node and closes it, which has no effect: after this, a refusal is about the device.
fn check_node() -> Result<(), IoError> {
    let node = Path::new("/dev/net/tun");
    if node.exists() && !is_tun_node(node) {
        return Err(IoError::NotTheTunNode);
    }
    match OpenOptions::new().read(true).write(true).open(node) {
        Ok(_) => Ok(()),
        Err(error) => Err(match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
            Errno::EACCES | Errno::EPERM => IoError::NodeNotPermitted { source: error },
            _ => IoError::NoTunNode,
        }),
    }
}

fn explain(netlink: &Netlink, name: &str, kind: QueueKind, source: io::Error) -> IoError {
    let name = name.to_owned();
    let exists = netlink.index_of(&name).is_ok_and(|index| index.is_some());
    match Errno::from_raw(source.raw_os_error().unwrap_or_default()) {
        Errno::EACCES | Errno::EPERM => IoError::DeviceNotPermitted { name, source },
        Errno::EBUSY => IoError::NameTaken { name, why: "another program has this device open" },
        Errno::EINVAL if exists => {
            let why = "there is a network device of this name that is no TUN device, or was made for another number of queues";
            IoError::NameTaken { name, why }
        }
        _ => IoError::Open { name, kind, why: source.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, io: IoChoice, queues: usize) -> String {
        open(&TunRequest { name: name.into(), io, queues }).map(|opened| opened.name).unwrap_err().to_string()
    }

    #[test]
    fn a_name_that_no_device_can_have_is_refused_before_anything_is_opened() {
        for (name, want) in [
            ("", "`` cannot be the name of a network device: it is empty"),
            ("..", "the kernel keeps it"),
            ("all", "the kernel keeps it"),
            ("default", "the kernel keeps it"),
            ("sixteen-letters!", "longer than 15 bytes"),
            ("fs/0", "contains `/`"),
            ("fs%d", "contains `/`, `:` or `%`"),
            ("fs 0", "a space"),
        ] {
            let said = refused(name, IoChoice::Auto, 1);
            assert!(said.contains(want), "{said}");
        }
    }

    #[test]
    fn a_number_of_queues_that_cannot_be_is_refused_with_its_reason() {
        assert!(refused("fs0", IoChoice::Auto, 0).contains("one at least"));
        assert!(refused("fs0", IoChoice::Auto, 65).contains("at most 64"));
    }

    #[test]
    fn choices_are_read_as_they_are_written() {
        for choice in IoChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("fast".parse::<IoChoice>(), Err(UnknownChoice));
    }
}
