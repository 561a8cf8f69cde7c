//! The simulated shell against this host's shells: the same text, the same output and exit code.

use std::process::Command;
use std::time::Duration;

use crate::fixture::simulated;

const TEXTS: &[&str] = &[
    "echo a  b 'c  d' \"e  f\" # comment",
    "x='1 2'; echo $x \"$x\" ${x} pre${x}post",
    "x=; echo a $x b \"$x\" c; echo \"${x:-default}\" ${y:-other}",
    "echo -n no newline",
    "echo one; echo two >&2; echo three 2>&1",
    "false || echo or; true && echo and; false && echo no || echo yes",
    "true || echo no && echo yes; false && echo no; echo $?",
    "! false && echo negated; ! true; echo $?",
    "if false; then echo 1; elif true; then echo 2; else echo 3; fi",
    "if false; then echo 1; fi; echo $?",
    "if [ a = a ] && [ a != b ]; then echo equal; fi",
    "n=0; while [ $n -lt 5 ]; do n=$((n + 1)); if [ $n -eq 2 ]; then continue; fi; [ $n -gt 3 ] && break; echo $n; done; echo end $n",
    "n=3; until [ $n -le 0 ]; do echo $n; n=$((n-1)); done",
    "while true; do while true; do break; done; echo once; break; done",
    "echo $((2 + 3 * 4 - (1 + 1) * 2)) $((7 / 2)) $((7 % 4)) $((-3 + 1))",
    "x=5; echo $((x * 2)) $(($x + 1)) \"sum $((x+x))\"",
    "printf '%s\\n' a b c; printf '%s=%d;' x 1 y 2; printf '100%%\\t.\\n'",
    "printf plain; printf '%s' ''; printf '[%s]' \"a b\"",
    "echo text > f; cat f; echo more >> f; cat f f; cat < f; cat no-such-file; echo $?",
    "printf 12345 > f; head -c 3 f; head -c 99 f; wc -c < f",
    "printf 'l1\\nl2\\n' > f; read -r x < f; echo \"$x\"; read -r y < /dev/null; echo $? \"$y\"",
    "[ -n x ] && [ -z '' ] && echo ok; [ '' ]; echo $?; [ x ]; echo $?; test 3 -ge 3; echo $?",
    "touch f; [ -e f ] && [ -f f ] && echo there; [ -s f ] || echo empty; rm -f f; [ -e f ] || echo gone",
    "set -e; false || true; if false; then :; fi; echo reached; false; echo not reached",
    "set -e; ! true; echo reached; false && true; echo reached too; (exit 3)",
    "exit 300",
    "exit",
    "false; exit",
    "(echo subshell)",
    "no-such-command-anywhere",
    "no-such-command-anywhere || echo $?",
    "x=a\\ b; printf %s \"$x\" \\$x '\\n' \"\\$x \\\\\"",
    "echo a;echo b\necho c \\\n d",
    "echo \"a\nb\"",
    "X=outer; echo \"$X\"; X=inner; echo ${X}",
    "export A=1 B='2 3'; echo \"$A $B\"",
    "kill -TERM $$; echo not reached",
    "if true then echo; fi",
    "echo 'open",
    "echo ${x",
    ": > f && cat f && echo \"empty $?\"",
    "head -c 5 /dev/zero | cat",
    "cat /dev/null; echo $?; echo x > /dev/null; echo $?",
    "echo '#not a comment' a#b # comment",
    "printf 'ab\\nb\\nc\\n' > f; grep -c b f; grep -q c f && echo yes; grep b < f; grep z f; echo $?; grep x no-such-file; echo $?",
    "echo ~ > /dev/null; echo \"it's\" 'say \"hi\"'",
];

/// What the simulation declines, with a syntax error instead of another behaviour.
const DECLINED: &[&str] = &[
    "(echo subshell)",
    "head -c 5 /dev/zero | cat",
    "set -e; ! true; echo reached; false && true; echo reached too; (exit 3)",
];

#[tokio::test]
async fn the_simulated_shell_does_what_shells_do() {
    let fixture = simulated();
    for text in TEXTS {
        let guest = fixture.fresh().await;
        let here = guest
            .run(&["/bin/sh", "-c", text], b"", Duration::from_secs(5))
            .await
            .unwrap();
        if DECLINED.contains(text) {
            assert_eq!((here.exit_code, &here.out[..]), (2, &b""[..]), "{text}");
            assert!(
                String::from_utf8_lossy(&here.err).contains("not simulated"),
                "{text}"
            );
            continue;
        }
        for shell in [&["dash"][..], &["busybox", "sh"]] {
            let folder = tempfile::tempdir().unwrap();
            let command = Command::new(shell[0])
                .args(&shell[1..])
                .args(["-c", text])
                .current_dir(&folder)
                .output();
            let Ok(there) = command else { continue };
            use std::os::unix::process::ExitStatusExt as _;
            let code = there
                .status
                .code()
                .or(there.status.signal().map(|signal| 128 + signal))
                .unwrap();
            let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(
                (here.exit_code, words(&here.out)),
                (code, words(&there.stdout)),
                "{shell:?}: {text}"
            );
            assert_eq!(
                here.err.is_empty(),
                there.stderr.is_empty() || text.starts_with("kill"),
                "{shell:?}: {text}"
            );
        }
    }
}
