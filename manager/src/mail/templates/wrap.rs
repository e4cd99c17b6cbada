//! Plain text in lines that a terminal and a quoting mail program can show.

/// Columns of a line, as mail programs expect them (RFC 5322 §2.1.1 recommends 78).
const COLUMNS: usize = 78;

/// The words of `text` in lines of at most [`COLUMNS`] columns. A word that is longer, such as an
/// address, has a line of its own. Between Chinese characters a line may end anywhere, except
/// before what closes and after what opens.
pub(super) fn wrap(text: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    let mut used = 0;
    for piece in pieces(text) {
        let word = if used == 0 { piece.trim_start() } else { piece };
        if used > 0 && used + columns(word) > COLUMNS {
            let word = word.trim_start();
            used = columns(word);
            lines.push(word.to_owned());
        } else if let Some(line) = lines.last_mut() {
            used += columns(word);
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Where a line may end, the text is cut; the space stands at a piece's beginning.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut begin, mut before) = (0, None);
    for (at, next) in text.char_indices() {
        if before.is_some_and(|before| may_end_between(before, next)) {
            pieces.extend(text.get(begin..at));
            begin = at;
        }
        before = Some(next);
    }
    pieces.extend(text.get(begin..));
    pieces
}

fn may_end_between(before: char, next: char) -> bool {
    if next.is_whitespace() {
        return !before.is_whitespace();
    }
    let closes = "，。、：；！？）」』】》〉’”".contains(next);
    let opens = "（「『【《〈‘“".contains(before);
    (is_wide(before) || is_wide(next)) && !before.is_whitespace() && !closes && !opens
}

/// Chinese, Japanese, Korean and full-width characters fill two columns (Unicode Standard Annex 11).
fn is_wide(character: char) -> bool {
    matches!(character, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}' | '\u{20000}'..='\u{3fffd}')
}

/// Columns that a line fills.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|character| if is_wide(character) { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole_and_lines_within_their_bound() {
        let word = "four ".repeat(40);
        for (text, lines) in [
            ("", vec![""]),
            ("one line", vec!["one line"]),
            (word.trim(), vec![&word[..74], &word[..74], &word[..49]]),
            ("see https://keygate.example/", vec!["see https://keygate.example/"]),
        ] {
            assert_eq!(
                wrap(text).lines().collect::<Vec<_>>(),
                if text.is_empty() { vec![] } else { lines },
                "{text}"
            );
        }
        let address = format!("open https://keygate.example/{} now", "x".repeat(80));
        assert_eq!(wrap(&address).lines().count(), 3);
        let edge = format!("{} {}", "a".repeat(70), "b".repeat(7));
        assert_eq!(wrap(&edge).lines().count(), 1, "78 columns fit");
        assert_eq!(wrap(&format!("{edge}b")).lines().count(), 2, "79 do not");
    }

    #[test]
    fn chinese_breaks_between_characters_but_not_before_a_full_stop() {
        let text = format!("{}。後續", "金".repeat(39));
        let lines: Vec<_> = wrap(&text).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].chars().all(|c| c == '金') && lines[0].chars().count() == 38, "{lines:?}");
        assert_eq!(lines[1], "金。後續");
        assert!(wrap(&"金鑰 API ".repeat(30)).lines().all(|line| columns(line) <= COLUMNS));
    }
}
