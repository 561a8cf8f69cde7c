//! The shell of simulated guests: a documented subset of `/bin/sh`, enough for job scripts that are
//! to behave the same here and in a real guest.
//!
//! * Words: `'…'`, `"…"`, `\c`, `$NAME`, `${NAME}`, `${NAME:-word}`, `$?`, `$$`, `$((…))` with
//!   `+ - * / %` and parentheses. Unquoted variables are split at blanks. Comments.
//! * Lists: `;`, newline, `&&`, `||`, `!`, `if … then … elif … else … fi`,
//!   `while …; do … done`, `until …; do … done`, `break`, `continue`.
//! * Redirection of simple commands: `> F`, `>> F`, `< F`, `2> F`, `2>> F`, `>&2`, `2>&1`.
//! * Commands: `:` `true` `false` `echo [-n]` `printf` (`%s %d %%`, `\n \t \\`) `cat` `head -c N`
//!   `wc -c` `read [-r] NAME` `sleep` `exit` `export` `set -e` `test` and `[` (`= != -n -z -e -f -s
//!   -b -eq -ne -lt -le -gt -ge`) `kill -SIGNAL $$` `mkdir -p` `rm -f` `touch` `cd` `sync` `sh`
//!   `hostname [NAME]` `date +%s` `date -s @SECONDS` `nproc` `dmesg` `grep [-c|-q] WORDS [FILE]` (no
//!   patterns).
//! * Files: a map from path to bytes; folders are not checked. `/dev/null`, `/dev/zero` (for `head`),
//!   and attached disks, whose start can be written with `>` and read with `head -c N`; the files of
//!   the kernel ([`Kernel`](super::kernel::Kernel)), such as `/proc/meminfo`.
//!
//! No pipes, no command substitution, no functions, no background jobs: those are reported as a
//! syntax error, exit code 2. Any other command is `not found`, exit code 127; in short commands of the
//! agent the world's tools end with 0 and do nothing.
//!
//! [`parse`] makes a flat list of steps with jumps, so that [`run`] can stop in the middle of a
//! loop's `sleep` and go on when somebody looks again.

pub mod builtin;
pub mod lex;
pub mod parse;
pub mod run;
pub mod word;

pub use run::{Process, View};
