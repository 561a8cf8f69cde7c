//! What `run show` draws.

use super::super::sample::{at, held};
use super::*;

#[test]
fn the_first_lines_answer_why_it_is_where_it_is() {
    insta::assert_snapshot!(render(&held(), at(60), Paint::Plain));
}

#[test]
fn nothing_a_guest_said_reaches_the_terminal_as_a_command() {
    let drawn = render(&held(), at(60), Paint::Plain);
    assert!(
        drawn.chars().all(|c| c == '\n' || !c.is_control()),
        "{drawn:?}"
    );
}
