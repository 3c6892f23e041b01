//! Manual pages, as readers see them.

use std::fs;
use std::process::Command;

use crate::shop::{Shop, succeeded, version};

#[test]
fn every_page_is_formatted_without_a_warning() {
    let shop = Shop::new();
    let program = shop.programs().join("sluicegate");
    let folder = shop.path("man1");
    succeeded(&Command::new(program).arg("manual").arg(&folder).env_clear().output().unwrap());
    let pages: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(pages.len() > 30, "{pages:?}");
    for page in pages {
        let mut man = Command::new("man");
        man.args(["--warnings", "--encoding=UTF-8", "--local-file"]).arg(&page);
        man.env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
        let shown = man.output().expect("./scripts/setup --tests installs man-db");
        let complaints = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && complaints.is_empty(), "{}: {complaints}", page.display());
        let shown = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.contains("SYNOPSIS") && shown.contains("DESCRIPTION"), "{}: {shown}", page.display());
    }
}

#[test]
fn a_page_says_what_help_says() {
    let shop = Shop::new();
    let program = shop.programs().join("sluicegate");
    let folder = shop.path("man1");
    // Variables of whoever makes the pages are not in them.
    let mut manual = Command::new(&program);
    manual.args(["manual", "--date", "2026-01-31"]).arg(&folder).env("SLUICEGATE_POLICY", "/mine.toml");
    succeeded(&manual.output().unwrap());
    let page = folder.join("sluicegate-attach.1");
    let shown = succeeded(
        &Command::new("man")
            .args(["--encoding=UTF-8", "--local-file"])
            .arg(page)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap(),
    );
    let help = succeeded(&Command::new(&program).args(["attach", "--help"]).env_clear().output().unwrap());
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, examples) = (words(&shown), help.split("Examples:").nth(1).unwrap());
    assert!(shown.contains(&words(examples)), "{shown}");
    for option in help.split_whitespace().filter(|word| word.starts_with("--")) {
        assert!(shown.contains(option.trim_end_matches(',')), "{option} is not in {shown}");
    }
    assert!(shown.contains(&format!("sluicegate {} 2026-01-31", version())), "{shown}");
    assert!(shown.contains("SLUICEGATE_POLICY") && !shown.contains("/mine.toml"), "{shown}");
}
