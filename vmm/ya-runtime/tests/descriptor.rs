//! What providers read of the runtime before they start it: golem-runtime, section 1.1.

use std::path::Path;

use serde_json::{Value, json};
use ya_runtime::{CONTRACT_VERSION, PROGRAM};

#[test]
fn descriptor_offers_a_vm_of_the_contracts_version() {
    let text = include_str!("../ya-runtime-shem.json");
    let descriptors: Vec<Value> = serde_json::from_str(text).unwrap();
    let [descriptor] = descriptors.as_slice() else {
        panic!("there is one runtime: {text}");
    };
    assert_eq!(descriptor["name"], "vm");
    assert_eq!(descriptor["version"], CONTRACT_VERSION);
    // Without it exe-unit would hold limits that are the VM's, and keep to itself what
    // the VM may have.
    assert_eq!(descriptor["extra-args"], json!(["--cap-handoff"]));
    let path = Path::new(descriptor["runtime-path"].as_str().unwrap());
    assert!(path.is_relative() && path.ends_with(PROGRAM), "{path:?}");
}
