//! What `run show` draws.

use super::super::sample::{at, held};
use super::*;

#[test]
fn the_first_lines_answer_why_it_is_where_it_is() {
    insta::assert_snapshot!(render(&held(), at(60), Paint::Plain), @r"
    run 7: held for 1m05s
      device    box-1 (client lab)
      chain     hello v3
      persona   web@2: rule shop\u{1b}[2J
      retries   1
      doing     is held: exit: code 3: \u{1b}[31mno disk\u{9b}2J
      deadline  in 59m00s (2027-01-15 13:00:00.000Z)
      next      is given up and cleaned away when the hold ends
      you can   greenroom run retry 7
                greenroom run logs 7

    STAGE  KIND           STATE      TRIES  ELAPSED  EXPECTED  ENGINE  MACHINE              UUID                                  IN→OUT
    facts  configuration  succeeded  1      12.3s    11.0s     clone   gr-7-facts-1 (gone)  0190a000-0000-7000-8000-000000000001  582967534d0f→762069bc07a6
    disk   configuration  failed     2      12.3s    -         clone   -                    -                                     582967534d0f→…

    STAGE  TRY  MEMORY   EXPECTED  USED  VCPUS  EXPECTED  PEAK  MEAN  DISK     NET  WORK  EXPECTED  BY
    facts  1    512 MiB  -         86.2  1      -         97 %  41 %  6.0 MiB  0 B  0.0s  -         -

    AT                        EVENT         MESSAGE
    2027-01-15 12:00:01.000Z  stage_failed  disk: \u{1b}]0;owned\u{7}
    ");
}

#[test]
fn nothing_a_guest_said_reaches_the_terminal_as_a_command() {
    let drawn = render(&held(), at(60), Paint::Plain);
    assert!(
        drawn.chars().all(|c| c == '\n' || !c.is_control()),
        "{drawn:?}"
    );
}
