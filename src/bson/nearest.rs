//! What was meant by a word that is misspelt.

#![expect(clippy::indexing_slicing, reason = "the row is one longer than the word")]

/// The known word that a misspelt one is closest to, if it is close.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = 1 + word.chars().count() / 3;
    let far = |known: &str| distance(&word.to_lowercase().replace('-', "_"), known);
    known.iter().map(|known| (far(known), *known)).filter(|(far, _)| *far <= limit).min().map(|(_, known)| known)
}

/// The least number of letters to insert, remove or exchange to make one word the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in to.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word() {
        assert_eq!(nearest("lisen", &["upstream", "listen"]), Some("listen"));
        assert_eq!(nearest("bogus", &["upstream", "listen"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
