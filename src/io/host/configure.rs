//! Making a host send its packets to the device, and taking that back.
//!
//! Each change is a step that knows whether it was needed: what is as it should be is left alone, now and at the
//! end. What was changed is written into a journal, and undone from its end backwards.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::IoError;
use super::Netlink;
use super::journal::{Journal, Undo};
use super::sysctl::Setting;
use super::{routes, rules};
use crate::packet::Family;

/// What the host must do for a balancer on this device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPlan {
    /// The TUN device, which is there already.
    pub device: String,
    /// Its MTU, where it should not be as it comes.
    pub mtu: Option<u32>,
    /// The addresses of virtual services: packets to them go to the device.
    pub vips: Vec<IpAddr>,
    /// The addresses that full NAT sends from: answers to them go to the device.
    pub locals: Vec<IpNet>,
    /// The backends that see their clients' own addresses: what they send goes to the device.
    pub dnat_backends: Vec<IpAddr>,
}

/// A host that is configured. Dropping it takes the changes back and logs what that meets with;
/// [`Host::undo`] does the same and says so.
///
/// It must end in the network namespace in which it began, since `/proc/sys` shows the caller's.
pub struct Host {
    netlink: Netlink,
    journal: Journal,
    warnings: Vec<String>,
}

impl Host {
    /// Configures the host in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The first step that failed; those before it are taken back.
    pub fn configure(plan: &HostPlan) -> Result<Self, IoError> {
        let mut host = Self { netlink: Netlink::open()?, journal: Journal::default(), warnings: Vec::new() };
        host.steps(plan)?;
        Ok(host)
    }

    /// What was changed, as sentences without a full stop: "route 10.47.0.1/32 to fs0".
    pub fn changes(&self) -> impl Iterator<Item = &str> {
        self.journal.changes()
    }

    /// What could not be done and may do harm, and how it can be done from elsewhere.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes all changes back, the last first, and says what could not be.
    pub fn undo(mut self) -> Vec<IoError> {
        self.journal.undo(&self.netlink)
    }

    fn steps(&mut self, plan: &HostPlan) -> Result<(), IoError> {
        let device = plan.device.as_str();
        self.netlink.existing(device, || format!("send packets to {device}"))?;
        self.look_for_own_addresses(plan)?;
        self.rules_of_an_earlier_run(plan)?;

        let prefixes = || plan.vips.iter().copied().map(IpNet::from).chain(plan.locals.iter().copied());
        let addresses = || prefixes().map(|prefix| prefix.addr()).chain(plan.dnat_backends.iter().copied());
        let (v4, v6) = (addresses().any(|ip| ip.is_ipv4()), addresses().any(|ip| ip.is_ipv6()));
        self.link(plan, v6)?;
        self.forward_past_sockets();
        if v4 {
            self.accept_what_is_written(device)?;
            self.forward_v4();
            self.report_each_error("ICMP", &Setting::new(&["ipv4", "icmp_ratelimit"]));
        }
        if v6 {
            self.forward_v6()?;
            self.report_each_error("ICMPv6", &Setting::new(&["ipv6", "icmp", "ratelimit"]));
        }
        for prefix in prefixes() {
            routes::add(&self.netlink, &mut self.journal, prefix.trunc(), device)?;
        }
        self.answers_of_backends(plan)
    }

    /// Packets to this host's own addresses never reach a route, and packets from them none but its own processes may send.
    fn look_for_own_addresses(&mut self, plan: &HostPlan) -> Result<(), IoError> {
        for (net, link) in routes::own_addresses(&self.netlink)? {
            let own = net.addr();
            if plan.vips.contains(&own) {
                let what = format!("route {own} to {}", plan.device);
                let why = format!(
                    "it is an address of this host itself, on {link} (remove it there, or choose another VIP)"
                );
                return Err(IoError::InTheWay { what, why });
            }
            if plan.dnat_backends.contains(&own) {
                let what = format!("lead what {own} sends back to {}", plan.device);
                let why =
                    format!("it is an address of this host itself, on {link} (use `nat = \"full\"` for it)");
                return Err(IoError::InTheWay { what, why });
            }
            if let Some(local) = plan.locals.iter().find(|local| local.contains(&own)) {
                self.warnings.push(format!(
                    "{own}, which is among the local addresses {local}, is an address of this host itself, on {link}: \
                     answers to it will not come back"
                ));
            }
            let vips = plan.vips.iter().copied().map(IpNet::from);
            for taken in vips.chain(plan.locals.iter().copied()).filter(|prefix| net.contains(prefix)) {
                let how = match own {
                    IpAddr::V4(_) => {
                        format!("`sysctl -w net.ipv4.conf.{}.proxy_arp=1`", link.replace('.', "/"))
                    }
                    IpAddr::V6(_) => format!("`ip -6 neighbour add proxy ADDRESS dev {link}`"),
                };
                self.warnings.push(format!(
                    "{taken} is in {}, the net on {link}, whose hosts ask for it there and get no answer (with {how} \
                     this host answers for it)",
                    net.trunc()
                ));
            }
        }
        Ok(())
    }

    fn rules_of_an_earlier_run(&mut self, plan: &HostPlan) -> Result<(), IoError> {
        let owners = routes::owners_of_table(&self.netlink, &plan.device)?;
        if owners.is_empty() {
            return rules::take_over(&self.netlink, &mut self.journal);
        }
        if plan.dnat_backends.is_empty() {
            return Ok(());
        }
        let what = format!("lead what backends answer back to {}", plan.device);
        let why = format!(
            "routing table {} leads to {} (another balancer with `nat = \"dnat\"` runs here)",
            routes::TABLE,
            owners.join(", ")
        );
        Err(IoError::InTheWay { what, why })
    }

    fn link(&mut self, plan: &HostPlan, v6: bool) -> Result<(), IoError> {
        let device = plan.device.as_str();
        if let (Some(mtu), Some(was)) = (plan.mtu, self.netlink.mtu(device)?)
            && mtu != was
        {
            if v6 && mtu < 1280 {
                let why = "IPv6 asks for 1280 at least (RFC 8200 §5)".into();
                return Err(IoError::InTheWay { what: format!("set the MTU of {device} to {mtu}"), why });
            }
            self.netlink.set_mtu(device, mtu)?;
            self.journal.did(format!("MTU {mtu} on {device}"), Undo::Mtu(device.into(), was));
        }
        let disabled = Setting::new(&["ipv6", "conf", device, "disable_ipv6"]);
        if v6 && disabled.value().is_some_and(|value| value != "0") {
            self.set(&disabled, "0", &format!("IPv6 on {device}"), Vec::new());
        }
        if self.netlink.is_up(device)? == Some(false) {
            self.without_link_local(device);
            self.netlink.set_up(device)?;
            self.journal.did(format!("{device} up"), Undo::Down(device.into()));
        }
        Ok(())
    }

    /// Keeps the host from looking, by a link-local address on the device, for neighbours that are not there: what
    /// it sends for that would come to the balancer, and be counted as packets from nobody knows where.
    ///
    /// This is for good: to put the value back makes the very address (`addrconf_init_auto_addrs`).
    fn without_link_local(&mut self, device: &str) {
        let generation = Setting::new(&["ipv6", "conf", device, "addr_gen_mode"]);
        if generation.value().is_some_and(|value| value == "0") && generation.set("1").is_ok() {
            self.journal
                .did_for_good(format!("no link-local address on {device} ({} = 1)", generation.name()));
        }
    }

    /// Lets the host believe IPv4 packets from the device, whatever their source: it may be a client, who is
    /// reached by another link, and in an ICMP error even an address of this host.
    ///
    /// The loose filter takes such packets only on a link that has an address (`no_addr` in
    /// `__fib_validate_source`), and zero would not do, since the higher of this value and that of `all` counts. So the
    /// device gets the address that is set aside for links that have none (192.0.0.8, RFC 7600 §4.8), of a
    /// scope in which no packet is sent from it.
    fn accept_what_is_written(&mut self, device: &str) -> Result<(), IoError> {
        let of_device = |name| Setting::new(&["ipv4", "conf", device, name]);
        self.set(&of_device("rp_filter"), "2", &format!("loose reverse-path filter on {device}"), Vec::new());
        self.set(
            &of_device("accept_local"),
            "1",
            &format!("the host's own addresses accepted from {device}"),
            Vec::new(),
        );
        if let Some(address) = routes::add_dummy_address(&self.netlink, device)? {
            self.journal.did(format!("dummy address 192.0.0.8 on {device}"), Undo::Address(address));
        }
        Ok(())
    }

    /// Makes strict reverse-path filters loose. A strict filter wants the way back to lead to where a packet came
    /// from, and with the rules below the way back from a backend leads to the device: who talks to a backend
    /// past the balancer would be cut off.
    fn loosen_filters(&mut self, device: &str) {
        let strictness =
            |setting: &Setting| setting.value().and_then(|value| value.parse::<u8>().ok()).unwrap_or(0);
        let all = strictness(&Setting::new(&["ipv4", "conf", "all", "rp_filter"]));
        for setting in Setting::of_each_device("ipv4", "rp_filter") {
            let link = setting.device().to_owned();
            let special = ["all", "default", "lo", device].contains(&link.as_str());
            if !special && strictness(&setting).max(all) == 1 {
                self.set(&setting, "2", &format!("loose reverse-path filter on {link}"), Vec::new());
            }
        }
    }

    fn forward_v4(&mut self) {
        // This setting sets others with it (`inet_forward_change`), so their values are kept as well.
        let mut also = Setting::of_each_device("ipv4", "forwarding");
        also.push(Setting::new(&["ipv4", "conf", "all", "accept_redirects"]));
        self.set(&Setting::new(&["ipv4", "ip_forward"]), "1", "IPv4 forwarding", also);
    }

    fn forward_v6(&mut self) -> Result<(), IoError> {
        let forwarding = Setting::new(&["ipv6", "conf", "all", "forwarding"]);
        if forwarding.value().is_some_and(|value| value == "1") {
            return Ok(());
        }
        let also = Setting::of_each_device("ipv6", "forwarding");
        self.set(&forwarding, "1", "IPv6 forwarding", also);
        for link in routes::links_with_advertised_routes(&self.netlink)? {
            let accept = Setting::new(&["ipv6", "conf", &link, "accept_ra"]);
            if accept.value().is_some_and(|value| value == "1") {
                self.warnings.push(format!(
                    "{link} has IPv6 routes from router advertisements, which it does not accept while this host \
                     forwards (to go on accepting them: `sysctl -w {}=2`)",
                    accept.name()
                ));
            }
        }
        Ok(())
    }

    /// Lets the host report more than one error a second to the same address (RFC 1812 §4.3.2.8 leaves the rate
    /// open; the bound on all errors together, `icmp_msgs_per_sec`, stays).
    ///
    /// What it reports about a backend that cannot be reached goes to one client in DNAT, and in full NAT to the few
    /// addresses that are sent from. And of IPv4 less than one a second would get through: errors about routes are
    /// counted once more against the same tokens (`ip_error`), so with tries in every second none is ever sent.
    fn report_each_error(&mut self, name: &str, limit: &Setting) {
        self.set(limit, "0", &format!("each {name} error reported, however many to one address"), Vec::new());
    }

    /// Keeps the kernel from looking for a socket before it looks for a route. Where another server had the VIP until
    /// now, as an address of this host, what is left of its connections (`TIME_WAIT`, a minute long) would be found for a
    /// client that uses its port again, and a packet that has found a socket is not forwarded but dropped without
    /// a word (`ip_forward`: "that should never happen"). The setting serves both families.
    fn forward_past_sockets(&mut self) {
        let what = "packets to a VIP forwarded, whatever sockets are left there";
        self.set(&Setting::new(&["ipv4", "ip_early_demux"]), "0", what, Vec::new());
    }

    fn answers_of_backends(&mut self, plan: &HostPlan) -> Result<(), IoError> {
        for (family, all) in [(Family::V4, "0.0.0.0/0"), (Family::V6, "::/0")] {
            let same_family = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
            let backends: BTreeSet<IpAddr> = plan.dnat_backends.iter().copied().filter(same_family).collect();
            if backends.is_empty() {
                continue;
            }
            let mut links = BTreeSet::new();
            for &backend in &backends {
                match routes::link_to(&self.netlink, backend) {
                    Ok(link) => links.extend(link.filter(|link| *link != plan.device)),
                    Err(error) => {
                        self.warnings.push(format!(
                            "{error}; errors of routers on the way to it will not be translated"
                        ));
                    }
                }
            }
            let all: IpNet = all.parse().expect("a default route is a prefix");
            if family == Family::V4 {
                self.loosen_filters(&plan.device);
            }
            routes::add_default(&self.netlink, &mut self.journal, all, &plan.device)?;
            rules::add(&self.netlink, &mut self.journal, &plan.device, family, &backends, &links)?;
        }
        Ok(())
    }

    /// Sets a setting, unless it is so already. What it changes beside itself is put back after it.
    fn set(&mut self, setting: &Setting, value: &str, what: &str, also: Vec<Setting>) {
        let was = setting.value();
        if was.as_deref() == Some(value) {
            return;
        }
        let before: Vec<_> = [setting.clone()]
            .into_iter()
            .chain(also)
            .filter_map(|setting| setting.value().map(|value| (setting, value)))
            .collect();
        match setting.set(value) {
            Ok(()) => {
                self.journal.did(format!("{what} ({} = {value})", setting.name()), Undo::Settings(before));
            }
            Err(error) => self.warnings.push(error.to_string()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for error in self.journal.undo(&self.netlink) {
            tracing::warn!("{error}");
        }
    }
}
