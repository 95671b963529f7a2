//! The control connection, and many processes at once.

use super::*;

#[test]
fn many_processes_at_once_keep_their_output_apart() {
    let guest = Guest::boot();
    let processes: Vec<_> = (0..40)
        .map(|n| guest.start(shell(&format!("echo {n}"))))
        .collect();
    for (n, process) in processes.into_iter().enumerate() {
        let output = process.wait_with_output(LIMIT).unwrap();
        assert_eq!(output.stdout, format!("{n}\n").as_bytes());
    }
    assert!(guest.agent.processes().is_empty());
}

#[test]
fn connection_beyond_the_limit_is_refused_with_a_reason() {
    let guest = Guest::boot();
    *guest.agent.connections.lock().unwrap() = crate::agent::MAX_CONNECTIONS;
    let refusal = guest.refusal(exec(&["true"]));
    assert_eq!(
        refusal,
        (
            ExecFailureKind::Other,
            "too many connections to the agent".into()
        )
    );
    *guest.agent.connections.lock().unwrap() = 0;
    assert_eq!(guest.shell("exit 0").exit, code(0));
}

#[test]
fn hello_carries_the_boot_times() {
    let guest = Guest::boot();
    assert_eq!(guest.client.hello().boot_times.init_start_us, 5);
    assert_eq!(
        guest.client.hello().agent_version,
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn services_of_the_control_connection_answer() {
    let mut guest = Guest::boot();
    let entry = HostEntry {
        address: "10.1.2.3".parse().unwrap(),
        name: "peer".into(),
    };
    guest.client.hosts(vec![entry]).unwrap();
    let hosts = fs::read_to_string(guest.root.path().join("etc/hosts")).unwrap();
    assert_eq!(hosts, "10.1.2.3\tpeer\n");
    let resolver = Resolver {
        nameservers: vec!["10.1.2.1".parse().unwrap()],
        ..Resolver::default()
    };
    guest.client.set_resolver(resolver).unwrap();
    let resolver = fs::read_to_string(guest.root.path().join("etc/resolv.conf")).unwrap();
    assert_eq!(resolver, "nameserver 10.1.2.1\n");
    guest.client.sync().unwrap();
    guest.client.shutdown().unwrap();
    let end = guest.control.take().unwrap().join().unwrap();
    assert_eq!(end.unwrap(), End::Shutdown);
    guest.client.wait_lost().unwrap();
    assert!(matches!(guest.client.sync(), Err(ClientError::Lost)));
    // What the guest was asked for has happened, however it is asked.
    guest.client.shutdown().unwrap();
}

#[test]
fn interface_that_is_not_there_is_named_with_those_that_are() {
    let guest = Guest::boot();
    let interface = Interface {
        name: "no-such-card".into(),
        ..Interface::default()
    };
    match guest.client.set_interface(interface) {
        Err(ClientError::Failed(failure)) => {
            let there = "no-such-card: there is no such interface; the guest has ";
            assert_eq!(failure.errno, libc::ENODEV);
            assert!(failure.message.starts_with(there), "{}", failure.message);
            assert!(failure.message.contains("lo"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn host_that_hangs_up_ends_the_agent() {
    let mut guest = Guest::boot();
    let control = guest.control.take().unwrap();
    drop(guest);
    assert_eq!(control.join().unwrap().unwrap(), End::HungUp);
}
