//! One table, protocol × client × result: each client is run without the gate and through it, and what it
//! ended with, printed and kept is compared byte for byte. `./protocols` prints it.
//!
//! A row is a [`row::Row`] in one of the groups; a server and a name of its own are in [`stage::NAMES`].
#![cfg(test)]

mod browser;
mod flows;
mod packages;
mod row;
mod stage;
mod streams;
mod table;
mod web;

use e2e::World;

use crate::browser::Page;
use crate::flows::Flows;
use crate::packages::Packages;
use crate::stage::Stage;
use crate::streams::Streams;
use crate::web::Web;

#[test]
fn every_client_gets_byte_for_byte_what_it_gets_without_the_gate() {
    let world = World::new("protocols");
    stage::add_addresses(&world);
    let (_web, _streams) = (Web::start(&world), Streams::start(&world));
    let (_packages, flows) = (Packages::start(&world), Flows::start(&world));
    let page = Page::start(&world);
    let stage = Stage::start(&world);
    let rows =
        [web::rows(), streams::rows(), packages::rows(), flows.rows(), browser::rows()].into_iter().flatten();
    let results: Vec<_> = rows.enumerate().map(|(number, row)| stage.compare(number, row)).collect();
    let table = table::markdown(&results);
    table::write(&table);
    let wrong: Vec<_> = results.iter().filter_map(table::what_is_wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    page.assert_every_part_was_loaded_twice();
    stage.assert_every_name_was_judged();
    table::assert_documented(&results);
}
