//! What is allowed where: the tables behind the rules.

/// Directories with Rust code of ours.
pub const RUST_DIRS: &[&str] = &["src", "simulations", "tests", "benches"];
/// Lines of code in a file, without blank lines, comments and tests.
pub const FILE_LINES_MAX: usize = 600;
/// Lines from the `fn` of a function to the brace that ends it.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Which layers of src/ a layer may name as `crate::<layer>`.
pub const LAYERS: &[(&str, &str)] = &[
    ("types", "types"),
    ("crypto", "types crypto"),
    ("messages", "types messages"),
    ("core", "types crypto messages core"),
    ("ports", "types crypto messages core ports"),
    ("consensus", "types crypto messages core ports consensus"),
    ("actors", "types crypto messages core ports consensus actors"),
    ("supervisors", "types crypto messages core ports consensus actors supervisors"),
    ("node", "types crypto messages core ports consensus actors supervisors node"),
    ("services", "types crypto messages core ports consensus actors node services"),
    // What a port passes on from core it re-exports; adapters know no more of core than that.
    ("adapters", "types crypto messages ports adapters"),
    ("http", "types crypto messages core ports consensus actors node services adapters http"),
    ("config", "types crypto messages core config"),
    (
        "daemon",
        "types crypto messages core ports consensus actors node services adapters http config daemon",
    ),
    ("cli", "types crypto messages core ports actors adapters http config daemon cli"),
    ("main", ANY),
    ("lib", ANY),
    ("simulations", ANY),
];
/// Stands for every layer.
pub const ANY: &str = "*";
/// Layers without async, without I/O and without libraries that do either.
pub const PURE: &str = "types crypto messages core ports";
/// Layers that run in the simulator, too.
pub const SIMULATED: &str =
    "types crypto messages core ports consensus actors supervisors node services";

/// Layers whose every step follows from a seed.
pub const SEEDED: &str =
    "types crypto messages core ports consensus actors supervisors node services simulations";

/// Names that some layers must not use.
pub struct Ban {
    /// The layers.
    pub layers: &'static str,
    /// Consecutive segments of a path. `name` also means the macro `name!`; `name!` only that.
    pub names: &'static [&'static str],
    /// Longer names that are fine.
    pub but: &'static [&'static str],
    /// Files that may.
    pub except: &'static [&'static str],
    /// What to do instead.
    pub instead: &'static str,
}

pub const BANS: &[Ban] = &[
    Ban {
        layers: PURE,
        names: &["tokio", "ractor", "openraft", "libp2p", "futures", "futures_util"],
        but: &[],
        except: &[],
        instead: "put it into actors/, consensus/ or adapters/; this layer is synchronous",
    },
    Ban {
        layers: PURE,
        names: &["async", "await"],
        but: &[],
        except: &[],
        instead: "return an effect and take the answer as a message",
    },
    Ban {
        layers: SIMULATED,
        names: &["time::Instant", "time::*", "SystemTime", "chrono"],
        but: &[],
        except: &[],
        instead: "use ctx.now and ctx.wall, or ports::Clock",
    },
    Ban {
        layers: SIMULATED,
        names: &["std::fs", "std::process", "std::env", "tokio::fs", "tokio::process"],
        but: &[],
        except: &[],
        instead: "go through a port",
    },
    Ban {
        layers: SIMULATED,
        names: &["std::net", "tokio::net"],
        but: &[
            "std::net::IpAddr",
            "std::net::Ipv4Addr",
            "std::net::Ipv6Addr",
            "std::net::SocketAddr",
        ],
        except: &[],
        instead: "addresses are fine; connections go through ports::Network",
    },
    Ban {
        layers: SIMULATED,
        names: &["std::thread", "thread::spawn", "thread::sleep", "spawn_blocking", "spawn_local"],
        but: &[],
        except: &[],
        instead: "use an actor; blocking work belongs inside an adapter",
    },
    Ban {
        layers: SIMULATED,
        names: &["tokio::spawn", "task::spawn", "task::*"],
        but: &[],
        except: &["src/consensus/runtime.rs"],
        instead: "use an actor; consensus/ spawns through its runtime",
    },
    Ban {
        layers: SEEDED,
        names: &[
            "rand::rng",
            "rand::random",
            "rngs::OsRng",
            "rngs::SysRng",
            "OsRng",
            "getrandom",
            "new_v4",
        ],
        but: &[],
        except: &[],
        instead: "draw from ctx.rng, or seed a generator from ports::Entropy",
    },
    Ban {
        layers: SEEDED,
        names: &["thread_rng"],
        but: &[],
        // openraft's trait has a method of that name; ours draws from the node's seed.
        except: &["src/consensus/runtime.rs"],
        instead: "draw from ctx.rng, or seed a generator from ports::Entropy",
    },
    Ban {
        layers: SEEDED,
        names: &["HashMap", "HashSet", "RandomState"],
        but: &[],
        except: &[],
        instead: "use a BTreeMap or BTreeSet; the order of a hash map differs from run to run",
    },
    Ban {
        layers: SIMULATED,
        names: &["select!", "tokio::select", "select_biased", "futures::select"],
        but: &[],
        except: &[],
        instead: "let each source cast to one mailbox; select! draws its order at random",
    },
    Ban {
        layers: SIMULATED,
        names: &["sync::watch", "sync::*", "StreamMap", "JoinSet", "FuturesUnordered"],
        but: &["std::sync::*"],
        except: &[],
        instead: "cast to subscribers that are kept in a BTreeMap",
    },
    Ban {
        layers: SIMULATED,
        names: &[
            "ractor::registry",
            "ractor::pg",
            "ractor::factory",
            "ractor::*",
            "OutputPort",
            "where_is",
        ],
        but: &[],
        except: &[],
        instead: "use the node's Directory; these are global to the process",
    },
    Ban {
        layers: SIMULATED,
        names: &["get_children", "stop_children", "stop_children_and_wait"],
        but: &[],
        except: &[],
        instead: "use the supervisor's own ordered list; ractor keeps children in a hash map",
    },
];

/// Machines, and the folder of each below src/core: what it is told is said there, and by nobody else. Others call a
/// function of its module, or tell news.
pub const MACHINES: &[(&str, &str)] = &[
    ("control", "control"),
    ("coordinator", "records"),
    ("copier", "records"),
    ("election", "election"),
    ("front", "front"),
    ("gossip", "gossip"),
    ("join", "join"),
    ("joiner", "join"),
    ("keys", "keys"),
    ("orchestrator", "orchestrator"),
    ("peers", "peers"),
    ("replica", "records"),
];
/// Files that name what a machine is told although they are not of its folder, and why they may.
pub const TELLS: &[(&str, &str)] = &[
    ("src/actors/driver.rs", "it brings what a port was asked for"),
    ("src/actors/network.rs", "it brings what the network tells"),
    ("src/node.rs", "it stops a node, and brings what can't be sent yet"),
    ("src/supervisors/supervisor.rs", "it tells everybody which actor has failed"),
    (
        "src/node/tree.rs",
        "it brings what consensus tells, and has a leader resign whose services give up",
    ),
];

/// Where the routes of the API are.
pub const ROUTES: &str = "src/http/routes/";
/// What routes may name of http/.
pub const FOR_ROUTES: &[&str] = &[
    "answer", "api", "app", "call", "codes", "media", "params", "problem", "route", "schema",
    "server",
];

/// Macros that must not be left behind.
pub const LEFT_BEHIND: &[&str] = &["todo!", "unimplemented!", "dbg!"];
/// Words that must not be left behind. Split, so that this file does not contain them.
pub const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Words that no file of the project may contain, split likewise. A path counts where it begins.
pub const FORBIDDEN: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/root", "/.cargo"), concat!("..", "/shared")];

/// Lock files: what stands before the place that a package comes from, and what may follow.
pub const LOCK_FILES: &[(&str, &str, &str)] = &[
    ("Cargo.lock", "source = \"", "registry+https://github.com/rust-lang/crates.io-index\""),
    ("package-lock.json", "\"resolved\": \"", "https://registry.npmjs.org/"),
];

/// Crates that the simulator must not even be able to name.
pub const OUTSIDE_SIMULATOR: &[&str] =
    &["libp2p", "yamux", "fjall", "russh", "warp", "hyper", "rustls"];
