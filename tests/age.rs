//! Files encrypted here open with the stock `age` tool, and the other way round.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CHUNK: usize = 64 * 1024;
/// Nothing, around the size of a chunk, and many chunks.
const LENGTHS: [usize; 5] = [0, CHUNK - 1, CHUNK, CHUNK + 1, 10 * 1024 * 1024];
const RECIPIENTS: [usize; 3] = [1, 5, 20];

fn bzzz() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bzzz"));
    command.arg("crypto");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {stderr}");
    output
}

struct Keys {
    files: Vec<PathBuf>,
    recipients: Vec<String>,
}

/// Key pairs, every second one made by the stock tool.
fn keys(directory: &Path, count: usize) -> Keys {
    let mut keys = Keys { files: Vec::new(), recipients: Vec::new() };
    for number in 0..count {
        let file = directory.join(format!("key-{number}"));
        match number % 2 {
            0 => drop(run(bzzz().arg("keygen").arg(&file))),
            _ => drop(run(Command::new("age-keygen").arg("-o").arg(&file))),
        }
        let public = run(Command::new("age-keygen").arg("-y").arg(&file)).stdout;
        keys.recipients.push(String::from_utf8(public).unwrap().trim().to_owned());
        keys.files.push(file);
    }
    keys
}

fn plain(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 251) as u8).collect()
}

fn with_recipients(mut command: Command, recipients: &[String]) -> Command {
    for recipient in recipients {
        command.args(["-r", recipient]);
    }
    command
}

#[test]
fn files_pass_between_here_and_the_stock_tool() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let keys = keys(directory.path(), 20);
    for (count, length) in RECIPIENTS.into_iter().flat_map(|c| LENGTHS.map(|length| (c, length))) {
        let clear = at("clear");
        std::fs::write(&clear, plain(length)).unwrap();
        let recipients = &keys.recipients[..count];
        let last = &keys.files[count - 1];
        for armor in [false, true] {
            let armor_flag: &[&str] = if armor { &["--armor"] } else { &[] };
            let (ours, theirs) = (at("ours.age"), at("theirs.age"));
            run(with_recipients(
                {
                    let mut c = bzzz();
                    c.arg("encrypt");
                    c
                },
                recipients,
            )
            .args(armor_flag)
            .arg("--to")
            .arg(&ours)
            .arg(&clear));
            let opened = run(Command::new("age").arg("-d").arg("-i").arg(last).arg(&ours)).stdout;
            assert!(opened == plain(length), "ours, {count} recipients, {length} bytes");

            run(with_recipients(Command::new("age"), recipients)
                .args(armor_flag)
                .arg("-o")
                .arg(&theirs)
                .arg(&clear));
            let opened = run(bzzz().arg("decrypt").arg("-i").arg(last).arg(&theirs)).stdout;
            assert!(opened == plain(length), "theirs, {count} recipients, {length} bytes");
            std::fs::remove_file(&ours).unwrap();
            std::fs::remove_file(&theirs).unwrap();
        }
    }
}

#[test]
fn streams_pass_through_and_failures_leave_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let keys = keys(directory.path(), 2);
    std::fs::write(at("recipients"), format!("# us\n{}\n", keys.recipients.join("\n"))).unwrap();
    let mut encrypt = bzzz();
    encrypt.arg("encrypt").arg("-R").arg(at("recipients"));
    let sealed = pipe(&mut encrypt, b"through pipes");
    assert!(sealed.status.success());
    std::fs::write(at("sealed"), &sealed.stdout).unwrap();
    let mut decrypt = bzzz();
    decrypt.arg("decrypt").arg("-i").arg(&keys.files[1]);
    assert_eq!(pipe(&mut decrypt, &sealed.stdout).stdout, b"through pipes");

    let other = at("other");
    run(bzzz().arg("keygen").arg(&other));
    let fails = |command: &mut Command, code: i32, says: &str| {
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    };
    let to = at("out");
    let decrypt = |identity: &Path, input: &Path| {
        let mut command = bzzz();
        command.arg("decrypt").arg("-i").arg(identity).arg(input).arg("--to").arg(&to);
        command
    };
    fails(&mut decrypt(&other, &at("sealed")), 4, "encrypted to others");
    let cut = &sealed.stdout[..sealed.stdout.len() - 1];
    std::fs::write(at("cut"), cut).unwrap();
    fails(&mut decrypt(&keys.files[0], &at("cut")), 1, "damaged");
    assert!(!to.exists());
    fails(bzzz().arg("keygen").arg(&other), 5, "exists already");
    fails(&mut decrypt(&keys.files[0], &at("missing")), 2, "cannot read");
    fails(bzzz().arg("encrypt").stdin(Stdio::null()), 2, "--recipient age1");
    let key = &keys.files[0];
    fails(bzzz().args(["decrypt", "-i"]).arg(key).stdin(Stdio::null()), 1, "the input is empty");
    fails(&mut decrypt(key, key), 1, "it is an age private key");
    fails(&mut decrypt(&at("sealed"), &at("sealed")), 2, "is itself encrypted");
    fails(bzzz().args(["decrypt", "-i", "-"]).stdin(Stdio::null()), 2, "to be read twice");
    fails(
        bzzz().args(["encrypt", "-r", "ssh-rsa AAAA"]).stdin(Stdio::null()),
        2,
        "an SSH public key",
    );
    let secret = std::fs::read_to_string(key).unwrap();
    let secret = secret.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let output = bzzz().args(["decrypt", "-i", secret]).arg(at("sealed")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(!String::from_utf8_lossy(&output.stderr).contains(secret), "it was repeated");
    fails(bzzz().args(["encrypt", "-r", "age1x"]).stdin(Stdio::null()), 2, "not an age recipient");
    run(&mut decrypt(&keys.files[0], &at("sealed")));
    assert_eq!(std::fs::read(&to).unwrap(), b"through pipes");
    fails(&mut decrypt(&keys.files[0], &at("sealed")), 5, "exists already");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&to).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let parts = std::fs::read_dir(directory.path()).unwrap();
    assert!(parts.filter_map(Result::ok).all(|e| !e.path().to_string_lossy().ends_with(".part")));
}

fn pipe(command: &mut Command, input: &[u8]) -> Output {
    use std::io::Write as _;
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}
