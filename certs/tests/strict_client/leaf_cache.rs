//! What is held, for how long, and that it is minted once.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use rustls::Error;
use sluicegate_certs::CertError;

use crate::support::{Files, HOUR, Instance, handshake, leaf_name, leaf_of, openssl_x509};

#[test]
fn t15_a_flood_of_names_is_bounded_and_hot_names_stay() {
    const CAPACITY: usize = 64;
    let instance = Instance::with_capacity(CAPACITY);
    assert!(instance.leaves.is_empty());
    let hot: Vec<_> = (0..8)
        .map(|number| format!("hot{number}.example"))
        .map(|name| (instance.server_config(&name), name))
        .collect();
    let cold = instance.server_config("cold0.example");
    for (number, (config, name)) in (0..2000).zip(hot.iter().cycle()) {
        instance.server_config(&format!("cold{number}.example"));
        assert!(Arc::ptr_eq(config, &instance.server_config(name)), "{name} was dropped");
        assert!(instance.leaves.len() <= CAPACITY);
    }
    assert_eq!(instance.leaves.len(), CAPACITY);
    assert!(!Arc::ptr_eq(&cold, &instance.server_config("cold0.example")));
}

#[test]
fn t15_a_cache_of_one_works() {
    let instance = Instance::with_capacity(1);
    let one = instance.server_config("a.example");
    assert!(Arc::ptr_eq(&one, &instance.server_config("A.example.")));
    instance.server_config("b.example");
    assert_eq!(instance.leaves.len(), 1);
    assert!(!Arc::ptr_eq(&one, &instance.server_config("a.example")));
}

#[test]
fn t15_one_mint_for_many_askers() {
    const THREADS: usize = 8;
    let instance = Instance::new();
    for round in 0..50 {
        let name = format!("round{round}.example");
        // Round 25 and later ask for a leaf that is held and stale.
        if round >= 25 {
            instance.server_config(&name);
        }
        let now = if round >= 25 { instance.now + 25 * HOUR } else { instance.now };
        let start = Barrier::new(THREADS);
        let ask = || {
            start.wait();
            instance.server_config_at(&name, now)
        };
        let configs: Vec<_> = thread::scope(|scope| {
            let askers: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            askers.into_iter().map(|asker| asker.join().unwrap()).collect()
        });
        assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])), "{name}");
    }
    assert_eq!(instance.leaves.len(), 50);
}

#[test]
fn t16_a_leaf_is_renewed_before_it_expires() {
    let instance = Instance::new();
    let first = instance.server_config("a.example");
    for (hours, kept) in [(17, true), (19, false), (25, false)] {
        let now = instance.now + hours * HOUR;
        let config = instance.server_config_at("a.example", now);
        assert_eq!(Arc::ptr_eq(&first, &config), kept, "after {hours} hours");
        handshake(&instance.client_at(now), config, "a.example").unwrap();
    }
    let late = instance.client_at(instance.now + 25 * HOUR);
    let refused = handshake(&late, first, "a.example").err();
    assert!(matches!(refused, Some(Error::InvalidCertificate(_))), "{refused:?}");
    assert_eq!(instance.leaves.len(), 1);
}

#[test]
fn t16_a_leaf_is_replaced_when_the_clock_is_set_back() {
    let instance = Instance::new();
    let ahead = instance.server_config_at("a.example", instance.now + 72 * HOUR);
    let config = instance.server_config("a.example");
    assert!(!Arc::ptr_eq(&ahead, &config));
    handshake(&instance.client_at(instance.now), config, "a.example").unwrap();
}

#[test]
fn t16_no_leaf_outlives_its_authority() {
    let instance = Instance::new();
    let files = Files::new(&instance);
    let late = instance.now + 719 * HOUR;
    let config = instance.server_config_at("a.example", late);
    let leaf = files.put("leaf.der", &leaf_of(&instance.client_at(late), config, "a.example"));
    assert_eq!(openssl_x509(&leaf, &["-enddate"]), openssl_x509(&files.authority, &["-enddate"]));

    let expired = instance.leaves.server_config(&leaf_name("a.example"), late + HOUR);
    assert!(matches!(expired, Err(CertError::AuthorityExpired)), "{expired:?}");
}
