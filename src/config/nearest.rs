//! "Did you mean": finds the name that somebody probably wanted to write.

/// The candidate that is closest to `word`, if one is close enough.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = word.trim().to_lowercase().chars().collect();
    // A longer word is longer than every known name, so comparing it would only cost time.
    if wanted.is_empty() || wanted.len() > 64 {
        return None;
    }
    let most = (wanted.len() / 3).clamp(1, 3);
    let scored = candidates.into_iter().filter_map(|candidate| {
        let plain: Vec<char> = candidate.to_lowercase().chars().collect();
        // A zone may be given by its city alone, such as "Madrid".
        let last: Vec<char> = plain.rsplit(|&c| c == '/').next().unwrap_or_default().to_vec();
        let whole = distance(&wanted, &plain);
        let part =
            if last.len() < plain.len() && !wanted.contains(&'/') { distance(&wanted, &last) } else { usize::MAX };
        let score = whole.min(part);
        (score <= most).then_some((score, candidate.len(), candidate))
    });
    scored.min().map(|(_, _, candidate)| candidate)
}

/// The sentence for an error, or an empty text.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"))
}

/// How many letters are wrong, missing, too many, or in the wrong order (two swapped neighbours
/// count as one).
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, &to) in b.iter().enumerate() {
            let mut cost = (rows[i][j] + usize::from(from != to)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                cost = cost.min(rows[i - 1][j - 1] + 1);
            }
            row[j + 1] = cost;
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_right_is_found_and_what_is_not_is_not() {
        let zones = ["Europe/Madrid", "Europe/Malta", "Europe/London", "America/New_York", "UTC"];
        for (word, meant) in [
            ("Europe/Madird", "Europe/Madrid"),
            ("europe/madrid", "Europe/Madrid"),
            ("Europe/Mardrid", "Europe/Madrid"),
            ("Madrid", "Europe/Madrid"),
            ("london", "Europe/London"),
            ("America/NewYork", "America/New_York"),
            ("America/New York", "America/New_York"),
            ("UCT", "UTC"),
        ] {
            assert_eq!(nearest(word, zones), Some(meant), "{word}");
        }
        for word in ["", "Mars/Olympus", "+01:00", "x", &"a".repeat(1000)] {
            assert_eq!(nearest(word, zones), None, "{word}");
        }
        let keys = ["linger", "min_interval", "retry_max", "batch_max"];
        assert_eq!(did_you_mean("batchmax", keys), "; did you mean \"batch_max\"?");
        assert_eq!(did_you_mean("lingre", keys), "; did you mean \"linger\"?");
        assert_eq!(did_you_mean("colour", keys), "");
    }
}
