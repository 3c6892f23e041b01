//! The Debian package, the image and the bill of materials: what is in them, and that they are the same again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::sha256_hex;
use serde_json::Value;

use crate::shop::{EPOCH, Shop, root, run, script_at_epoch, succeeded, version};

/// The only file of a folder.
fn only_file(folder: &Path) -> String {
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].to_str().unwrap().to_owned()
}

#[test]
fn the_debian_package_has_programs_pages_and_units_and_is_the_same_again() {
    let shop = Shop::new();
    let package = only_file(&shop.make("scripts/deb", &shop.programs(), "deb"));
    let again = only_file(&shop.make("scripts/deb", &shop.programs(), "again"));
    assert!(package.ends_with(&format!("/sluicegate_{}-1_amd64.deb", version())), "{package}");
    assert_eq!(sha256_hex(&fs::read(&package).unwrap()), sha256_hex(&fs::read(again).unwrap()));
    let field = |name: &str| run("dpkg-deb", &["--field", &package, name]).trim().to_owned();
    assert_eq!((field("Package"), field("Version")), ("sluicegate".to_owned(), format!("{}-1", version())));
    // Nothing of a distribution is needed: the programs of a release are static.
    assert_eq!((field("Depends"), field("Architecture")), (String::new(), "amd64".to_owned()));
    let listing = run("dpkg-deb", &["--contents", &package]);
    for line in listing.lines() {
        assert!(line.contains(" root/root "), "{line}");
    }
    let unpacked = shop.path("unpacked");
    run("dpkg-deb", &["--raw-extract", &package, unpacked.to_str().unwrap()]);
    for file in [
        "usr/bin/sluicegate",
        "usr/bin/sluicegate-netns",
        "usr/share/man/man1/sluicegate.1.gz",
        "usr/share/man/man1/sluicegate-policy-check.1.gz",
        "usr/share/bash-completion/completions/sluicegate",
        "usr/share/zsh/vendor-completions/_sluicegate",
        "usr/share/fish/vendor_completions.d/sluicegate.fish",
        "usr/lib/systemd/system/sluicegate@.service",
        "usr/share/doc/sluicegate/copyright",
        "usr/share/doc/sluicegate/changelog.gz",
        "usr/share/doc/sluicegate/docs/policy.md",
        "etc/sluicegate",
    ] {
        assert!(unpacked.join(file).exists(), "{file} is not in {listing}");
    }
    let sums = unpacked.join("DEBIAN/md5sums");
    let checked = Command::new("md5sum")
        .args(["--check", "--strict", "--quiet"])
        .arg(sums)
        .current_dir(&unpacked)
        .output();
    succeeded(&checked.unwrap());
    let program = unpacked.join("usr/bin/sluicegate");
    assert_eq!(run(program.to_str().unwrap(), &["--version"]), format!("sluicegate {}\n", version()));
}

#[test]
fn the_image_is_an_oci_layout_of_two_programs_and_is_the_same_again() {
    let shop = Shop::new();
    let image = only_file(&shop.make("scripts/image", &shop.stand_ins(), "image"));
    let again = only_file(&shop.make("scripts/image", &shop.stand_ins(), "again"));
    let (image, again) = (fs::read(image).unwrap(), fs::read(again).unwrap());
    assert_eq!(sha256_hex(&image), sha256_hex(&again));
    let layout = shop.path("layout");
    fs::create_dir(&layout).unwrap();
    fs::write(shop.path("image.tar"), &image).unwrap();
    let into = layout.to_str().unwrap();
    run("tar", &["-xf", shop.path("image.tar").to_str().unwrap(), "-C", into]);
    let json =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(layout.join(name)).unwrap()).unwrap() };
    // Every blob is what its name and its descriptor say.
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let content = fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
        assert_eq!(
            (sha256_hex(&content).as_str(), content.len() as u64),
            (digest, descriptor["size"].as_u64().unwrap())
        );
        content
    };
    assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let manifest: Value = serde_json::from_slice(&blob(&json("index.json")["manifests"][0])).unwrap();
    let configuration: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    assert_eq!(configuration["config"]["Entrypoint"], serde_json::json!(["/usr/bin/sluicegate"]));
    assert_eq!(configuration["created"], "2023-11-14T22:13:20Z");
    fs::write(shop.path("layer.tar.gz"), blob(&manifest["layers"][0])).unwrap();
    run("gunzip", &[shop.path("layer.tar.gz").to_str().unwrap()]);
    let layer = fs::read(shop.path("layer.tar")).unwrap();
    assert_eq!(configuration["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256_hex(&layer)));
    let files = run("tar", &["-tf", shop.path("layer.tar").to_str().unwrap()]);
    let files: BTreeSet<_> = files.lines().filter(|name| !name.ends_with('/')).collect();
    let wanted = [
        "etc/group",
        "etc/passwd",
        "etc/ssl/certs/ca-certificates.crt",
        "usr/bin/sluicegate",
        "usr/bin/sluicegate-netns",
        "usr/share/licenses/sluicegate",
        "usr/share/licenses/sluicegate-netns",
    ];
    assert_eq!(files, BTreeSet::from(wanted));
    // What engines read instead names the same blobs.
    let docker = &json("manifest.json")[0];
    let digest =
        |descriptor: &Value| descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    assert_eq!(docker["Config"], digest(&manifest["config"]));
    assert_eq!(docker["Layers"][0], digest(&manifest["layers"][0]));
    // A release that has grown too large is not made.
    let mut large = script_at_epoch("scripts/image");
    large
        .args(["--limit", "0.1", "--programs"])
        .arg(shop.stand_ins())
        .arg("--output")
        .arg(shop.path("large"));
    let large = large.output().unwrap();
    let complaint = String::from_utf8_lossy(&large.stderr).into_owned();
    assert!(!large.status.success() && complaint.contains("more than 0.1 MiB"), "{complaint}");
    assert!(!shop.path("large").exists());
}

#[test]
fn the_bill_of_materials_names_what_the_programs_are_made_of() {
    let print = || succeeded(&script_at_epoch("scripts/sbom").output().unwrap());
    let text = print();
    assert_eq!(text, print());
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(bill["metadata"]["component"]["version"], version());
    let components = bill["components"].as_array().unwrap();
    let name = |component: &Value| component["name"].as_str().unwrap().to_owned();
    let names: BTreeSet<_> = components.iter().map(name).collect();
    for wanted in ["sluicegate", "sluicegate-netns", "rustls", "wasmtime", "nftnl", "libnftnl", "libmnl"] {
        assert!(names.contains(wanted), "{wanted} is not in {names:?}");
    }
    // What only tests have is not part of it.
    for wrong in ["e2e", "criterion", "tonic"] {
        assert!(!names.contains(wrong), "{wrong} is in {names:?}");
    }
    let locked = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for component in components {
        let named = format!("name = \"{}\"\nversion = {}\n", name(component), component["version"]);
        let is_native = component["purl"].as_str().unwrap().starts_with("pkg:deb/");
        assert!(is_native || locked.contains(&named), "{component}");
        assert!(component["licenses"].as_array().is_some_and(|licences| !licences.is_empty()), "{component}");
    }
    let references: BTreeSet<_> =
        components.iter().map(|component| &component["bom-ref"]).map(Value::to_string).collect();
    for dependency in bill["dependencies"].as_array().unwrap() {
        for below in dependency["dependsOn"].as_array().unwrap() {
            assert!(references.contains(&below.to_string()), "{below} is no component");
        }
    }
    assert_eq!(EPOCH.parse::<u64>().map(|epoch| epoch / 86_400), Ok(19_675));
    assert!(bill["metadata"]["timestamp"].as_str().unwrap().starts_with("2023-11-14T"));
}

#[test]
fn every_script_says_what_it_does() {
    for script in [
        "scripts/release",
        "scripts/deb",
        "scripts/image",
        "scripts/sbom",
        "packaging/tree",
        "packaging/install.sh",
    ] {
        let help = succeeded(&Command::new(root().join(script)).arg("--help").output().unwrap());
        assert!(help.contains("usage: "), "{script}: {help}");
        let wrong = Command::new(root().join(script)).arg("--no-such-option").output().unwrap();
        assert!(!wrong.status.success() && wrong.stdout.is_empty(), "{script}: {wrong:?}");
    }
}
