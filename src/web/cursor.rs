//! Where the next page of a list begins: opaque to callers, so that it may change its shape.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::refusal::Refusal;
use crate::api::Page;

/// Most things of one page.
pub const MOST: i64 = 1000;

/// How many things a page is to have.
pub fn limit(asked: Option<i64>) -> i64 {
    asked.unwrap_or(100).clamp(1, MOST)
}

/// The key after which a list named `list` goes on; `start` without a cursor.
pub fn read(list: &str, cursor: Option<&str>, start: &str) -> Result<String, Refusal> {
    let Some(cursor) = cursor else {
        return Ok(start.to_owned());
    };
    let text = URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| Some(text.strip_prefix(list)?.strip_prefix('\n')?.to_owned()))
        .ok_or_else(|| {
            Refusal::mistake(
                "the cursor is not one of this list; take the `next` of its last page, or none",
            )
        })
}

/// The same for lists by number.
pub fn read_number(list: &str, cursor: Option<&str>, start: i64) -> Result<i64, Refusal> {
    let text = read(list, cursor, &start.to_string())?;
    text.parse()
        .map_err(|_| Refusal::mistake("the cursor is not one of this list"))
}

/// A page of `found`, which was read with one more than `limit` to see whether there is a next.
pub fn page<T, V>(
    list: &str,
    mut found: Vec<T>,
    limit: i64,
    key: impl Fn(&T) -> String,
    view: impl Fn(&T) -> V,
) -> Page<V> {
    let limit = usize::try_from(limit).unwrap_or(1);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| more)
        .map(|last| URL_SAFE_NO_PAD.encode(format!("{list}\n{}", key(last))));
    Page {
        items: found.iter().map(view).collect(),
        next,
    }
}

/// The same of a list that is at hand whole, in the order of its keys, which tell all things apart.
pub fn cut<T, V>(
    list: &str,
    mut all: Vec<T>,
    limit: Option<i64>,
    cursor: Option<&str>,
    key: impl Fn(&T) -> String,
    view: impl Fn(&T) -> V,
) -> Result<Page<V>, Refusal> {
    let limit = self::limit(limit);
    let after = read(list, cursor, "")?;
    all.sort_by_cached_key(&key);
    let rest = all.into_iter().filter(|one| key(one) > after);
    let found = rest.take(usize::try_from(limit + 1).unwrap_or(1)).collect();
    Ok(page(list, found, limit, key, view))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_at_hand_is_cut_in_the_order_of_its_keys() {
        let names = ["c", "a", "d", "b"];
        let cut = |cursor: Option<&str>| {
            let key = |name: &&str| (*name).to_owned();
            cut("names", names.to_vec(), Some(3), cursor, key, |name| *name).unwrap()
        };
        let first = cut(None);
        assert_eq!(first.items, ["a", "b", "c"]);
        let second = cut(first.next.as_deref());
        assert_eq!((second.items, second.next), (vec!["d"], None));
    }

    #[test]
    fn pages_follow_each_other_and_cursors_stay_with_their_list() {
        let all: Vec<i64> = (1..=5).collect();
        let mut after = 0;
        let mut seen = Vec::new();
        loop {
            let found: Vec<i64> = all.iter().copied().filter(|n| *n > after).take(3).collect();
            let page = page("numbers", found, 2, ToString::to_string, |n| *n);
            seen.extend(page.items);
            let Some(next) = page.next else { break };
            after = read_number("numbers", Some(&next), 0).unwrap();
            assert!(read("others", Some(&next), "").is_err());
        }
        assert_eq!(seen, all);
        assert!(read("numbers", Some("%%"), "").is_err());
        assert_eq!(read_number("numbers", None, 7).unwrap(), 7);
    }
}
