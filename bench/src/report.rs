//! The report: a table for people, lines of JSON for programs.

use crate::Result;
use crate::figure::Summary;

/// The heads of the table's columns.
const HEADS: [&str; 7] = ["figure", "ours", "other", "ratio", "min..max", "target", "met"];

/// Prints the figures as a table.
pub(crate) fn print_table(figures: &[Summary]) {
    let rows: Vec<[String; 7]> = figures.iter().map(row).collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    print_row(&HEADS.map(str::to_owned), &widths);
    print_row(&widths.map(|width| "-".repeat(width)), &widths);
    for row in &rows {
        print_row(row, &widths);
    }
}

fn print_row(row: &[String; 7], widths: &[usize; 7]) {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
        .collect();
    println!("| {} |", cells.join(" | "));
}

fn row(figure: &Summary) -> [String; 7] {
    let noise = match figure.noisy_rounds {
        0 => String::new(),
        noisy => format!(" ({noisy} of {} rounds noisy)", figure.rounds),
    };
    let met = match figure.met {
        None => "",
        Some(true) => "yes",
        Some(false) => "NO",
    };
    [
        figure.name.clone(),
        format!("{} {}", number(figure.ours), figure.unit),
        format!("{} {}", number(figure.other), figure.unit),
        number(figure.ratio),
        format!("{}..{}{noise}", number(figure.ratio_min), number(figure.ratio_max)),
        figure.target.clone(),
        met.to_owned(),
    ]
}

/// Three significant digits, or all of the whole ones.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// Prints the figures, one JSON object a line.
pub(crate) fn print_json(figures: &[Summary]) -> Result<()> {
    for figure in figures {
        println!("{}", serde_json::to_string(figure)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_three_digits_that_say_something() {
        assert_eq!([0.1234, 1.234, 12.34, 1234.5].map(number), ["0.123", "1.23", "12.3", "1234"]);
    }
}
