//! A teller of the bank that tests run: moves money between the accounts of a SQLite database, and says
//! on standard output what the database acknowledged. Killed at any time.

use pagestore_tests::bank::{Teller, work};

fn main() {
    let argument = std::env::args().nth(1).expect("a teller");
    let teller: Teller = serde_json::from_str(&argument).expect("a teller in JSON");
    work(&teller);
}
