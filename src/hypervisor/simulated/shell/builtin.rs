//! The commands that simulated guests have.

use std::collections::BTreeMap;
use std::time::Duration;

use super::run::View;

/// Streams of one command.
pub struct Io {
    pub stdin: Vec<u8>,
    /// Whether the standard input is the process's own, so that the rest of it stays for the next.
    pub stdin_is_own: bool,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
}

pub enum Effect {
    Done(i32),
    Sleep(Duration),
    /// `None`: with the status of the command before.
    Exit(Option<i32>),
    Killed(i32),
    ErrExit(bool),
}

pub fn run(
    name: &str,
    arguments: &[String],
    vars: &mut BTreeMap<String, String>,
    folder: &str,
    io: &mut Io,
    view: &mut View<'_>,
) -> Effect {
    let result = match name.rsplit('/').next().unwrap_or(name) {
        "true" | ":" | "cd" | "sync" | "umask" => Ok(0),
        "false" => Ok(1),
        "echo" => {
            let (newline, words) = match arguments.split_first() {
                Some((flag, rest)) if flag == "-n" => ("", rest),
                _ => ("\n", arguments),
            };
            io.out
                .extend_from_slice(format!("{}{newline}", words.join(" ")).as_bytes());
            Ok(0)
        }
        "printf" => printf(arguments, io),
        "cat" => cat(arguments, folder, io, view),
        "head" => head(arguments, folder, io, view),
        "wc" => count(arguments, folder, io, view),
        "read" => Ok(read(arguments, vars, io)),
        "sleep" => match arguments.first().and_then(|span| span.parse().ok()) {
            Some(seconds) => match Duration::try_from_secs_f64(seconds) {
                Ok(pause) => return Effect::Sleep(pause),
                Err(_) => Err(format!("sleep: invalid time interval {seconds}")),
            },
            None => Err("sleep: invalid time interval".into()),
        },
        "exit" => {
            return Effect::Exit(
                arguments
                    .first()
                    .map(|code| code.parse().map_or(2, |code: i32| code & 255)),
            );
        }
        "export" => {
            for (name, value) in arguments.iter().filter_map(|pair| pair.split_once('=')) {
                vars.insert(name.to_owned(), value.to_owned());
            }
            Ok(0)
        }
        "set" => {
            let on = arguments
                .iter()
                .any(|flag| flag.starts_with('-') && flag.contains('e'));
            return Effect::ErrExit(on);
        }
        "[" => match arguments.split_last() {
            Some((close, rest)) if close == "]" => test(rest, folder, view),
            _ => Err("[: missing ]".into()),
        },
        "test" => test(arguments, folder, view),
        "kill" => match (arguments, vars.get("$")) {
            ([signal, pid], Some(own)) if pid == own => match signal_number(signal) {
                Some(signal) => return Effect::Killed(signal),
                None => Err(format!("kill: unknown signal {signal}")),
            },
            _ => Err("kill: only -SIGNAL $$ is simulated".into()),
        },
        // Takes so many MiB of memory and keeps them; not a program that guests have.
        "take-memory" => {
            let mib = arguments.first().and_then(|mib| mib.parse().ok());
            match mib {
                Some(mib) if view.kernel.take_memory(mib, view.now).is_none() => {
                    return Effect::Killed(9);
                }
                Some(_) => Ok(0),
                None => Err("take-memory: how many MiB?".into()),
            }
        }
        "mkdir" => Ok(0),
        "rm" | "touch" => {
            for path in arguments.iter().filter(|word| !word.starts_with('-')) {
                let path = absolute(path, folder);
                if name.ends_with("rm") {
                    view.files.remove(&path);
                    if arguments[0].contains('r') && arguments[0].starts_with('-') {
                        let below = format!("{path}/");
                        view.files.retain(|name, _| !name.starts_with(&below));
                    }
                } else {
                    view.files.entry(path).or_default();
                }
            }
            Ok(0)
        }
        "hostname" => match arguments {
            [] => print(io, &format!("{}\n", view.kernel.host_name)),
            [name, ..] => {
                view.kernel.host_name.clone_from(name);
                Ok(0)
            }
        },
        "date" => date(arguments, io, view),
        "nproc" => print(io, &format!("{}\n", view.kernel.vcpus)),
        "dmesg" => print(io, &view.kernel.log),
        "grep" => grep(arguments, folder, io, view),
        program => {
            if view.tools.contains(program) {
                return Effect::Done(0);
            }
            io.err
                .extend_from_slice(format!("sh: {name}: not found\n").as_bytes());
            return Effect::Done(127);
        }
    };
    Effect::Done(result.unwrap_or_else(|words| {
        io.err.extend_from_slice(format!("{words}\n").as_bytes());
        // As `test` and the shell say it for what they do not understand, and `grep` for files too.
        if matches!(name, "[" | "test" | "grep") {
            2
        } else {
            1
        }
    }))
}

fn print(io: &mut Io, text: &str) -> Result<i32, String> {
    io.out.extend_from_slice(text.as_bytes());
    Ok(0)
}

fn date(arguments: &[String], io: &mut Io, view: &mut View<'_>) -> Result<i32, String> {
    match arguments {
        [format] if format == "+%s" => print(io, &format!("{}\n", view.kernel.clock_s(view.now))),
        [flag, time] if flag == "-s" => {
            let seconds = time.strip_prefix('@').and_then(|time| time.parse().ok());
            let seconds = seconds.ok_or_else(|| format!("date: invalid date '{time}'"))?;
            view.kernel.set_clock(seconds, view.now);
            Ok(0)
        }
        _ => Err("date: only +%s and -s @SECONDS are simulated".into()),
    }
}

fn grep(
    arguments: &[String],
    folder: &str,
    io: &mut Io,
    view: &mut View<'_>,
) -> Result<i32, String> {
    let (flag, rest) = match arguments {
        [flag, rest @ ..] if flag == "-c" || flag == "-q" => (flag.as_str(), rest),
        rest => ("", rest),
    };
    let bytes = match rest {
        [_] => std::mem::take(&mut io.stdin),
        [_, path] => contents(&absolute(path, folder), None, view)
            .map_err(|error| format!("grep: {path}: {error}"))?,
        _ => return Err("grep: only [-c|-q] WORDS [FILE] is simulated".into()),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let found: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(&rest[0]))
        .collect();
    match flag {
        "-c" => print(io, &format!("{}\n", found.len()))?,
        "-q" => 0,
        _ => print(
            io,
            &found
                .iter()
                .map(|line| format!("{line}\n"))
                .collect::<String>(),
        )?,
    };
    Ok(i32::from(found.is_empty()))
}

pub fn absolute(path: &str, folder: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{folder}/{path}")
    }
}

/// A file's bytes, at most as many as asked for.
pub fn contents(
    path: &str,
    at_most: Option<usize>,
    view: &mut View<'_>,
) -> Result<Vec<u8>, String> {
    let missing = || "No such file or directory".to_owned();
    if let Some(disk) = view.devices.get(path) {
        let count = at_most.ok_or("whole disks are not simulated, use head -c")?;
        return view.disks.read_start(disk, count).ok_or_else(missing);
    }
    match (path, at_most) {
        ("/dev/null", _) => Ok(Vec::new()),
        ("/dev/zero", Some(count)) => Ok(vec![0; count]),
        _ => {
            if let Some(mut bytes) = view.kernel.file(path, at_most) {
                bytes.truncate(at_most.unwrap_or(bytes.len()));
                return Ok(bytes);
            }
            let bytes = view.files.get(path).ok_or_else(missing)?;
            Ok(bytes[..at_most.unwrap_or(bytes.len()).min(bytes.len())].to_vec())
        }
    }
}

fn cat(paths: &[String], folder: &str, io: &mut Io, view: &mut View<'_>) -> Result<i32, String> {
    if paths.is_empty() {
        let input = std::mem::take(&mut io.stdin);
        io.out.extend_from_slice(&input);
    }
    let mut status = 0;
    for path in paths {
        if path == "-" {
            let input = std::mem::take(&mut io.stdin);
            io.out.extend_from_slice(&input);
            continue;
        }
        match contents(&absolute(path, folder), None, view) {
            Ok(bytes) => io.out.extend_from_slice(&bytes),
            Err(error) => {
                io.err
                    .extend_from_slice(format!("cat: {path}: {error}\n").as_bytes());
                status = 1;
            }
        }
    }
    Ok(status)
}

fn head(
    arguments: &[String],
    folder: &str,
    io: &mut Io,
    view: &mut View<'_>,
) -> Result<i32, String> {
    let [flag, count, paths @ ..] = arguments else {
        return Err("head: only -c N is simulated".into());
    };
    let count: usize = match (flag.as_str(), count.parse()) {
        ("-c", Ok(count)) => count,
        _ => return Err("head: only -c N is simulated".into()),
    };
    match paths.first() {
        Some(path) => {
            let bytes = contents(&absolute(path, folder), Some(count), view);
            io.out
                .extend_from_slice(&bytes.map_err(|error| format!("head: {path}: {error}"))?);
        }
        None => {
            let rest = io.stdin.split_off(count.min(io.stdin.len()));
            let start = std::mem::replace(&mut io.stdin, rest);
            io.out.extend_from_slice(&start);
        }
    }
    Ok(0)
}

fn count(
    arguments: &[String],
    folder: &str,
    io: &mut Io,
    view: &mut View<'_>,
) -> Result<i32, String> {
    match arguments {
        [flag] if flag == "-c" => {
            let line = format!("{}\n", std::mem::take(&mut io.stdin).len());
            io.out.extend_from_slice(line.as_bytes());
        }
        [flag, path] if flag == "-c" => {
            let bytes = contents(&absolute(path, folder), None, view);
            let size = bytes.map_err(|error| format!("wc: {path}: {error}"))?.len();
            io.out
                .extend_from_slice(format!("{size} {path}\n").as_bytes());
        }
        _ => return Err("wc: only -c is simulated".into()),
    }
    Ok(0)
}

fn read(arguments: &[String], vars: &mut BTreeMap<String, String>, io: &mut Io) -> i32 {
    let end = io.stdin.iter().position(|byte| *byte == b'\n');
    let rest = io
        .stdin
        .split_off(end.map_or(io.stdin.len(), |end| end + 1));
    let line = std::mem::replace(&mut io.stdin, rest);
    let line = String::from_utf8_lossy(&line)
        .trim_end_matches('\n')
        .to_owned();
    if let Some(name) = arguments.iter().find(|word| !word.starts_with('-')) {
        vars.insert(name.clone(), line.trim_matches([' ', '\t']).to_owned());
    }
    i32::from(end.is_none())
}

fn printf(arguments: &[String], io: &mut Io) -> Result<i32, String> {
    let (format, mut arguments) = arguments
        .split_first()
        .ok_or("printf: a format is missing")?;
    loop {
        let before = arguments.len();
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            let mut next = || match arguments.split_first() {
                Some((first, rest)) => {
                    arguments = rest;
                    first.clone()
                }
                None => String::new(),
            };
            let text = match (letter, letter == '%' || letter == '\\') {
                ('%', _) => match letters.next() {
                    Some('s') => next(),
                    Some('d') => Some(next())
                        .filter(|number| !number.is_empty())
                        .unwrap_or("0".into()),
                    Some('%') => "%".into(),
                    other => {
                        return Err(format!(
                            "printf: %{} is not simulated",
                            other.unwrap_or(' ')
                        ));
                    }
                },
                ('\\', _) => match letters.next() {
                    Some('n') => "\n".into(),
                    Some('t') => "\t".into(),
                    Some('\\') => "\\".into(),
                    other => {
                        return Err(format!(
                            "printf: \\{} is not simulated",
                            other.unwrap_or(' ')
                        ));
                    }
                },
                _ => letter.to_string(),
            };
            io.out.extend_from_slice(text.as_bytes());
        }
        // The format is used again as long as there are arguments that it uses up.
        if arguments.is_empty() || arguments.len() == before {
            return Ok(0);
        }
    }
}

fn test(words: &[String], folder: &str, view: &View<'_>) -> Result<i32, String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let truth = match words[..] {
        [] => false,
        ["!", ref rest @ ..] if !rest.is_empty() => {
            let rest: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
            return test(&rest, folder, view).map(|status| i32::from(status == 0));
        }
        [text] => !text.is_empty(),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        ["-e" | "-r", path] => {
            let path = absolute(path, folder);
            view.files.contains_key(&path)
                || view.devices.contains_key(&path)
                || view.kernel.has_file(&path)
        }
        ["-f", path] => view.files.contains_key(&absolute(path, folder)),
        ["-b", path] => view.devices.contains_key(path),
        ["-s", path] => view
            .files
            .get(&absolute(path, folder))
            .is_some_and(|bytes| !bytes.is_empty()),
        [left, "=", right] => left == right,
        [left, "!=", right] => left != right,
        [left, operator, right] => {
            let number = |text: &str| {
                text.trim()
                    .parse::<i64>()
                    .map_err(|_| format!("[: {text}: integer expected"))
            };
            let (left, right) = (number(left)?, number(right)?);
            match operator {
                "-eq" => left == right,
                "-ne" => left != right,
                "-lt" => left < right,
                "-le" => left <= right,
                "-gt" => left > right,
                "-ge" => left >= right,
                _ => return Err(format!("[: {operator} is not simulated")),
            }
        }
        _ => return Err("[: this test is not simulated".into()),
    };
    Ok(i32::from(!truth))
}

fn signal_number(word: &str) -> Option<i32> {
    match word.strip_prefix('-')? {
        "HUP" => Some(1),
        "INT" => Some(2),
        "KILL" => Some(9),
        "SEGV" => Some(11),
        "TERM" => Some(15),
        number => number
            .parse()
            .ok()
            .filter(|signal| (1..=64).contains(signal)),
    }
}
