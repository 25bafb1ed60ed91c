//! Certificates are swapped while clients shake hands: none fails, and what is broken is not taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use fourseven::l7::tls::authority::Issued;
use fourseven::lab::topology::BACKEND;
use nix::sys::signal::Signal;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::balancer::Report;
use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{Files, Layer7, SECURE, backends, listen, vip};
use super::talk::{get, http1, read, talk, tls, trusting};

const CLIENTS: usize = 2;
const HOST: &str = "site.example.com";

fn leaf(pair: &Issued) -> Vec<u8> {
    CertificateDer::from_pem_slice(pair.chain.as_bytes()).unwrap().to_vec()
}

/// One of ten replacements. Of those that cannot be used, gives the file that is named for it.
fn replace(files: &Files, step: u32, good: &[Issued], current: &mut usize) -> Option<&'static str> {
    match step {
        // Renamed over, as most do; and written in place.
        0 | 3 | 5 | 7 | 9 => {
            *current += 1;
            if step % 2 == 1 {
                for (end, text) in [("pem", &good[*current].chain), ("key", &good[*current].key)] {
                    let new = files.write(&format!("new.{end}"), text);
                    std::fs::rename(new, files.path(&format!("site.{end}"))).unwrap();
                }
            } else {
                files.write_pair("site", &good[*current]);
            }
            None
        }
        1 => {
            files.write("site.pem", "-----BEGIN CERTIFICATE-----\nnothing");
            Some("site.pem")
        }
        2 => {
            files.write_pair("site", &good[*current]);
            files.write("site.key", &files.issue(&[HOST]).key);
            Some("site.key")
        }
        4 => {
            std::fs::remove_file(files.path("site.key")).unwrap();
            Some("site.key")
        }
        6 => {
            files.write("site.key", "");
            Some("site.key")
        }
        _ => {
            std::fs::write(files.path("site.pem"), [0xff; 5000]).unwrap();
            Some("site.pem")
        }
    }
}

#[test]
fn certificates_are_swapped_under_load_with_no_failed_handshake_and_the_last_good_one_stays() {
    let name =
        "swap::certificates_are_swapped_under_load_with_no_failed_handshake_and_the_last_good_one_stays";
    private(name, || {
        let net = Net::new(1);
        let files = Files::new("swap");
        let good: Vec<Issued> = (0..6).map(|_| files.issue(&[HOST])).collect();
        files.write_pair("site", &good[0]);
        let mut balancer = files.start(
            &net.balancer,
            &format!(
                "[tun]\nqueues = 2\n\n[[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\nbackends = {}
                 tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]\n",
                listen(&net, SECURE),
                backends(&net, BACKEND)
            ),
        );
        let (done, shaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let config = trusting(&files.authority.pem(), &["http/1.1"]);
        let load: Vec<_> = FAMILIES
            .into_iter()
            .cycle()
            .take(CLIENTS)
            .map(|family| {
                let to = vip(&net, family, SECURE);
                let (config, done, shaken) = (Arc::clone(&config), Arc::clone(&done), Arc::clone(&shaken));
                net.client.run(move || {
                    thread::spawn(move || {
                        let runtime =
                            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                        tokio::task::LocalSet::new().block_on(&runtime, async {
                            while !done.load(SeqCst) {
                                let stream = tls(to, HOST, Arc::clone(&config)).await.unwrap();
                                let mut sender = http1(stream).await;
                                let answer = sender.send_request(get(HOST, "/")).await.unwrap();
                                assert_eq!(read(answer).await.0, 200);
                                shaken.fetch_add(1, SeqCst);
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                        });
                    })
                })
            })
            .collect();
        let shown = || {
            let (to, config) = (vip(&net, FAMILIES[0], SECURE), Arc::clone(&config));
            talk(&net.client, move || async move {
                let stream = tls(to, HOST, config).await.unwrap();
                stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
            })
        };
        let mut current = 0;
        assert!(shown() == leaf(&good[current]));
        for step in 0..10 {
            let broken = replace(&files, step, &good, &mut current);
            match broken {
                None => drop(balancer.await_line("site site: certificates swapped")),
                Some(file) => {
                    let why = balancer.await_line("warning: site site: the certificates stay as they were");
                    assert!(why.contains(file), "step {step}: {why}");
                }
            }
            assert!(shown() == leaf(&good[current]), "step {step}: the last good one is shown");
        }
        done.store(true, SeqCst);
        for client in load {
            client.join().expect("no handshake fails");
        }
        balancer.signal(Signal::SIGTERM);
        let (status, out, said) = balancer.end();
        assert!(status.success(), "{said}");
        let (report, shaken) = (Report::read(&out), shaken.load(SeqCst));
        println!("{shaken} handshakes while certificates were swapped");
        assert!(shaken > 100, "{shaken}");
        assert_eq!(report.site("site", "tls_full"), shaken + 11, "{out}");
        assert_eq!(report.site("site", "2xx"), shaken, "{out}");
    });
}
