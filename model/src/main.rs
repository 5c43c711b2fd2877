//! Explores every model and prints what it came to: `pagestore-model [--wide]`.

use std::process::ExitCode;
use std::time::Instant;

use pagestore_model::cases;

fn main() -> ExitCode {
    let wide = std::env::args().any(|argument| argument == "--wide");
    let mut states = 0;
    for case in cases(wide) {
        let start = Instant::now();
        let outcome = case.explore();
        let seconds = start.elapsed().as_secs_f64();
        match (outcome, &case.fault) {
            (Ok(explored), None) => {
                states += explored.states;
                println!(
                    "{case:?}: {} states, {} ends, {} steps deep, no promise broken ({seconds:.1} s)",
                    explored.states, explored.ends, explored.depth
                );
            }
            (Err(broken), Some(_)) => {
                println!(
                    "{case:?}: {} ({} steps, {seconds:.1} s)",
                    broken.promise,
                    broken.trace.len() - 1
                );
            }
            (Ok(_), Some(_)) => {
                println!("{case:?}: no promise is broken, so the model would not notice");
                return ExitCode::FAILURE;
            }
            (Err(broken), None) => {
                println!("{case:?}: {}\n{}", broken.promise, broken.trace.join("\n"));
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{states} states in all");
    ExitCode::SUCCESS
}
