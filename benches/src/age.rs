//! age files in memory, beside the library that ours builds on, as it comes.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bzzz::adapters::age::{Opener, Pool, Sealer, generate};
use bzzz::crypto::{Identity, Recipient};

use crate::Fallible;
use crate::report::{Table, median};

const SIZES: [(&str, usize); 4] =
    [("1 KB", 1_000), ("10 KB", 10_000), ("100 KB", 100_000), ("1 MB", 1_000_000)];
/// Files of each size that are encrypted in one round. Fewer than the pool keeps pairs for, so that
/// none is made on the spot and none is made meanwhile.
const FILES: usize = 200;
/// Pairs that have to be there before a round.
const PAIRS_WANTED: usize = 500;

/// Microseconds that each of some runs took.
fn times<T>(count: usize, mut run: impl FnMut() -> Fallible<T>) -> Fallible<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        std::hint::black_box(run()?);
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// One holder of a key, for us and for the library.
struct Holder {
    ours: Identity,
    theirs: age_library::x25519::Identity,
}

impl Holder {
    fn new() -> Fallible<Self> {
        let ours = generate();
        let text = ours.reveal();
        let theirs = text.parse().map_err(|error: &str| error.to_owned())?;
        Ok(Self { ours, theirs })
    }
}

fn stock_encrypt(holders: &[Holder], plain: &[u8]) -> Fallible<Vec<u8>> {
    let recipients: Vec<_> = holders.iter().map(|holder| holder.theirs.to_public()).collect();
    let recipients = recipients.iter().map(|recipient| recipient as &dyn age_library::Recipient);
    let mut writer = age_library::Encryptor::with_recipients(recipients)?
        .wrap_output(Vec::with_capacity(plain.len() + 1_024))?;
    writer.write_all(plain)?;
    Ok(writer.finish()?)
}

fn stock_decrypt(holder: &Holder, file: &[u8]) -> Fallible<Vec<u8>> {
    let identity: &dyn age_library::Identity = &holder.theirs;
    let mut plain = Vec::with_capacity(file.len());
    let decryptor = age_library::Decryptor::new_buffered(file)?;
    decryptor.decrypt(std::iter::once(identity))?.read_to_end(&mut plain)?;
    Ok(plain)
}

/// A pool that has just been filled up, so that it makes no pair while a round is measured.
fn full_pool(recipients: &[Recipient]) -> Fallible<Arc<Pool>> {
    let pool = Arc::new(Pool::start()?);
    pool.keep(recipients.iter().copied());
    while recipients.iter().any(|recipient| pool.ready(*recipient) < PAIRS_WANTED) {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(pool)
}

/// Measures encryption, decryption and the generation of keys.
pub fn measure(rounds: u8) -> Fallible<Table> {
    let mut table = Table::new("age crate");
    let holders: Vec<Holder> = (0..5).map(|_| Holder::new()).collect::<Result<_, _>>()?;
    let recipients = Opener::new(holders.iter().map(|holder| &holder.ours)).recipients();
    for count in [1, 5] {
        for (name, len) in SIZES {
            let plain = vec![b'x'; len];
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let sealer = Sealer::new(full_pool(&recipients)?);
                ours.extend(times(FILES, || Ok(sealer.seal(&recipients[..count], &plain)?))?);
                theirs.extend(times(FILES, || stock_encrypt(&holders[..count], &plain))?);
            }
            let name = format!("encrypt {name} to {count}, us");
            table.add(&name, median(ours), Some(median(theirs)));
        }
    }
    let opener = Opener::new([&holders[0].ours]);
    for (name, len) in SIZES {
        let file = stock_encrypt(&holders[..1], &vec![b'x'; len])?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.extend(times(FILES, || Ok(opener.open(&file, len)?))?);
            theirs.extend(times(FILES, || stock_decrypt(&holders[0], &file))?);
        }
        table.add(&format!("decrypt {name}, us"), median(ours), Some(median(theirs)));
    }
    let ours = times(FILES, || Ok(Opener::new([&generate()]).recipients()))?;
    let theirs = times(FILES, || Ok(age_library::x25519::Identity::generate().to_public()))?;
    table.add("generate a key pair, us", median(ours), Some(median(theirs)));
    Ok(table)
}
