//! What reaches nodes that nobody has told where the others are, or that were away: real processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "these tests watch real processes in real time")]

#[path = "daemon/process.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod process;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use process::{Daemon, wait};
use serde_json::Value;

/// Names of the events of applications that a node has told.
fn names(node: &Daemon) -> Vec<String> {
    let path = "/api/v1/events?topic=application&since=0";
    let listed = node.call("GET", path, &[("accept", "application/json")], b"");
    let items = listed.json["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| item["data"]["name"].as_str().unwrap_or_default().to_owned();
    items.iter().map(name).collect()
}

fn publish(node: &Daemon, name: &str) -> Value {
    let body = serde_json::json!({ "name": name, "data": { "n": 1 } }).to_string();
    let json = [("content-type", "application/json")];
    let answer = node.call("POST", "/api/v1/events", &json, body.as_bytes());
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json
}

#[test]
fn an_event_reaches_every_node_also_one_that_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let one = Daemon::found(dir.path(), "one");
    let alone = publish(&one, "alone");
    assert_eq!((&alone["held_by"], &alone["at_risk"]), (&1.into(), &false.into()));
    let token = one.make_token(dir.path(), 2);
    let two = Daemon::join(dir.path(), "two", &one, &token);
    let three = Daemon::join(dir.path(), "three", &one, &token);
    let nodes = [&one, &two, &three];
    wait("all hear of all", || {
        let answering = |node: &Daemon| {
            let listed = node.get("/api/v1/nodes").json["items"].as_array().cloned();
            let listed = listed.unwrap_or_default();
            listed.len() == 3 && listed.iter().all(|n| n["answers"] == true)
        };
        nodes.iter().all(|node| answering(node))
    });
    let published = publish(&two, "both/ways");
    assert_eq!((&published["held_by"], &published["at_risk"]), (&2.into(), &false.into()));
    wait("the event is everywhere, and so is the one from before", || {
        nodes.iter().all(|node| names(node).iter().filter(|n| *n == "both/ways").count() == 1)
            && names(&three).contains(&"alone".to_owned())
    });

    three.kill();
    publish(&one, "missed.one");
    publish(&two, "missed.two");
    let three = Daemon::resume(dir.path(), "three");
    wait("it gets what it missed", || {
        let names = names(&three);
        ["missed.one", "missed.two"].iter().all(|name| names.iter().any(|n| n == name))
    });
    let mut all = names(&three);
    all.sort();
    let count = all.len();
    all.dedup();
    assert_eq!(all.len(), count, "nothing comes twice");

    let json = [("content-type", "application/json")];
    for body in ["{}", r#"{"name":"two words"}"#, r#"{"name":"a","more":1}"#, "no"] {
        let answer = one.call("POST", "/api/v1/events", &json, body.as_bytes());
        assert_eq!((answer.status, answer.code()), (400, "INVALID"), "{body}");
    }
    let long = format!(r#"{{"name":"a","data":"{}"}}"#, "x".repeat(40_000));
    let answer = one.call("POST", "/api/v1/events", &json, long.as_bytes());
    assert_eq!((answer.status, answer.code()), (400, "INVALID"));
}

/// Runs a script of bash with the program as its first argument, where no other network is.
fn in_a_network_of_its_own(script: &str, arguments: &[&str], dir: &Path) -> Output {
    Command::new("unshare")
        .args(["--net", "--map-root-user", "bash", "-c", script, "bash"])
        .arg(env!("CARGO_BIN_EXE_bzzz"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// In a network of its own, with one interface that carries multicast.
const LOCAL_NETWORK: &str = r#"
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 10.99.0.1/24 dev v0
ip link set v0 up
ip link set v1 up
nodes=
trap 'kill $nodes; wait' EXIT
until_there() {
    for _ in $(seq 600); do [ -s "$1" ] && return 0; sleep 0.1; done
    echo "$1 does not appear" >&2
    return 1
}
"$1" run --bootstrap-mode --data-dir one --listen 10.99.0.1:4001 --api 127.0.0.1:0 \
    --ready-file one.ready 2> one.log &
nodes="$nodes $!"
until_there one.ready
api=$(sed 's/.*"api":"\([^"]*\)".*/\1/' one.ready)
"$1" --addr "http://$api" --token-file one/api.token join-token create > join.token
"$1" run --data-dir two --listen 10.99.0.1:4002 --api 127.0.0.1:0 --token-file join.token \
    --ready-file two.ready 2> two.log &
nodes="$nodes $!"
until_there two.ready
"$1" --addr "http://$api" --token-file one/api.token node list
"#;

#[test]
fn in_one_local_network_a_join_token_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let output = in_a_network_of_its_own(LOCAL_NETWORK, &[], dir.path());
    let log = std::fs::read_to_string(dir.path().join("two.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{log}", said(&output.stderr));
    let listed = said(&output.stdout);
    assert!(listed.contains("10.99.0.1") && listed.contains("4002"), "{listed}\n{log}");
}

/// In a network of its own: a member that anybody can dial, and two behind routers of their own that translate
/// addresses and let nothing in that was not asked for.
const TWO_HOMES: &str = r#"
set -e
rooms= nodes=
# Without a word `wait` would wait for the rooms.
trap '[ -z "$nodes" ] || { kill $nodes; wait $nodes; }; kill $rooms; wait' EXIT
room() {
    unshare --net sleep 600 &
    rooms="$rooms $!"
    eval "$1=$!"
    until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
}
in_room() {
    local room=$1
    shift
    nsenter --net=/proc/$room/ns/net "$@"
}
until_true() {
    for _ in $(seq 450); do "$@" && return 0; sleep 0.2; done
    echo "it did not come true: $*" >&2
    return 1
}
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
number=1
for side in a b; do
    room router
    room home
    eval "home_$side=$home"
    ip link add out_$side type veth peer name wan netns $router
    ip addr add 11.0.$number.1/24 dev out_$side
    ip link set out_$side up
    in_room $router sh -ec "
        ip link set lo up
        ip addr add 11.0.$number.2/24 dev wan
        ip link set wan up
        ip route add default via 11.0.$number.1
        echo 1 > /proc/sys/net/ipv4/ip_forward
        ip link add lan type veth peer name eth netns $home
        ip addr add 192.168.$number.1/24 dev lan
        ip link set lan up
        nft add table ip home
        nft 'add chain ip home out { type nat hook postrouting priority srcnat; }'
        nft add rule ip home out oifname wan masquerade
        nft 'add chain ip home in { type filter hook input priority filter; policy drop; }'
        nft add rule ip home in iifname lan accept
        nft add rule ip home in ct state established,related accept
    "
    in_room $home sh -ec "
        ip link set lo up
        ip addr add 192.168.$number.2/24 dev eth
        ip link set eth up
        ip route add default via 192.168.$number.1
    "
    number=$((number + 1))
done
"$1" run --bootstrap-mode --data-dir hub --listen 0.0.0.0:4001 --api 127.0.0.1:8080 --ready-file hub.ready 2> hub.log &
nodes="$nodes $!"
until_true [ -s hub.ready ]
"$1" --addr http://127.0.0.1:8080 --token-file hub/api.token join-token create --uses 2 > join.token
number=1
for side in a b; do
    eval "home=\$home_$side"
    nsenter --net=/proc/$home/ns/net "$1" run --data-dir $side --listen 192.168.$number.2:4001 --api 127.0.0.1:8080 \
        --join 11.0.$number.1:4001 --token-file join.token --ready-file $side.ready 2> $side.log &
    nodes="$nodes $!"
    until_true [ -s $side.ready ]
    number=$((number + 1))
done
all_answer() {
    in_room $home_a "$1" --addr http://127.0.0.1:8080 --token-file a/api.token -o json node list > list.json || return 1
    [ "$(grep -o '"answers": *true' list.json | wc -l)" -eq 3 ]
}
until_true all_answer "$1"
metric() {
    eval "local room=\$home_$1"
    in_room $room bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080
        printf "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n" $(cat $1/api.token) >&3
        cat <&3' bash $1 | sed -n "s/^bzzz_network_$2 \([0-9]*\).*/\1/p"
}
echo "circuits $(metric a circuits_total)"
is_direct() {
    [ "$(metric a connections_relayed)" = 0 ] && [ "$(metric b connections_relayed)" = 0 ]
}
until_true is_direct
echo "punched $(($(metric a holes_punched_total) + $(metric b holes_punched_total)))"
all_answer "$1"
is_known() { [ "$(metric a reachability)" = 2 ]; }
until_true is_known
echo "reachability $(metric a reachability)"
"#;

#[test]
fn two_behind_routers_meet_through_a_third_and_then_directly() {
    let dir = tempfile::tempdir().unwrap();
    let output = in_a_network_of_its_own(TWO_HOMES, &[], dir.path());
    let log = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let logs = ["hub.log", "a.log", "b.log"].map(log).join("\n");
    let told = said(&output.stdout);
    assert!(output.status.success(), "{told}\n{}\n{logs}", said(&output.stderr));
    let number = |what: &str| -> u64 {
        let line = told.lines().find_map(|line| line.strip_prefix(what));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
    };
    assert!(number("circuits") > 0 && number("punched") > 0, "{told}\n{logs}");
    assert_eq!(number("reachability"), 2);
}

/// Three members in rooms of their own on one local network, in which they look for each other if
/// the second argument says so; else two of them have one right hint each time. They get other
/// addresses: one of them, two at once, all, all while they are off, and all another kind.
const MOVING: &str = r#"
set -e
program=$1 mdns=$2 rooms= node_one= node_two= node_three=
stop_all() { kill $node_one $node_two $node_three; wait $node_one $node_two $node_three || true; }
trap '[ -z "$node_one" ] || stop_all; kill $rooms; wait' EXIT
room() {
    unshare --net sleep 600 &
    rooms="$rooms $!"
    eval "room_$1=$!"
    until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
}
in_room() {
    eval "local room=\$room_$1"
    shift
    nsenter --net=/proc/$room/ns/net "$@"
}
until_true() {
    for _ in $(seq 450); do "$@" && return 0; sleep 0.1; done
    echo "it did not come true: $*" >&2
    return 1
}
number() { case $1 in one) echo 1 ;; two) echo 2 ;; three) echo 3 ;; esac; }
move() {
    in_room $1 ip addr flush dev eth scope global
    in_room $1 ip addr add $2$(number $1)/$3 dev eth $4
}
start() {
    local name=$1
    shift
    rm -f $name.ready
    eval "local room=\$room_$name"
    nsenter --net=/proc/$room/ns/net "$program" run --data-dir $name --api 127.0.0.1:8080 --set p2p.mdns=$mdns \
        --ready-file $name.ready "$@" 2>> $name.log &
    eval "node_$name=$!"
}
ask() {
    local name=$1
    shift
    in_room $name "$program" --addr http://127.0.0.1:8080 --token-file $name/api.token "$@"
}
all_answer() {
    local name
    for name in one two three; do
        ask $name -o json node list > $name.json 2> /dev/null || return 1
        [ "$(grep -o '"answers": *true' $name.json | wc -l)" -eq 3 ] || return 1
        [ "$(grep -o "$1[0-9]*/tcp" $name.json | sort -u | wc -l)" -eq $2 ] || return 1
    done
}
arrive() {
    local since=$(date +%s%N)
    until_true all_answer $2 $3
    echo "$1: $((($(date +%s%N) - since) / 1000000)) ms"
}
ip link set lo up
ip link add lan type bridge mcast_snooping 0
ip link set lan up
for name in one two three; do
    room $name
    eval "ip link add port_$name type veth peer name eth netns \$room_$name"
    ip link set port_$name master lan up
    in_room $name ip link set lo up
    in_room $name ip link set eth up
    in_room $name ip addr add 10.99.0.$(number $name)/16 dev eth
done
hints=
[ $mdns = true ] || hints="--join 10.99.4.1:4001 --join 10.99.2.1:4001 --join 10.99.3.1:4001 --join [fd99::1]:4001"
start one --bootstrap-mode
until_true [ -s one.ready ]
ask one join-token create --uses 2 > join.token
for name in two three; do
    start $name --join 10.99.0.1:4001 $hints --token-file join.token
    until_true [ -s $name.ready ]
done
until_true all_answer /ip4/10.99.0. 3
move three 10.99.1. 16
arrive "one of three" /ip4/10.99.1. 1
for name in one two; do move $name 10.99.4. 16; done
arrive "two of three" /ip4/10.99.4. 2
for name in one two three; do move $name 10.99.2. 16; done
arrive "all" /ip4/10.99.2. 3
stop_all
for name in one two three; do move $name 10.99.3. 16; done
start one --bootstrap-mode
for name in two three; do start $name --join 10.99.0.1:4001 $hints --token-file join.token; done
arrive "all, while they were off" /ip4/10.99.3. 3
for name in one two three; do move $name fd99:: 64 nodad; done
arrive "all, to IPv6" /ip6/fd99:: 3
"#;

fn members_that_move_find_each_other_again(look_around: bool) {
    let dir = tempfile::tempdir().unwrap();
    let output = in_a_network_of_its_own(MOVING, &[&look_around.to_string()], dir.path());
    let log = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let logs = ["one.log", "two.log", "three.log"].map(log).join("\n");
    let told = said(&output.stdout);
    assert!(output.status.success(), "{told}\n{}\n{logs}", said(&output.stderr));
    println!("seconds until all answer, looking around: {look_around}\n{told}");
}

#[test]
fn members_that_move_find_each_other_again_in_the_local_network() {
    members_that_move_find_each_other_again(true);
}

#[test]
fn members_that_move_find_each_other_again_by_one_right_hint() {
    members_that_move_find_each_other_again(false);
}
