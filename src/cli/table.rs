//! Rows for people, in columns.

/// The rows below their titles, each column as wide as its longest cell. What could command the terminal is replaced:
/// some of what is shown was written by strangers.
pub(super) fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let clean = |cell: &str| cell.replace(|ch: char| ch.is_control(), "\u{fffd}");
    let mut all = vec![titles.map(str::to_uppercase)];
    all.extend(rows.iter().map(|row| row.each_ref().map(|cell| clean(cell))));
    let widths: [usize; N] =
        std::array::from_fn(|at| all.iter().map(|row| row[at].chars().count()).max().unwrap_or_default());
    let mut text = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_straight_and_cells_harmless() {
        let rows = [["ä".into(), "b".into()], ["long one".into(), "\x1b[2Jx".into()]];
        assert_eq!(table(["a", "b"], &rows), "A         B\nä         b\nlong one  \u{fffd}[2Jx\n");
    }
}
