//! Handshakes: what a SYN may cost, and what comes of it.

use super::*;

#[test]
fn a_syn_costs_no_rings_and_an_ack_opens() {
    for client in ["198.51.100.1:4000", "[2001:db8:1::1]:4000"] {
        let mut bench = Bench::new(StackSettings::on(PLAIN));
        let mut hand = Hand::at(client);
        let (verdict, answer) = bench.give(&hand.say(SYN, &[]));
        assert_eq!(verdict, Verdict::Answer(Reason::Handshake));
        let answer = answer.unwrap();
        assert_eq!(answer.acknowledgement, hand.next);
        assert_eq!((bench.stack.occupancy().rings, bench.stack.occupancy().half_open), (0, 1));
        hand.expected = answer.sequence.plus(1);
        assert_eq!(bench.give(&hand.say(ACK, b"hello")).0, Verdict::Deliver(Reason::NewFlow));
        assert_eq!((bench.stack.occupancy().rings, bench.stack.occupancy().half_open), (1, 0));
        let accepted = bench.stack.accept().unwrap();
        assert_eq!((accepted.client, accepted.vip), (hand.client, hand.vip));
        // What came with the ACK is acknowledged.
        assert_eq!(bench.pass(Duration::from_millis(20)).last().unwrap().acknowledgement, hand.next);
    }
}

#[test]
fn a_handshake_is_reminded_thrice_and_given_up() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let first = bench.give(&hand.say(SYN, &[])).1.unwrap();
    let reminders = bench.pass(Duration::from_mins(1));
    assert_eq!(reminders.len(), 3);
    assert!(reminders.iter().all(|one| one.packet == first.packet));
    assert_nothing_leaks(&bench.stack);
}

#[test]
fn a_flood_of_syns_is_bounded_and_cookies_still_open() {
    let mut settings = StackSettings::on(PLAIN);
    settings.limits.half_open = 100;
    settings.limits.half_open_per_client = 30;
    let mut bench = Bench::new(settings);
    for number in 0..10_000u32 {
        let address = std::net::Ipv4Addr::from(0xc633_6400 + number % 250);
        let mut hand = Hand::at(&format!("{address}:{}", 1024 + number / 250));
        let (verdict, _) = bench.give(&hand.say(SYN, &[]));
        assert!(matches!(verdict, Verdict::Answer(Reason::Handshake | Reason::SynCookie)));
    }
    let full = bench.stack.occupancy();
    assert_eq!((full.half_open, full.rings, full.flows), (100, 0, 0));

    let mut hand = Hand::at("192.0.2.1:4000");
    let (verdict, answer) = bench.give(&hand.say(SYN, &[]));
    assert_eq!(verdict, Verdict::Answer(Reason::SynCookie));
    hand.expected = answer.unwrap().sequence.plus(1);
    assert_eq!(bench.stack.occupancy().half_open, 100);
    assert_eq!(bench.give(&hand.say(ACK, b"hi")).0, Verdict::Deliver(Reason::NewFlow));
    assert_eq!(bench.pass(Duration::from_millis(20))[0].acknowledgement, hand.next);
    assert_eq!(bench.stack.counts().cookies_taken, 1);

    // A guess is no cookie.
    let mut guess = Hand::at("192.0.2.2:4000");
    guess.expected = Sequence(12345);
    assert_eq!(bench.give(&guess.say(ACK, &[])).0, Verdict::Answer(Reason::NoFlow));
    drop(bench.stack.accept());
    bench.pass(Duration::from_mins(1));
    assert_nothing_leaks(&bench.stack);
}

#[test]
fn one_client_cannot_take_the_handshakes_of_all() {
    let mut settings = StackSettings::on(PLAIN);
    settings.limits.half_open_per_client = 3;
    let mut bench = Bench::new(settings);
    let mut verdict = |client: &str| bench.give(&Hand::at(client).say(SYN, &[])).0;
    for port in 0..3 {
        assert_eq!(verdict(&format!("[2001:db8:1::{port}]:4000")), Verdict::Answer(Reason::Handshake));
    }
    assert_eq!(verdict("[2001:db8:1::9]:4000"), Verdict::Answer(Reason::SynCookie));
    assert_eq!(verdict("[2001:db8:1:1::9]:4000"), Verdict::Answer(Reason::Handshake));
}

#[test]
fn a_full_stack_refuses_and_says_so() {
    let mut settings = StackSettings::on(PLAIN);
    settings.limits.flows = 2;
    settings.limits.flows_per_client = 1;
    let mut bench = Bench::new(settings);
    let _first = Hand::at("198.51.100.1:4000").connect(&mut bench);
    let again = bench.give(&Hand::at("198.51.100.1:4001").say(SYN, &[]));
    assert_eq!(again.0, Verdict::Answer(Reason::ClientLimit));
    assert!(again.1.unwrap().flags.rst());
    let _second = Hand::at("198.51.100.2:4000").connect(&mut bench);
    let third = bench.give(&Hand::at("198.51.100.3:4000").say(SYN, &[]));
    assert_eq!(third.0, Verdict::Answer(Reason::TableFull));
}

#[test]
fn strangers_are_reset_at_a_limited_rate() {
    let mut settings = StackSettings::on(PLAIN);
    settings.limits.answers_per_second = 5;
    let mut bench = Bench::new(settings);
    let mut hand = Hand::at("198.51.100.1:4000");
    hand.expected = Sequence(77);
    let (verdict, answer) = bench.give(&hand.say(ACK, b"lost"));
    assert_eq!(verdict, Verdict::Answer(Reason::NoFlow));
    let answer = answer.unwrap();
    assert!(answer.flags.rst() && !answer.flags.ack() && answer.sequence == Sequence(77));
    let answered =
        (0..50).filter(|_| matches!(bench.give(&hand.say(ACK, &[])).0, Verdict::Answer(_))).count();
    assert_eq!((answered, bench.stack.counts().answers_suppressed), (4, 46));
    assert_eq!(bench.give(&hand.say(RST, &[])).0, Verdict::Drop(Reason::NoFlow));
}

#[test]
fn a_second_syn_of_one_tuple_begins_anew_and_a_copy_is_answered_alike() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let first = bench.give(&hand.at_number(SYN, Sequence(5), &[])).1.unwrap();
    let copy = bench.give(&hand.at_number(SYN, Sequence(5), &[])).1.unwrap();
    assert_eq!(first.packet, copy.packet);
    let anew = bench.give(&hand.at_number(SYN, Sequence(9_999), &[])).1.unwrap();
    assert_eq!(anew.acknowledgement, Sequence(10_000));
    assert_eq!(bench.stack.occupancy().half_open, 1);
    hand.next = Sequence(10_000);
    hand.expected = anew.sequence.plus(1);
    assert_eq!(bench.give(&hand.say(ACK, &[])).0, Verdict::Deliver(Reason::NewFlow));
}

#[test]
fn wrong_checksums_martians_and_lands_open_nothing() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut packet = Hand::at("198.51.100.1:4000").say(SYN, &[]);
    packet[20 + 16] ^= 1;
    assert_eq!(bench.give(&packet).0, Verdict::Drop(Reason::BadChecksum));
    for (client, reason) in [
        ("127.0.0.1:4000", Reason::Martian),
        ("224.0.0.1:4000", Reason::Martian),
        ("0.0.0.0:4000", Reason::Martian),
        ("198.51.100.1:0", Reason::Martian),
        ("203.0.113.1:80", Reason::Land),
    ] {
        let (verdict, _) = bench.give(&Hand::at(client).say(SYN, &[]));
        assert_eq!(verdict, Verdict::Drop(reason), "{client}");
    }
    assert_nothing_leaks(&bench.stack);
}

#[test]
fn extension_headers_are_no_hindrance_and_fragments_are_refused() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("[2001:db8:1::1]:4000");
    // Destination options with padding, before TCP.
    let with_options = |packet: &[u8]| {
        let mut longer = packet.to_vec();
        longer.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
        longer[6] = 60;
        let length = u16::try_from(longer.len() - 40).unwrap();
        longer[4..6].copy_from_slice(&length.to_be_bytes());
        longer
    };
    let answer = bench.give(&with_options(&hand.say(SYN, &[]))).1.unwrap();
    hand.expected = answer.sequence.plus(1);
    assert_eq!(bench.give(&with_options(&hand.say(ACK, b"hello"))).0, Verdict::Deliver(Reason::NewFlow));
    assert_eq!(bench.pass(Duration::from_millis(20)).last().unwrap().acknowledgement, hand.next);

    let mut fragment = Hand::at("198.51.100.1:4000").say(SYN, &[]);
    fragment[6] = 0x20;
    fragment[10..12].fill(0);
    let sum = crate::packet::checksum::of(&fragment[..20]);
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(bench.give(&fragment).0, Verdict::Drop(Reason::TcpFragment));
}

#[test]
fn a_ping_to_a_vip_is_answered() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut ping = Vec::new();
    let echo = etherparse::PacketBuilder::ipv4([198, 51, 100, 1], [203, 0, 113, 1], 9);
    echo.icmpv4_echo_request(1, 2).write(&mut ping, b"payload").unwrap();
    let mut frame = Frame::copy_of(&ping, Offload::default());
    let verdict = bench.stack.handle_frame(bench.now, &mut frame, Arrival::Queue);
    assert_eq!(verdict, Verdict::Answer(Reason::EchoRequest));
    assert_eq!(frame.packet()[20], 0);
}

#[test]
fn each_flow_has_one_owner_and_others_hand_it_over() {
    let shares = [0, 1, 2].map(|worker| Share { worker: WorkerId(worker), workers: 3 });
    let mut stacks = shares.map(|share| {
        let mut stack = Stack::new(StackSettings::on(PLAIN), share, [9; 32]);
        stack.listen(vip(), Listener::default());
        stack
    });
    let mut owned = [0; 3];
    for port in 2000..2300 {
        let packet = Hand::at(&format!("198.51.100.1:{port}")).say(SYN, &[]);
        let verdicts = stacks.each_mut().map(|stack| {
            let mut frame = Frame::copy_of(&packet, Offload::default());
            stack.handle_frame(Instant::START, &mut frame, Arrival::Queue)
        });
        let answering = verdicts.iter().position(|verdict| matches!(verdict, Verdict::Answer(_))).unwrap();
        owned[answering] += 1;
        for (worker, verdict) in verdicts.into_iter().enumerate() {
            if worker != answering {
                assert_eq!(verdict, Verdict::HandOver(WorkerId(u8::try_from(answering).unwrap())));
            }
        }
    }
    assert!(owned.iter().all(|&flows| flows > 60), "{owned:?}");
}
