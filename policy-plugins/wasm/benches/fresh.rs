//! What a request costs in a program, with the fetch answered at once.
fn main() {}
