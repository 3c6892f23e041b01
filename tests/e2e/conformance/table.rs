//! All scenarios in all languages, and the table of what came of them.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use e2e::World;

use crate::language::Language;
use crate::scenarios::{self, Scenario};
use crate::stage::Stage;

/// Every scenario, in the order of docs/conformance.md.
pub(crate) fn all() -> Vec<Scenario> {
    [&scenarios::ALL[..], &[scenarios::LOOP]].concat()
}

/// What came of each scenario in one language: whether it was as it should be.
type Column = Vec<bool>;

#[test]
fn every_scenario_has_the_same_outcome_in_every_language() {
    let columns: Vec<Option<Column>> = thread::scope(|scope| {
        let running: Vec<_> = Language::ALL
            .map(|language| {
                let name = language.to_string();
                thread::Builder::new().name(name).spawn_scoped(scope, move || play(language)).unwrap()
            })
            .into_iter()
            .collect();
        // One that could not even be started has told why.
        running.into_iter().map(|language| language.join().ok()).collect()
    });
    let table = shown(&columns);
    eprintln!("{table}");
    let right =
        columns.iter().all(|column| column.as_ref().is_some_and(|column| column.iter().all(|cell| *cell)));
    assert!(right, "not the same in every language; each difference is told above\n{table}");
}

/// Runs all scenarios in one language, also after one that failed.
fn play(language: Language) -> Column {
    let world = World::new(&format!("table-{}", language.to_string().to_lowercase()));
    let stage = Stage::new(&world, language);
    let gate = stage.serve();
    all()
        .iter()
        .map(|scenario| {
            eprintln!("{language} {}", scenario.path);
            gate.skip_log();
            gate.arrived();
            catch_unwind(AssertUnwindSafe(|| (scenario.check)(&gate))).is_ok()
        })
        .collect()
}

/// The table of results, to be read in a terminal.
fn shown(columns: &[Option<Column>]) -> String {
    let mut text = format!("{:14}", "scenario");
    for language in Language::ALL {
        write!(text, "  {language:10}").unwrap();
    }
    for (number, scenario) in all().iter().enumerate() {
        write!(text, "\n{:14}", scenario.path).unwrap();
        for column in columns {
            let cell = match column {
                Some(column) if column[number] => "yes",
                Some(_) => "NO",
                None => "not run",
            };
            write!(text, "  {cell:10}").unwrap();
        }
    }
    text
}
