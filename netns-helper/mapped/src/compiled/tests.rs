use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;
use wasmtime::component::Linker;
use wasmtime::{Config, Store};

use super::*;

/// A component with a function that returns this number.
fn program(number: u32) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (func (export "run") (result i32) (i32.const {number})))
            (core instance $i (instantiate $m))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    );
    wat::parse_str(text).unwrap()
}

/// What the function returns.
fn run(engine: &Engine, component: &Component) -> u32 {
    let mut store = Store::new(engine, ());
    let instance = Linker::new(engine).instantiate(&mut store, component).unwrap();
    let run = instance.get_typed_func::<(), (u32,)>(&mut store, "run").unwrap();
    run.call(&mut store, ()).unwrap().0
}

/// Until a file that is written now has another time than one that was written before: older kernels count ticks.
fn next_tick() {
    thread::sleep(Duration::from_millis(20));
}

/// A folder, with what is needed to load from it.
struct Case {
    outer: TempDir,
    folder: PathBuf,
    engine: Engine,
    content: Vec<u8>,
    origin: Origin,
}

impl Case {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("programs");
        let engine = Engine::default();
        Self { outer, folder, origin: Origin::new(&engine, &[42; 32]), engine, content: program(42) }
    }

    fn opened(&self) -> CompiledPrograms {
        CompiledPrograms::open(&self.folder).unwrap()
    }

    /// What another process finds.
    fn found(&self) -> Option<u32> {
        let component = self.opened().get(&self.engine, &self.origin)?;
        Some(run(&self.engine, &component))
    }

    fn add(&self) {
        let component = self.opened().add(&self.engine, &self.origin, &self.content).unwrap();
        assert_eq!(run(&self.engine, &component), 42);
    }

    fn entry(&self) -> PathBuf {
        self.folder.join(ENTRIES).join(&self.origin.0)
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join(ENTRIES)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn what_was_compiled_is_found_again() {
    let case = Case::new();
    assert_eq!(case.found(), None);
    case.add();
    assert_eq!(case.found(), Some(42));
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&case.folder), 0o700);
    for file in [case.entry(), case.folder.join(LIST), case.folder.join(STAMPS)] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    assert!(case.opened().add(&case.engine, &case.origin, b"\0asm").is_err());
}

#[test]
fn the_list_is_one_that_sha256sum_checks() {
    let case = Case::new();
    case.add();
    let mut command = std::process::Command::new("sha256sum");
    command.arg("--check").arg("--strict").arg(case.folder.join(LIST));
    let checked = command.current_dir(case.folder.join(ENTRIES)).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn code_runs_from_the_file_and_not_from_a_copy() {
    let case = Case::new();
    case.add();
    let component = case.opened().get(&case.engine, &case.origin).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let entry = case.entry();
    let is_code = |line: &&str| line.contains("r-xp") && line.ends_with(&entry.display().to_string());
    assert!(maps.lines().find(is_code).is_some(), "{maps}");
    // It goes on where the name is gone.
    case.opened().remove(&case.origin).unwrap();
    assert_eq!(run(&case.engine, &component), 42);
    assert_eq!(case.found(), None);
}

#[test]
fn an_entry_with_another_byte_is_removed() {
    let case = Case::new();
    case.add();
    let whole = fs::read(case.entry()).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        next_tick();
        fs::write(case.entry(), bytes).unwrap();
        assert_eq!(case.found(), None, "byte {at}");
        assert!(!case.entry().exists());
        case.add();
        assert_eq!(case.found(), Some(42), "byte {at}: repaired");
    }
    next_tick();
    fs::write(case.entry(), &whole[..whole.len() / 2]).unwrap();
    assert_eq!(case.found(), None, "half of it");
}

#[test]
fn an_entry_is_compared_where_its_stamp_is_another() {
    let case = Case::new();
    case.add();
    let stamps = case.folder.join(STAMPS);
    let written = fs::read(&stamps).unwrap();
    // The same bytes in another file, as after a copy of the folder.
    let bytes = fs::read(case.entry()).unwrap();
    fs::remove_file(case.entry()).unwrap();
    fs::write(case.entry(), bytes).unwrap();
    assert_eq!(case.found(), Some(42));
    assert_ne!(fs::read(&stamps).unwrap(), written, "the new stamp is noted");
    // Without stamps at all.
    fs::remove_file(&stamps).unwrap();
    assert_eq!(case.found(), Some(42));
    assert!(stamps.exists());
}

#[test]
fn what_is_not_listed_is_never_loaded_and_goes() {
    let case = Case::new();
    case.add();
    for name in ["unlisted", BEGUN] {
        fs::write(case.folder.join(ENTRIES).join(name), "half").unwrap();
    }
    symlink(case.entry(), case.folder.join(ENTRIES).join("link")).unwrap();
    fs::create_dir(case.folder.join(ENTRIES).join("folder")).unwrap();
    let other = Origin::new(&case.engine, &[1; 32]);
    case.opened().add(&case.engine, &other, &program(1)).unwrap();
    let mut left = case.entries();
    left.sort();
    assert_eq!(left, [other.0, case.origin.0.clone()]);
    // Without the list nothing is known.
    fs::remove_file(case.folder.join(LIST)).unwrap();
    assert_eq!(case.found(), None);
}

#[test]
fn a_link_in_place_of_an_entry_is_not_followed() {
    let case = Case::new();
    case.add();
    let elsewhere = case.outer.path().join("elsewhere");
    fs::rename(case.entry(), &elsewhere).unwrap();
    symlink(&elsewhere, case.entry()).unwrap();
    assert_eq!(case.found(), None);
    assert!(elsewhere.exists());
}

#[test]
fn nothing_is_believed_that_others_may_write_to() {
    let case = Case::new();
    for file in [case.entry(), case.folder.join(LIST)] {
        case.add();
        assert_eq!(case.found(), Some(42));
        fs::set_permissions(&file, Permissions::from_mode(0o620)).unwrap();
        assert_eq!(case.found(), None, "{}", file.display());
    }
    // Stamps are only for speed.
    case.add();
    fs::set_permissions(case.folder.join(STAMPS), Permissions::from_mode(0o602)).unwrap();
    assert_eq!(case.found(), Some(42));
}

#[test]
fn a_folder_that_is_not_ours_alone_is_none() {
    let case = Case::new();
    fs::create_dir(&case.folder).unwrap();
    fs::set_permissions(&case.folder, Permissions::from_mode(0o750)).unwrap();
    assert!(CompiledPrograms::open(&case.folder).is_none(), "others may read it");
    fs::set_permissions(&case.folder, Permissions::from_mode(0o700)).unwrap();
    assert!(CompiledPrograms::open(&case.folder).is_some());
    let link = case.outer.path().join("link");
    symlink(&case.folder, &link).unwrap();
    assert!(CompiledPrograms::open(&link).is_none(), "a link");
    let file = case.outer.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(CompiledPrograms::open(&file).is_none(), "a file");
}

#[test]
fn what_another_engine_makes_of_a_content_is_another_entry() {
    let case = Case::new();
    case.add();
    let mut config = Config::new();
    config.epoch_interruption(true);
    let engine = Engine::new(&config).unwrap();
    let origin = Origin::new(&engine, &[42; 32]);
    assert!(case.opened().get(&engine, &origin).is_none());
    // Under a false name it is the engine that refuses it, and it is removed.
    fs::copy(case.entry(), case.folder.join(ENTRIES).join(&origin.0)).unwrap();
    let list = fs::read_to_string(case.folder.join(LIST)).unwrap();
    let more = list.replace(&case.origin.0, &origin.0);
    fs::write(case.folder.join(LIST), format!("{list}{more}")).unwrap();
    assert!(case.opened().get(&engine, &origin).is_none());
    assert_eq!(case.entries(), [case.origin.0.as_str()]);
}

#[test]
fn what_was_kept_first_goes_where_it_is_too_much() {
    let case = Case::new();
    case.add();
    let bytes = fs::metadata(case.entry()).unwrap().len();
    let folder = CompiledPrograms { bytes_max: 2 * bytes + bytes / 2, ..case.opened() };
    let add = |number: u8| {
        let origin = Origin::new(&case.engine, &[number; 32]);
        folder.add(&case.engine, &origin, &program(number.into())).unwrap();
    };
    let numbers =
        || folder.list().0.iter().map(|(name, _)| name.get(..2).unwrap().to_owned()).collect::<Vec<_>>();
    add(1);
    assert_eq!(numbers(), ["2a", "01"]);
    add(2);
    assert_eq!(numbers(), ["01", "02"]);
    assert_eq!(case.entries().len(), 2);
    let small = CompiledPrograms { bytes_max: 1, ..case.opened() };
    assert_eq!(run(&case.engine, &small.add(&case.engine, &case.origin, &case.content).unwrap()), 42);
    assert_eq!(case.entries(), [case.origin.0.as_str()]);
}

#[test]
fn where_nothing_can_be_written_it_runs_all_the_same() {
    let case = Case::new();
    let folder = case.opened();
    // A folder in place of the file that is to be written.
    fs::create_dir_all(case.folder.join(ENTRIES).join(BEGUN).join("x")).unwrap();
    let component = folder.add(&case.engine, &case.origin, &case.content).unwrap();
    assert_eq!(run(&case.engine, &component), 42);
    assert_eq!(case.found(), None);
}

#[test]
fn many_at_once_keep_a_whole_list() {
    let case = Case::new();
    let add = |number: u8| {
        let origin = Origin::new(&case.engine, &[number; 32]);
        let component = case.opened().add(&case.engine, &origin, &program(number.into())).unwrap();
        assert_eq!(run(&case.engine, &component), u32::from(number));
    };
    thread::scope(|scope| {
        for first in [0, 10, 20] {
            let add = &add;
            scope.spawn(move || (first..first + 5).for_each(add));
        }
    });
    assert_eq!((case.entries().len(), case.opened().list().0.len()), (15, 15));
}
